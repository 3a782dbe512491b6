from __future__ import annotations

import pytest

from legit_embedding.redis_io.slots import beside, hash_tag, share_a_slot, slot


# The numbers are Redis 7.0's answers to CLUSTER KEYSLOT.
@pytest.mark.parametrize(
    ("key", "number", "tag"),
    [
        ("123456789", 12739, ""),
        ("a", 15495, ""),
        (b"a", 15495, None),
        ("{a}x", 15495, "{a}"),
        ("x{}a", 11725, ""),
        ("{{a}x", 10276, "{{a}"),
        ("ä{b}c{d}", 3300, "{b}"),
        ("\udcff", 7920, ""),
    ],
)
def test_a_key_has_the_slot_that_the_server_says(key, number, tag):
    assert slot(key) == number
    if tag is not None:
        assert hash_tag(key) == tag


@pytest.mark.parametrize("stream", ["tasks:{a}", "{{a}tasks", "ä{b}c{d}"])
def test_a_key_beside_a_stream_is_in_its_slot_whatever_its_own_name_has(stream):
    assert share_a_slot([stream, beside("embedding:written:", stream) + "{z}"])


def test_without_a_tag_a_key_is_what_it_was():
    assert beside("embedding:written:", "embedding_tasks") == "embedding:written:"
    assert not share_a_slot(["embedding_tasks", "embedding:written:1"])
