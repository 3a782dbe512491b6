"""The default profile on a broker whose failover may leave messages with nobody: they come back within seconds."""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

broker_transport_options = {
    "visibility_timeout": 5,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
