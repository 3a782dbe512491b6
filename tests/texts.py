"""Real sentences: the Python language reference, which every interpreter carries."""

from __future__ import annotations

import re
from pydoc_data.topics import topics

_SENTENCE = re.compile(r"[A-Z][^.`*|]{40,250}\.(?=\s)")


def words() -> list[str]:
    """The reference's words, in order."""
    return " ".join(topics[name] for name in sorted(topics)).split()


def texts(count: int, shortest: int = 1, longest: int = 400) -> list[str]:
    """Texts of `shortest` to `longest` words in no order, as many of each order of magnitude."""
    source = words()
    chosen, start = [], 0
    for number in range(count):
        length = round(shortest * (longest / shortest) ** ((number * 7919 % count) / max(1, count - 1)))
        chosen.append(" ".join(source[start : start + length]))
        start = (start + length) % (len(source) - longest)
    return chosen
