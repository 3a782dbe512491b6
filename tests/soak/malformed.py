"""Entries that no worker can embed, and some that it just can: what a broken or a hostile producer may send."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fields = dict[bytes, bytes]

NOT_A_STREAM = "embedding_results:text"
"""A key that the allow-list has room for and that holds something else."""

CONTROLS = ("\0", "\r\n", "\x1b[2J", "\x7f", "\u2028", "\u202e", "\ud800", "\t")
REPLIES = ("embedding_tasks", "embedding_tasks:dead", "elsewhere", NOT_A_STREAM, "embedding_results:other", " ")
FIELDS = ("task_id", "kind", "model", "text", "reply_to", "app", "metadata", "deadline", "return_embedding")
WRONG: tuple[object, ...] = (None, True, 0, -1, 2**70, 1.5, "", " ", "soon", [], ["x"], {}, {"x": {}}, "null", '"x"')
NO_JSON = ("", "{", "}", "[]", "null", "nan", "17", '"', '"x"', "{'text': 'x'}", '{"text": NaN}', '{"a": 1} {', "\\")
DEEP = 50_000


def malformed(seed: int, count: int) -> Iterator[Fields]:
    """So many entries, always the same for a seed."""
    draw = random.Random(seed)
    for number in range(count):
        fields = draw.choice(MAKERS)(draw, f"bad-{seed}-{number}")
        yield {_wire(name): _wire(value) for name, value in fields.items()}


def _wire(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


def _missing(draw: random.Random, name: str) -> dict[str, str | bytes]:
    whole = {"task_id": name, "text": "x", "kind": "text", "image_b64": "eA==", "colour": "red"}
    kept = draw.sample(sorted(whole), draw.randint(1, 3))
    return {field: whole[field] for field in kept}


def _wrong_type(draw: random.Random, name: str) -> dict[str, str | bytes]:
    task = {"task_id": name, "text": "x"} | {field: draw.choice(WRONG) for field in draw.sample(FIELDS, 2)}
    return {"payload": json.dumps(task)}


def _wrong_text(draw: random.Random, name: str) -> dict[str, str | bytes]:
    task = {field: json.dumps(draw.choice(WRONG)) for field in draw.sample(FIELDS, 3)}
    return {"task_id": name, "text": "x"} | task


def _no_json(draw: random.Random, name: str) -> dict[str, str | bytes]:
    deep = draw.choice(("[" * DEEP, '{"metadata":' * DEEP, f'{{"text": "x", "metadata": {{"n": {"9" * DEEP}}}}}'))
    return {"payload": draw.choice((*NO_JSON, deep)), "task_id": name}


def _no_utf8(draw: random.Random, name: str) -> dict[str, str | bytes]:
    broken = draw.choice((b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", draw.randbytes(40)))
    field = draw.choice((*FIELDS, "payload", "image_b64", "image_url"))
    return {"task_id": name, "text": "x", field: broken, draw.choice(("colour", "\udcff")): broken}


def _huge(draw: random.Random, name: str) -> dict[str, str | bytes]:
    field = draw.choice((*FIELDS, "payload", "image_b64", "image_url", "colour"))
    fields = {str(number): "x" for number in range(draw.choice((0, 5000)))}
    return fields | {"task_id": name, "text": "x", field: draw.choice("x1[{\\\0") * draw.randint(1000, 1_000_000)}


def _bad_reply(draw: random.Random, name: str) -> dict[str, str | bytes]:
    at = draw.choice(("embedding_results", "embedding_results:"))
    control = draw.choice(CONTROLS)
    return {"task_id": name, "text": "x", "reply_to": draw.choice((at + control, control + at, at + control + "x"))}


def _wrong_target(draw: random.Random, name: str) -> dict[str, str | bytes]:
    return {"task_id": name, "text": "x", "reply_to": draw.choice(REPLIES), "app": draw.choice(("", "shop", "\n"))}


def _bad_content(draw: random.Random, name: str) -> dict[str, str | bytes]:
    field, value = draw.choice(
        (
            ("image_b64", "no base64!"),
            ("image_url", "file:///etc/passwd"),
            ("image_url", "http://127.0.0.1:1/x"),
            ("image_url", "http://[::1"),
            ("image_path", "/etc/passwd"),
            ("image_path", "../\0"),
        )
    )
    return {"task_id": name, "model": draw.choice(("", "image", "null", "no-such-model")), field: value}


MAKERS: tuple[Callable[[random.Random, str], dict[str, str | bytes]], ...] = (
    _missing,
    _wrong_type,
    _wrong_text,
    _no_json,
    _no_utf8,
    _huge,
    _bad_reply,
    _wrong_target,
    _bad_content,
)
