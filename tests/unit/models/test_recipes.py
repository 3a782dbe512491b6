from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram

from legit_embedding.errors import TaskError
from legit_embedding.models import recipes
from legit_embedding.models.recipes import CHARACTERS_PER_TOKEN, MARGIN, ImageRecipe, TextRecipe
from tests.texts import texts, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIMIT = 32


class Spy:
    """A tokenizer that remembers how much it was given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode_batch_fast(self, batch: Sequence[str]) -> Any:
        self.characters += sum(map(len, batch))
        return self._tokenizer.encode_batch_fast(batch)


@pytest.fixture(scope="module")
def tokenizers(minilm: Path) -> dict[str, str]:
    """One of each kind in use: WordPiece, byte-level BPE as in RoBERTa, Unigram as in XLM-RoBERTa or T5."""
    corpus = texts(300)
    special = ["<s>", "</s>", "<unk>"]
    frame = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])

    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    bpe.post_processor = frame

    unigram = Tokenizer(Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram_trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(corpus, unigram_trainer)
    unigram.post_processor = frame

    wordpiece = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    return {"wordpiece": wordpiece.to_str(), "bpe": bpe.to_str(), "unigram": unigram.to_str()}


def made(serialized: str, limit: int = LIMIT, **settings: Any) -> TextRecipe:
    usual: dict[str, Any] = {"truncate": True, "keep_end": False, "vocabulary": 30522, "blank": 0}
    return TextRecipe(Tokenizer.from_str(serialized), limit, **(usual | settings))


def reference(serialized: str, limit: int = LIMIT, direction: str = "right") -> Tokenizer:
    """The tokenizer's own truncation of the whole text."""
    tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=limit, direction=direction)
    return tokenizer


