"""The corpus, the accounting and the table of the peers' benchmark."""

from __future__ import annotations

from collections import Counter

from benchmarks.peers import corpus
from benchmarks.peers.accounting import Answer, Tally, percentile
from benchmarks.peers.environments import REQUIREMENTS
from benchmarks.peers.peers import OURS, PEERS, PROTOTYPES, code_lines
from benchmarks.peers.table import markdown


def test_the_corpus_is_the_same_for_the_same_seed_only():
    assert corpus.mixed_texts(50, 1) == corpus.mixed_texts(50, 1) != corpus.mixed_texts(50, 2)
    assert corpus.equal_texts(50, 1) == corpus.equal_texts(50, 1) != corpus.equal_texts(50, 2)


def test_mixed_texts_have_1_to_200_words_as_many_of_each_order_of_magnitude():
    lengths = [len(text.split()) for text in corpus.mixed_texts(4000, 0)]
    assert (min(lengths), max(lengths)) == (1, 200)
    halves = Counter(length * length <= 200 for length in lengths)
    assert 0.47 < halves[True] / 4000 < 0.53


def test_equal_texts_are_equally_long():
    assert {len(text.split()) for text in corpus.equal_texts(50, 0, 40)} == {40}


def test_the_photos_are_jpegs_that_are_the_same_for_the_same_seed_only(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    first, again, other = (
        [path.read_bytes() for path in corpus.photo_files(3, seed, folder)]
        for seed, folder in zip((1, 1, 2), folders, strict=True)
    )
    assert first == again != other
    assert all(data.startswith(b"\xff\xd8\xff") for data in first)


def test_lost_and_doubled():
    tally = Tally(frozenset("abcd"))
    assert tally.add([Answer("a", 1.0, "x"), Answer("b", 2.0, "y"), Answer("stranger", 3.0, "z")]) == 2
    assert tally.add([Answer("a", 4.0, "x"), Answer("a", 5.0, "x")]) == 2
    assert (tally.answered, tally.lost, tally.doubled, tally.complete) == (2, 2, 2, False)
    assert sorted(tally.latencies({"a": 0.5, "b": 0.5})) == [0.5, 1.5]
    tally.add([Answer("c", 6.0, ""), Answer("d", 6.0, "")])
    assert (tally.lost, tally.doubled, tally.complete) == (0, 2, True)


def test_a_percentile_is_one_of_the_values():
    assert [percentile([4.0, 1.0, 3.0, 2.0], percent) for percent in (50, 99)] == [2.0, 4.0]


def test_glue_is_counted_without_comments_and_docstrings():
    source = '"""One.\n\nMore.\n"""\n\nimport os\n\n# why\nx = 1  # kept\n"""Of x."""\n'
    assert code_lines(source) == 2


def test_every_peer_has_its_files_and_pins():
    for peer in PEERS:
        assert peer.glue_lines() > 0
        if peer.environment != OURS:
            pins = (REQUIREMENTS / f"{peer.environment}.txt").read_text().splitlines()
            assert all("==" in pin for pin in pins)
            assert any(pin.startswith(f"{peer.package}==") for pin in pins)
        if peer.command[0].endswith(".py"):
            assert (PROTOTYPES / peer.command[0]).is_file()


def test_the_markdown_has_the_rows_and_the_conditions():
    written = {"rows": [{"": "one", "texts/s": "7.0"}], "summary": {"load average before": "0.1", "turns": 3}}
    assert markdown(written).splitlines() == [
        "|  | texts/s |",
        "|---|---|",
        "| one | 7.0 |",
        "",
        "load average before: 0.1; turns: 3.",
    ]
