"""The dead letter: tasks that could not be delivered, with the reason."""
