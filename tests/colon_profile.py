"""A profile whose priority lists are named with a colon, as queues of other tools are."""

from celeryconfig.gpubatch import *  # noqa: F403 - a profile is its names

broker_transport_options = {"sep": ":"}
