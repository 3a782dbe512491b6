"""The operator's command line: ``legit-embedding``.

Each command is a click command in the module that ``COMMANDS`` names, under the command's own name. It is imported only
when it is called.
"""

from __future__ import annotations

import click

from legit_embedding import __version__
from legit_embedding.cli.shared.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "init": LazyCommand("legit_embedding.cli.setup.init", "Write a settings file and Celery profiles, to be edited."),
    "serve": LazyCommand(
        "legit_embedding.cli.workers.serve", "Embed over HTTP alone, without Celery and without Redis."
    ),
    "health": LazyCommand(
        "legit_embedding.cli.workers.health", "Check whether a worker is well, for a person or a container's probe."
    ),
    "top": LazyCommand(
        "legit_embedding.cli.workers.top", "The workers at work: items a second, depths, batches, and when all is done."
    ),
    "streams": LazyCommand(
        "legit_embedding.cli.streams.command",
        "Show the streams: their length, who works on them, and when they will be empty.",
    ),
    "dead": LazyCommand(
        "legit_embedding.cli.dead.command", "The tasks that could not be delivered: look, bring back, throw away."
    ),
    "submit": LazyCommand(
        "legit_embedding.cli.submit.command",
        "Put the tasks of a JSONL file, or a folder of images, into the task stream.",
    ),
    "embed": LazyCommand(
        "legit_embedding.cli.embed.command", "A folder of images, or the tasks of a JSONL file, to a file of vectors."
    ),
    "search": LazyCommand(
        "legit_embedding.cli.search.command", "The nearest vectors of such a file to a text or an image."
    ),
    "tail": LazyCommand("legit_embedding.cli.results.tail", "Read results, with their vectors decoded."),
    "settings": LazyCommand(
        "legit_embedding.cli.setup.settings", "The settings in force, and where each of them was set."
    ),
    "plan": LazyCommand(
        "legit_embedding.cli.workers.plan", "Measure the models on the device, and show how large their batches may be."
    ),
    "devices": LazyCommand(
        "legit_embedding.cli.workers.devices", "The GPUs of this host, and the command that starts a worker on each."
    ),
    "doctor": LazyCommand(
        "legit_embedding.migration.commands.doctor", "Check a deployment before the switch, and say what to mend."
    ),
    "cutover": LazyCommand(
        "legit_embedding.migration.commands.cutover",
        "Move tasks from the old fleet to the new worker, share by share, and back.",
    ),
    "compare": LazyCommand(
        "legit_embedding.migration.commands.compare", "Compare two sets of results, vector by vector."
    ),
    "handoff": LazyCommand(
        "legit_embedding.migration.commands.handoff",
        "The tensors that old prep workers left in the hand-off directory: look, sweep.",
    ),
}

EPILOG = """Settings come from legit.toml (or the file in LEGIT_CONFIG) and LEGIT_ variables, as the worker's do.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted."""


@click.group(
    "legit-embedding",
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, package_name="legit-embedding")
def main() -> None:
    """Inspect and manage embedding workers and their streams."""


__all__ = ["COMMANDS", "main"]
