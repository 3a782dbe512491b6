"""The direction of imports: a room takes only from the rooms below it, and no two modules take from each other."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "legit_embedding"

FLOORS = [
    {"errors", "encoding", "progress"},
    {"wire", "models.config", "settings"},
    {"redis_io"},
    {"config"},
    {"prep"},
    {"models"},
    {"engine", "prep_processes"},
    {"remote"},
    {"sinks", "dead_letter"},  # the sink buries what no stream takes, and a burial is an answer
    {"pipeline"},
    {"sources", "telemetry"},
    {"process"},
    {"task", "broker", "pool", "control", "entrypoint", "celery"},  # the Celery side: Celery finds them by name
    {"preparation", "embedding"},
    {"cli", "migration", "profiles"},
]
"""From the ground up. What stands on one floor may take from each other, as long as no modules make a circle."""


@cache
def imports() -> dict[str, set[str]]:
    """Every module with the modules of the package that it names, also for types and within functions."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = module_name(path)
        found[name] = {each for node in ast.walk(ast.parse(path.read_text())) for each in named(node)} - {name}
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def named(node: ast.AST) -> set[str]:
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("legit_embedding"):
        return set()
    base = (node.module or "").removeprefix("legit_embedding").lstrip(".")
    modules = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
    return {each if exists(each) else base for each in modules} - {""}


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def floor_of(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if module in rooms:
            return number
    room = module.split(".", maxsplit=1)[0]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_its_floor() -> None:
    rooms = {module.split(".")[0] for module in imports()} - {""}
    assert {room for room in rooms if not any(room in floor for floor in FLOORS)} == set()


def test_no_import_runs_up() -> None:
    up = {
        f"{module} takes from {other}"
        for module, others in imports().items()
        for other in others
        if module and floor_of(module) < floor_of(other)
    }
    assert up == set()


def test_no_circle() -> None:
    """Of imports that run when a module is loaded, and of all others."""
    done: set[str] = set()

    def circle(module: str, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if module in path:
            return (*path[path.index(module) :], module)
        if module in done:
            return None
        for other in sorted(imports().get(module, ())):
            if found := circle(other, (*path, module)):
                return found
        done.add(module)
        return None

    circles = {found for module in sorted(imports()) if (found := circle(module, ()))}
    assert circles == set()


def test_the_architecture_shows_the_floors() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| .+ \| (\d+) \| .*\|$", page, re.MULTILINE)
    shown: dict[int, set[str]] = {}
    for packages, floor in rows:
        shown.setdefault(int(floor), set()).update(re.findall(r"`(\w+)(?:\.py|/)`", packages))
    # `models.config` is a part of a package that stands higher.
    assert shown == {number: rooms - {"models.config"} for number, rooms in enumerate(FLOORS)}
