"""The operator's command line: ``legit-embedding``.

Each command lives in the module of its name, as a click command of that name, and is imported when it is called. To
add one, add a line to ``COMMANDS``.
"""

from __future__ import annotations

import click

from legit_embedding import __version__
from legit_embedding.cli.shared.lazy import LazyGroup

COMMANDS = {
    "health": "Whether a worker is well: for a person, or a container's probe.",
    "top": "The workers at work: items a second, depths, batches, and when all is done.",
    "streams": "How long the streams are, who works on them, and when they will be empty.",
    "dead": "The tasks that could not be delivered: look, bring back, throw away.",
    "submit": "Put the tasks of a JSONL file, or a folder of images, into the task stream.",
    "tail": "Read results, with their vectors decoded.",
    "plan": "Measure the models on the device, and show how large their batches may be.",
    "devices": "The GPUs of this host, and the command that starts a worker on each.",
    "doctor": "Check a deployment before the switch, and say what to mend.",
    "cutover": "Move tasks from the old fleet to the new worker, share by share, and back.",
    "compare": "Whether two sets of results agree, vector by vector.",
    "handoff": "The tensors that old prep workers left in the hand-off directory: look, sweep.",
}

EPILOG = """Settings come from legit.toml (or the file in LEGIT_CONFIG) and LEGIT_ variables, as the worker's do.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted."""


@click.group(
    "legit-embedding",
    cls=LazyGroup,
    package=__name__,
    commands_help=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, package_name="legit-embedding")
def main() -> None:
    """Look after embedding workers and their streams."""


__all__ = ["COMMANDS", "main"]
