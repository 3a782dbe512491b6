"""Small models with random weights that are like well-known ones in everything but their size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram, WordPiece
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from tests.texts import texts
from tests.unit.models.open_clips import byte_fallback_bpe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_SHORT = {"vocab_size": 700, "max_position_embeddings": 130}
_HEADS = {"num_key_value_heads": 1, "head_dim": 16}


@dataclass(frozen=True)
class Card:
    """What a model's card and files say."""

    architecture: str
    """As transformers calls it."""
    pooling: str
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    config: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    after: Callable[[], list[Any]] = lambda: [modules.Normalize()]

    def save(self, folder: Path) -> SentenceTransformer:
        """Write it as its authors would, and return it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            config = AutoConfig.for_model(self.architecture, **(_SIZE | _SHORT | self.config))
            AutoModel.from_config(config).save_pretrained(folder / "encoder")
            self.tokenizer().save_pretrained(folder / "encoder")
            after = self.after()
        transformer = modules.Transformer(str(folder / "encoder"), max_seq_length=64)
        pooling = modules.Pooling(32, pooling_mode=self.pooling)  # type: ignore[arg-type]
        made = SentenceTransformer(modules=[transformer, pooling, *after], device="cpu", prompts=self.prompts)
        made.save_pretrained(str(folder))
        return SentenceTransformer(str(folder), device="cpu")


def wordpiece() -> PreTrainedTokenizerFast:
    """Like BERT's."""
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=690, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts(100), trainer)
    tokenizer.post_processor = _framed("[CLS]", 2, "[SEP]", 3)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def sentencepiece() -> PreTrainedTokenizerFast:
    """Like XLM-RoBERTa's."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts(100), trainer)
    tokenizer.post_processor = _framed("<s>", 0, "</s>", 2)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def byte_level() -> PreTrainedTokenizerFast:
    """Like Qwen's: padded on the left, with an end of text that the tokenizer adds."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=690, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(100), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", padding_side="left"
    )


def _framed(head: str, first: int, tail: str, last: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single=f"{head} $A {tail}", special_tokens=[(head, first), (tail, last)])


def _map() -> list[Any]:
    return [modules.Dense(32, 32), modules.Normalize()]


def _two_maps() -> list[Any]:
    plain = {"bias": False, "activation_function": torch.nn.Identity()}
    return [modules.Dense(32, 128, **plain), modules.Dense(128, 32, **plain), modules.Normalize()]


CARDS = {
    "e5": Card("bert", "mean", wordpiece, {"pad_token_id": 0}, {"query": "query: ", "passage": "passage: "}),
    "bge-m3": Card("xlm-roberta", "cls", sentencepiece, {"pad_token_id": 1}),
    "qwen3-embedding": Card(
        "qwen3",
        "lasttoken",
        byte_level,
        {**_HEADS, "pad_token_id": 0},
        {"query": "Instruct: Given a web search query, retrieve relevant passages\nQuery:", "document": ""},
    ),
    "embeddinggemma": Card(
        "gemma3_text",
        "mean",
        byte_fallback_bpe,
        {**_HEADS, "pad_token_id": 0, "use_bidirectional_attention": True, "sliding_window": 16},
        {"query": "task: search result | query: ", "document": "title: none | text: "},
        _two_maps,
    ),
    "nomic": Card(
        "nomic_bert",
        "mean",
        wordpiece,
        {"pad_token_id": 0},
        {"query": "search_query: ", "document": "search_document: "},
    ),
    "labse": Card("bert", "cls", wordpiece, {"pad_token_id": 0}, after=_map),
    "stella": Card("bert", "mean", wordpiece, {"pad_token_id": 0}, after=lambda: [modules.Dense(32, 24)]),
    "modernbert": Card("modernbert", "cls", byte_level, {"pad_token_id": 0, "global_attn_every_n_layers": 2}),
    "gte": Card("gte", "cls", wordpiece, {"pad_token_id": 0}),
}
