"""Commands about the settings of a deployment."""
