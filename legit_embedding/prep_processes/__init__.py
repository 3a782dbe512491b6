"""Child processes that decode and tokenise for the prep threads: ``prep.processes``."""
