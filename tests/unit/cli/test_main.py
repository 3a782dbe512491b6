from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from legit_embedding.cli import COMMANDS, main
from tests.servers import free_port
from tests.unit.cli.invoking import Cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_names_every_command() -> None:
    result = run_python("-m", "legit_embedding.cli", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: legit-embedding ")
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_registered_command_is_there_and_says_what_it_does(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: legit-embedding {command} ")
    assert "\\" not in result.output, "click's escape for a paragraph to be left as it is was not understood"


def test_an_unknown_command_is_wrong_usage() -> None:
    assert "No such command 'strams'" in Cli().failure("strams", code=2)


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    heavy = "{'torch', 'transformers', 'open_clip', 'numpy', 'redis', 'rich', 'pydantic', 'pyarrow'}"
    code = f"import sys, legit_embedding.cli; print(sorted({heavy} & set(sys.modules)))"
    assert run_python("-c", code).stdout.strip() == "[]"


def test_no_command_imports_torch_to_explain_itself() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from legit_embedding.cli import COMMANDS, main\n"
        "for command in COMMANDS: CliRunner().invoke(main, [command, '--help'])\n"
        "print(sorted({'torch', 'transformers', 'open_clip', 'pyarrow'} & set(sys.modules)))"
    )
    assert run_python("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"STREAMS__GRUOP": "x"},
            "LEGIT_STREAMS__GRUOP: there is no setting 'streams.gruop'; did you mean LEGIT_STREAMS__GROUP?",
        ),
        ({"NOTHING": "x"}, "LEGIT_NOTHING: there is no setting 'nothing'"),
        ({"CONFIG": "absent.toml"}, "LEGIT_CONFIG: there is no file 'absent.toml'"),
    ],
)
def test_a_bad_setting_is_one_line(settings: dict[str, str], expected: str) -> None:
    assert Cli().failure("streams", **settings) == expected


@pytest.mark.parametrize("command", [("streams",), ("dead", "list"), ("tail",), ("submit", "-")])
def test_an_absent_server_is_one_line_without_the_password(command: tuple[str, ...]) -> None:
    port = free_port()
    failure = Cli(REDIS_URL=f"redis://operator:secret@127.0.0.1:{port}/0").failure(*command)
    assert failure.startswith("Redis: ")
    assert f"127.0.0.1:{port}" in failure
    assert "secret" not in failure


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sec/ret@127.0.0.1:6379",
        "redis://:12/secret@127.0.0.1:6379",
        "redis://:sec#ret@127.0.0.1:6379",
        "redis://:sec?ret@127.0.0.1:6379",
        "redis://:secret@127.0.0.1:port",
        "redis://:secret@127.0.0.1:6379?no_such_option=secret",
        "http://:secret@127.0.0.1:6379",
        "secret",
    ],
)
def test_a_bad_address_is_one_line_that_repeats_none_of_it(url: str) -> None:
    failure = Cli(REDIS_URL=url).failure("streams")
    assert failure.startswith("LEGIT_REDIS_URL: redis_url: ")
    assert "sec" not in failure
    assert "ret" not in failure


def test_a_bug_is_not_dressed_up_as_an_operators_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("legit_embedding.cli.streams.command.load_settings", broken)
    with pytest.raises(KeyError):
        Cli()("streams")
