"""The Celery application: ``celery -A legit_embedding worker --pool=gpubatch``."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from celery import Celery

from legit_embedding.config import get_settings
from legit_embedding.errors import ConfigError
from legit_embedding.redis_io.celery_settings import celery_settings, need_no_cluster

if TYPE_CHECKING:
    from celery.app.utils import Settings

CONFIG_MODULE_VARIABLE = "CELERY_CONFIG_MODULE"
OPERATORS_CONFIG_MODULE = "celeryconfig"
DEFAULT_CONFIG_MODULE = "legit_embedding.profiles"
MERGED = frozenset({"broker_transport_options", "result_backend_transport_options"})
WORKER_STEPS = (
    "legit_embedding.pool.prep_only_step:PrepOnlyStep",
    "legit_embedding.pool.stream_step:StreamStep",
    "legit_embedding.pool.suitable:SuitablePool",
)


def _defaults() -> dict[str, Any]:
    return {
        "task_default_queue": "embedding",
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # A worker survives an outage of its broker: it logs the outage, waits and continues.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }


def _config_module() -> str:
    """The profile in use: the module named in the environment, an importable ``celeryconfig``, or the package's own."""
    named = os.environ.get(CONFIG_MODULE_VARIABLE)
    if named:
        return named
    return OPERATORS_CONFIG_MODULE if importlib.util.find_spec(OPERATORS_CONFIG_MODULE) else DEFAULT_CONFIG_MODULE


def make_app() -> Celery:
    """Make the application with the settings of this process.

    Raises:
        ConfigError: a setting is invalid.
    """
    # Not set as the current application, since the tasks may be imported beside another application.
    app = Celery(
        "legit_embedding",
        set_as_current=False,
        include=["legit_embedding.preparation", "legit_embedding.embedding"],
    )
    app.steps["worker"].update(WORKER_STEPS)
    app.config_from_object(_config_module())
    address = get_settings().redis

    def put_below_the_profile(source: Settings, **_: object) -> None:
        ours = celery_settings(address, source)
        # The profile's options for our broker are merged, and must not hide options that the address needs.
        for name in MERGED & ours.keys():
            source[name] = ours.pop(name)
        defaults = _defaults() | ours
        source.maps.insert(-1, defaults)  # above Celery's own; `add_defaults` would put them above the profile's too

    app.on_after_configure.connect(put_below_the_profile, weak=False)
    if address.is_cluster:
        need_no_cluster(app.conf)
    return app


try:
    app = make_app()
except ConfigError as error:
    # The celery command prints a traceback for any other exception.
    reason = f"legit_embedding: {error}"
    raise SystemExit(reason) from None
