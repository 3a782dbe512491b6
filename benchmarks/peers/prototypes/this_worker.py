"""The profile of this worker: its usual one, and a visibility timeout that a benchmark can wait for."""

import os

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

broker_transport_options = {"visibility_timeout": int(os.environ["PEER_VISIBILITY_S"])}
