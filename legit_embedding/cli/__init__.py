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
    "serve": LazyCommand("legit_embedding.cli.workers.serve", "Serve embeddings over HTTP, without Celery or Redis."),
    "health": LazyCommand("legit_embedding.cli.workers.health", "Check whether a worker is healthy."),
    "top": LazyCommand(
        "legit_embedding.cli.workers.top", "Watch the workers: throughput, queue depths, and time to completion."
    ),
    "backlog": LazyCommand(
        "legit_embedding.cli.workers.backlog", "The tasks that are not finished, and how many workers to have for them."
    ),
    "streams": LazyCommand(
        "legit_embedding.cli.streams.command", "Show the streams: length, consumers, and time until empty."
    ),
    "dead": LazyCommand(
        "legit_embedding.cli.dead.command", "Inspect, requeue or delete tasks that could not be delivered."
    ),
    "submit": LazyCommand(
        "legit_embedding.cli.submit.command", "Send a JSONL file or a folder of images to the task stream."
    ),
    "embed": LazyCommand(
        "legit_embedding.cli.embed.command", "Embed a folder of images or a JSONL file into a file of vectors."
    ),
    "search": LazyCommand("legit_embedding.cli.search.command", "Find the nearest vectors to a text or an image."),
    "tail": LazyCommand("legit_embedding.cli.results.tail", "Read results, with their vectors decoded."),
    "settings": LazyCommand(
        "legit_embedding.cli.setup.settings", "Show the settings in force, and where each was set."
    ),
    "plan": LazyCommand(
        "legit_embedding.cli.workers.plan", "Measure the models, and show how large their batches will be."
    ),
    "devices": LazyCommand(
        "legit_embedding.cli.workers.devices", "List the GPUs, and the command that starts a worker on each."
    ),
    "doctor": LazyCommand("legit_embedding.migration.commands.doctor", "Check a deployment before the cutover."),
    "cutover": LazyCommand(
        "legit_embedding.migration.commands.cutover", "Move tasks from the old fleet to the new worker, and back."
    ),
    "compare": LazyCommand(
        "legit_embedding.migration.commands.compare", "Compare two sets of results, vector by vector."
    ),
    "handoff": LazyCommand(
        "legit_embedding.migration.commands.handoff", "List and sweep the tensors that old prep workers left behind."
    ),
}

EPILOG = """Settings come from legit.toml (or the file in LEGIT_CONFIG) and LEGIT_ variables, like the worker's.

Exit codes: 0 done, 1 failed, with the reason in one line on stderr, 2 wrong usage, 130 interrupted."""


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