def awkward_texts(seed: int) -> list[str]:
    """Long texts of every kind of length, script and repetition."""
    chance = random.Random(seed)
    source = words()
    alphabets = ["abc", "aA1 ", " \t\n", "日本語のテキスト", "é\u0301\u0300e", "👩‍👩‍👧🏽", "-._/", "aàáâ  ", "ﬁﬃ①"]
    found = ["", " ", "\n\t", "[MASK] [SEP] <s> </s>" * 400, "a" * 90 + " " + "b" * 150, "x" * 99 + " y " * 4000]
    for _ in range(25):
        length = int(10 ** chance.uniform(1, 4.7))
        alphabet = chance.choice(alphabets)
        found.append("".join(chance.choice(alphabet) for _ in range(length)))
        found.append(" ".join(chance.choices(source, k=length // 6)))
        found.append("".join(chance.choice(source) + chance.choice(["", " ", "   "]) for _ in range(length // 6)))
    return found


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("name", ["wordpiece", "bpe", "unigram"])
def test_a_long_text_has_the_tokens_that_the_tokenizer_itself_would_leave(
    tokenizers: dict[str, str], name: str, direction: str
) -> None:
    batch = awkward_texts(seed=len(name))
    cut = made(tokenizers[name], keep_end=direction == "left").texts(batch)
    for text, item, encoding in zip(
        batch, cut, reference(tokenizers[name], direction=direction).encode_batch(batch), strict=True
    ):
        assert item.array.tolist() == encoding.ids, text[:80]
        assert item.cost == len(item.array) <= LIMIT
        assert item.truncated is bool(encoding.overflowing)
        assert item.array.dtype == np.int64


def test_only_a_window_of_a_huge_text_is_read(tokenizers: dict[str, str]) -> None:
    huge = "The quick brown fox jumps over the lazy dog. " * 700_000
    spy = Spy(Tokenizer.from_str(tokenizers["wordpiece"]))
    recipe = TextRecipe(spy, LIMIT, truncate=True, keep_end=False, vocabulary=30522, blank=0)  # type: ignore[arg-type]
    item = recipe.texts([huge])[0]
    assert spy.characters == CHARACTERS_PER_TOKEN * (LIMIT + MARGIN)
    assert item.truncated
    assert item.array.tolist() == reference(tokenizers["wordpiece"]).encode(huge[:10_000]).ids


def test_a_window_grows_until_the_text_has_tokens(tokenizers: dict[str, str]) -> None:
    text = " " * 50_000 + "hello world"
    assert made(tokenizers["wordpiece"]).texts([text, "hello world"])[0].array.tolist() == [101, 7592, 2088, 102]


def test_a_text_without_tokens_is_given_up_somewhere_and_marked(
    tokenizers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipes.LONGEST_WINDOW >= 1_000_000
    monkeypatch.setattr(recipes, "LONGEST_WINDOW", 1 << 16)
    text = " " * (5 << 16) + "hello"
    item = made(tokenizers["wordpiece"]).texts([text])[0]
    assert item.array.tolist() == [101, 102]
    assert item.truncated
    assert made(tokenizers["wordpiece"], truncate=False).texts([text])[0].cost > LIMIT


def test_with_truncate_off_a_longer_text_costs_more_than_the_limit(tokenizers: dict[str, str]) -> None:
    recipe = made(tokenizers["wordpiece"], truncate=False)
    fits, one_more, huge = recipe.texts(["a " * (LIMIT - 2), "a " * (LIMIT - 1), "a " * 10_000_000])
    assert (fits.cost, fits.truncated) == (LIMIT, False)
    assert (one_more.cost, one_more.truncated) == (LIMIT + 1, True)
    assert huge.cost > LIMIT


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u200b"])
def test_a_blank_text_is_its_special_tokens(tokenizers: dict[str, str], text: str) -> None:
    item = made(tokenizers["wordpiece"]).texts([text])[0]
    assert item.array.tolist() == [101, 102]
    assert not item.truncated


def test_a_blank_text_is_one_token_where_there_are_no_special_ones(tokenizers: dict[str, str]) -> None:
    tokenizer = Tokenizer.from_str(tokenizers["wordpiece"])
    tokenizer.post_processor = processors.Sequence([])
    item = made(tokenizer.to_str(), blank=7).texts([""])[0]
    assert item.array.tolist() == [7]


def test_a_lone_surrogate_costs_nobody_anything(tokenizers: dict[str, str]) -> None:
    recipe = made(tokenizers["bpe"])
    good, bad, pair = recipe.texts(["good", "a \ud800 b", "\ud83d\ude00"])
    assert good.array.tolist() == recipe.texts(["good"])[0].array.tolist()
    assert bad.array.tolist() == recipe.texts(["a \ufffd b"])[0].array.tolist()
    assert pair.array.tolist() == recipe.texts(["😀"])[0].array.tolist()


def test_a_limit_without_room_is_refused(tokenizers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="2 tokens leave no room for a text beside 2 special tokens"):
        made(tokenizers["wordpiece"], limit=2)
    assert made(tokenizers["wordpiece"], limit=3).texts(["hello world"])[0].array.tolist() == [101, 7592, 102]


def test_one_recipe_serves_many_threads(tokenizers: dict[str, str]) -> None:
    recipe = made(tokenizers["wordpiece"])
    batches = [texts(20, 1, 1 + 10 * number) for number in range(8)]
    expected = [[item.array.tolist() for item in recipe.texts(batch)] for batch in batches]
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(15):
                found = [item.array.tolist() for item in recipe.texts(batches[number])]
                if found != expected[number]:
                    wrong.append(number)
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_handed_over_text_loses_its_padding(tokenizers: dict[str, str]) -> None:
    array = np.array([[101, 7592, 102, 0, 0], [1, 1, 1, 0, 0]])
    item = made(tokenizers["wordpiece"]).handoff(array)
    assert item.array.tolist() == [101, 7592, 102]
    assert (item.cost, item.truncated) == (3, False)


@pytest.mark.parametrize(
    ("array", "detail"),
    [
        (np.ones((2, 3), np.float32), "the model takes int64 [2, L], not float32 [2, 3]"),
        (np.ones((3, 2), np.int64), "the model takes int64 [2, L], not int64 [3, 2]"),
        (np.ones(4, np.int64), "the model takes int64 [2, L], not int64 [4]"),
        (np.ones((2, LIMIT + 1), np.int64), "the model takes 1 to 32 tokens, not 33"),
        (np.zeros((2, 5), np.int64), "the model takes 1 to 32 tokens, not 0"),
        (np.array([[5, 30522], [1, 1]]), "the model's token ids are 0 to 30521"),
        (np.array([[-1, 5], [1, 1]]), "the model's token ids are 0 to 30521"),
    ],
)
def test_a_handed_over_text_that_does_not_fit(tokenizers: dict[str, str], array: Any, detail: str) -> None:
    with pytest.raises(TaskError) as caught:
        made(tokenizers["wordpiece"]).handoff(array)
    assert (caught.value.code, caught.value.detail) == ("handoff_refused", detail)


def pixels(data: bytes, max_pixels: int) -> Any:
    return np.full((3, 4, 6), len(data) + max_pixels, np.uint8), len(data) == 3


def test_an_image_is_transformed() -> None:
    item = ImageRecipe(pixels, (4, 6)).image(b"12", 3)
    assert item.array.tolist() == np.full((3, 4, 6), 5).tolist()
    assert (item.cost, item.truncated) == (1, False)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_handed_over_image_is_taken_as_it_is(dtype: Any) -> None:
    array = np.arange(3 * 4 * 6, dtype=dtype).reshape(3, 4, 6)
    item = ImageRecipe(pixels, (4, 6)).handoff(array)
    assert item.array.dtype == dtype
    assert np.array_equal(item.array, array)
    assert item.cost == 1


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((3, 4, 6)), "float64 [3, 4, 6]"),
        (np.zeros((3, 6, 4), np.float32), "float32 [3, 6, 4]"),
        (np.zeros((1, 3, 4, 6), np.float32), "float32 [1, 3, 4, 6]"),
        (np.zeros(3, np.float32), "float32 [3]"),
    ],
)
def test_a_handed_over_image_that_does_not_fit(array: Any, got: str) -> None:
    with pytest.raises(TaskError, match="handoff_refused") as caught:
        ImageRecipe(pixels, (4, 6)).handoff(array)
    assert caught.value.detail == f"the model takes float32 or uint8 [3, 4, 6], not {got}"


def test_a_recipe_serves_one_kind(tokenizers: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        made(tokenizers["wordpiece"]).image(b"", 1)
    with pytest.raises(TypeError):
        ImageRecipe(pixels, (4, 6)).texts([""])
