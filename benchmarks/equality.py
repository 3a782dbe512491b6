"""Distances of our vectors and pixels from those of the models' own libraries: the tables of docs/models.md.

    python -m benchmarks.equality

Every model but MiniLM is small and has seeded random weights; its architecture, tokenizer and preprocessing are those
of the models of its kind. The texts are 300 for open_clip, transformers and MiniLM and 75 for the others: empty, emoji,
longer than the limit, and the Python language reference; the pictures are forty files of ten shapes in four formats. An
empty text is left out of the last table: with a tokenizer like Qwen's, sentence-transformers answers it with zeros.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from legit_embedding.config import ModelConfig
from legit_embedding.models.registry import Registry
from tests.images import variety
from tests.models import minilm_folder
from tests.texts import texts
from tests.unit.models import test_open_clip_texts as clips
from tests.unit.models import test_transformers_pairs as pairs
from tests.unit.models.cards import CARDS
from tests.unit.models.open_clips import add_models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MANY = clips.MANY
CPU = torch.device("cpu")
MOST_PIXELS = 10_000_000
KINDS = {
    "tiny-eva02": "EVA02 (causal, packed)",
    "tiny-vit": "ViT (causal, packed)",
    "tiny-siglip": "SigLIP (filled to 64)",
    "tiny-siglip2": "SigLIP 2 (filled to 64)",
    "tiny-coca": "CoCa (filled to 76)",
    "tiny-roberta": "text tower of transformers (packed)",
    "tiny-clipa": "CLIPA (filled to 32)",
    "tiny-eos": "pooled at the end of the text (packed)",
}


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print("| open_clip | text, cosine >= | image, cosine >= |\n|---|---|---|")
        for row in _open_clip(root):
            print("| {} | {} | {} |".format(*row))
        print("\n| transformers | text, cosine >= | image, cosine >= | pixels, of 255 |\n|---|---|---|---|")
        for row in _transformers(root):
            print("| {} | {} | {} | {} |".format(*row))
        print("\n| sentence-transformers | weights | cosine >= |\n|---|---|---|")
        for row in _cards(root):
            print("| {} | {} | {} |".format(*row))


def _open_clip(root: Path) -> list[tuple[str, str, str]]:
    folder = root / "open_clip"
    folder.mkdir()
    add_models(folder)
    rows = []
    for name, shown in KINDS.items():
        registry = clips.both(name)
        for backend in registry.backends().values():
            backend.load(CPU, torch.float32)
        whole = clips.library_model(name)
        image: Any = registry["clip (image)"]
        arrays = [image.recipe().image(data, MOST_PIXELS).array for data in variety().values()]
        with torch.inference_mode():
            wanted = whole.encode_text(open_clip.get_tokenizer(name)(MANY))
            pixels = image._pixels.read(image.collate(arrays)["pixels"], torch.float32)  # noqa: SLF001
            pictures = whole.encode_image(pixels)
        rows.append(
            (shown, _least(_in_parts(registry["clip (text)"], MANY), wanted), _least(_forward(image, arrays), pictures))
        )
    return rows


def _transformers(root: Path) -> list[tuple[str, str, str, str]]:
    rows = []
    for build in (*pairs.PAIRS, *pairs.IMAGES):
        folder = root / build.__name__
        folder.mkdir()
        build(folder)
        both = build in pairs.PAIRS
        registry = pairs.registry(folder, *(("image", "text") if both else ("image",)))
        model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
        image = registry["m (image)" if both else "m"]
        files = list(variety().values())
        arrays = [image.recipe().image(data, MOST_PIXELS).array for data in files]
        made = torch.stack([pairs.by_processor(processor, data) for data in files])
        text = "-"
        with torch.inference_mode():
            if both:
                text = _least(_in_parts(registry["m (text)"], MANY), _text_features(folder, model))
                wanted = model.get_image_features(made).pooler_output
            else:
                outputs = model(made)
                has_pooler = build is not pairs.vit_without_pooler
                wanted = outputs.pooler_output if has_pooler else outputs.last_hidden_state[:, 0]
        mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (processor.image_mean, processor.image_std))
        off = np.abs(np.stack(arrays) - ((made * std + mean) * 255).numpy()).max()
        rows.append((build.__name__.replace("_", " "), text, _least(_forward(image, arrays), wanted), f"{off:.2f}"))
    return rows


def _text_features(folder: Path, model: Any) -> torch.Tensor:  # noqa: ANN401
    limit = model.config.get_text_config().max_position_embeddings
    inputs = AutoTokenizer.from_pretrained(folder)(
        MANY, padding="max_length", truncation=True, max_length=limit, return_tensors="pt"
    )
    if model.config.model_type == "siglip":
        inputs.pop("attention_mask", None)
    found: torch.Tensor = model.get_text_features(**inputs).pooler_output
    return found


def _cards(root: Path) -> list[tuple[str, str, str]]:
    def of(name: str) -> Callable[[Path], SentenceTransformer]:
        return CARDS[name].save

    rows = []
    batch = [*filter(None, clips.ODD), *texts(60, 1, 150)]
    for name in CARDS:
        theirs, folder = of(name)(root / name), root / name
        rows.append((name, "random", _against(theirs, folder, [*batch], list(CARDS[name].prompts))))
    folder = minilm_folder()
    theirs = SentenceTransformer(str(folder), device="cpu")
    return [("MiniLM", "real", _against(theirs, folder, [*batch, *texts(225, 1, 400)], [])), *rows]


def _against(theirs: SentenceTransformer, folder: Path, batch: list[str], prompts: list[str]) -> str:
    fields = {"kind": "text", "backend": "transformers", "name": str(folder)}
    ours = Registry({"m": ModelConfig.model_validate(fields)})["m"]
    ours.load(CPU, torch.float32)
    least = []
    for prompt in (None, *prompts):
        wanted = torch.from_numpy(theirs.encode(batch, prompt_name=prompt, show_progress_bar=False))
        least.append(_least(_in_parts(ours, batch, prompt), wanted))
    return min(least)


def _in_parts(backend: Any, batch: Sequence[str], prompt: str | None = None) -> torch.Tensor:  # noqa: ANN401
    arrays = [item.array for item in backend.recipe().texts(batch, [prompt] * len(batch))]
    return torch.cat([_forward(backend, arrays[start : start + 50]) for start in range(0, len(arrays), 50)])


def _forward(backend: Any, arrays: Sequence[Any]) -> torch.Tensor:  # noqa: ANN401
    with torch.inference_mode():
        found: torch.Tensor = backend.forward(backend.collate(arrays))
    return found


def _least(found: torch.Tensor, wanted: torch.Tensor) -> str:
    least = float(functional.cosine_similarity(found.double(), wanted.double()).min())
    return f"{int(least * 10**6) / 10**6:.6f}"  # cut, not rounded


if __name__ == "__main__":
    main()
