from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPTokenizer,
    DINOv3ViTImageProcessor,
    SiglipImageProcessor,
    SiglipTokenizer,
    ViTImageProcessor,
)

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError, TaskError
from legit_embedding.models.registry import Registry
from legit_embedding.prep.images.opening import eight_bit
from tests.images import PHOTOS, encoded, photo, variety
from tests.texts import texts
from tests.unit.models.open_clips import byte_fallback_bpe
from tests.unit.models.test_open_clip_texts import ODD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = torch.device("cpu")
MANY = ODD + texts(60, 1, 150)
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = _SMALL | {"image_size": 32, "patch_size": 8}
_TEXT_OF_CLIP = {**_SMALL, "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own vocabulary, which open_clip ships."""
    source = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in source.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(source.bpe_ranks), model_max_length=77)


def siglip_tokenizer(folder: Path) -> SiglipTokenizer:
    """A sentencepiece model like SigLIP's, which only that library reads."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts(200)),
        model_writer=model,
        vocab_size=600,
        unk_id=2,
        eos_id=1,
        pad_id=0,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    return SiglipTokenizer(str(folder / "spiece.model"))


def clip(folder: Path) -> None:
    config = AutoConfig.for_model("clip", text_config=_TEXT_OF_CLIP, vision_config=_VISION, projection_dim=24)
    save(folder, config, CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}))
    clip_tokenizer().save_pretrained(folder)


def old_clip(folder: Path) -> None:
    """As OpenAI's checkpoints are: with a wrong end-of-text token in the configuration."""
    config = AutoConfig.for_model(
        "clip", text_config=_TEXT_OF_CLIP | {"eos_token_id": 2}, vision_config=_VISION, projection_dim=24
    )
    save(folder, config, CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}))
    clip_tokenizer().save_pretrained(folder)


def siglip(folder: Path) -> None:
    text = _SMALL | {"vocab_size": 600, "max_position_embeddings": 64, "pad_token_id": 1}
    config = AutoConfig.for_model("siglip", text_config=text, vision_config=_VISION)
    save(folder, config, SiglipImageProcessor(size={"height": 32, "width": 32}))
    siglip_tokenizer(folder).save_pretrained(folder)


def siglip2(folder: Path) -> None:
    """Of fixed resolution, as most SigLIP 2 checkpoints are: SigLIP's architecture with Gemma's tokenizer."""
    text = _SMALL | {"vocab_size": 700, "max_position_embeddings": 64, "pad_token_id": 0}
    config = AutoConfig.for_model("siglip", text_config=text, vision_config=_VISION)
    processor = SiglipImageProcessor(size={"height": 32, "width": 32}, resample=Image.Resampling.BILINEAR)
    save(folder, config, processor)
    byte_fallback_bpe(model_max_length=64).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    processor = BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    save(folder, AutoConfig.for_model("dinov2", **_VISION), processor)


def dinov3(folder: Path) -> None:
    config = AutoConfig.for_model("dinov3_vit", **_VISION, num_register_tokens=4)
    save(folder, config, DINOv3ViTImageProcessor(size={"height": 32, "width": 32}))


def vit(folder: Path) -> None:
    save(folder, AutoConfig.for_model("vit", **_VISION), ViTImageProcessor(size={"height": 32, "width": 32}))


def vit_without_pooler(folder: Path) -> None:
    """As classifiers are saved."""
    vit(folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def save(folder: Path, config: Any, processor: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        AutoModel.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)


PAIRS = (clip, old_clip, siglip, siglip2)
IMAGES = (dinov2, dinov3, vit, vit_without_pooler)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    """Makes each checkpoint once."""
    folders: dict[str, Path] = {}

    def make(build: Callable[[Path], None]) -> Path:
        name = build.__name__
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            build(folders[name])
        return folders[name]

    return make


def registry(folder: Path, *kinds: str, load: bool = True, **settings: Any) -> Registry:
    fields = {"kinds": list(kinds), "backend": "transformers", "name": str(folder)} | settings
    made = Registry({"m": ModelConfig.model_validate(fields)})
    if load:
        for backend in made.backends().values():
            backend.load(CPU, torch.float32)
    return made


def vectors(backend: Any, arrays: list[Any]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = backend.forward(backend.collate(arrays))
    assert found.shape == (len(arrays), backend.dim)
    return found


def as_processor_sees(image: Image.Image, processor: Any) -> Image.Image:
    """The image in a mode that the processor can read."""
    if processor.do_convert_rgb:
        return image
    image.info.pop("transparency", None)
    return image.convert("RGB")


def by_processor(processor: Any, data: bytes) -> torch.Tensor:
    # A deep image is scaled by its range first: the library would clip it.
    image = as_processor_sees(eight_bit(Image.open(io.BytesIO(data))), processor)
    pixels: torch.Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize("build", PAIRS)
def test_both_towers_answer_as_transformers_does(build: Any, made: Any) -> None:
    folder = made(build)
    ours = registry(folder, "image", "text")
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)

    text = ours["m (text)"]
    limit = text.recipe().max_tokens
    inputs = tokenizer(MANY, padding="max_length", truncation=True, max_length=limit, return_tensors="pt")
    if model.config.model_type == "siglip":
        inputs.pop("attention_mask", None)  # SigLIP's processor makes none
    with torch.inference_mode():
        wanted = model.get_text_features(**inputs).pooler_output
    found = torch.cat(
        [
            vectors(text, [item.array for item in text.recipe().texts(MANY[at : at + 20])])
            for at in range(0, len(MANY), 20)
        ]
    )
    assert functional.cosine_similarity(found, wanted).min() >= 0.9999

    image = ours["m (image)"]
    files = [encoded(photo(name), "PNG") for name in PHOTOS]
    arrays = [image.recipe().image(data, 10_000_000).array for data in files]
    with torch.inference_mode():
        wanted = model.get_image_features(torch.stack([by_processor(processor, data) for data in files])).pooler_output
    assert functional.cosine_similarity(vectors(image, arrays), wanted).min() >= 0.9999
    assert image.dim == text.dim


def transparent() -> dict[str, bytes]:
    """Images with every degree of transparency, which processors blend with white or drop."""
    image = photo(PHOTOS[0]).resize((100, 80))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    palette = photo(PHOTOS[0]).resize((64, 64)).convert("P")
    return {
        "RGBA": encoded(image, "PNG"),
        "LA": encoded(image.convert("LA"), "PNG"),
        "P": encoded(palette, "PNG", transparency=bytes(range(256))),
        "RGB": encoded(image.convert("RGB"), "PNG", transparency=image.convert("RGB").getpixel((9, 9))),
    }


@pytest.mark.parametrize("build", [*PAIRS, *IMAGES])
def test_pixels_are_the_processors_within_one(build: Any, made: Any) -> None:
    folder = made(build)
    recipe = registry(folder, "image", load=False)["m"].recipe()
    processor = AutoImageProcessor.from_pretrained(folder)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    for name, data in (variety() | transparent()).items():
        array = recipe.image(data, 10_000_000).array
        wanted = (by_processor(processor, data) * std + mean) * 255
        assert array.shape == wanted.shape, name
        assert np.abs(array - wanted.numpy()).max() <= 1.001, name


@pytest.mark.parametrize("pooling", [None, "pooler", "cls", "mean"])
@pytest.mark.parametrize("build", [dinov2, dinov3, vit])
def test_image_encoders_answer_as_transformers_does(build: Any, pooling: str | None, made: Any) -> None:
    folder = made(build)
    settings = {} if pooling is None else {"pooling": pooling}
    ours = registry(folder, "image", **settings)["m"]
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    files = [encoded(photo(name), "PNG") for name in PHOTOS]
    with torch.inference_mode():
        outputs = model(torch.stack([by_processor(processor, data) for data in files]))
    before_patches = 1 + getattr(model.config, "num_register_tokens", 0)
    wanted = {
        "pooler": outputs.pooler_output,
        "cls": outputs.last_hidden_state[:, 0],
        "mean": outputs.last_hidden_state[:, before_patches:].mean(dim=1),
    }[pooling or "pooler"]
    found = vectors(ours, [ours.recipe().image(data, 10_000_000).array for data in files])
    assert functional.cosine_similarity(found, wanted).min() >= 0.9999


def test_weights_that_a_checkpoint_lacks_are_not_invented_for_the_pooling(made: Any) -> None:
    folder = made(vit_without_pooler)
    ours, told = registry(folder, "image")["m"], registry(folder, "image", pooling="cls")["m"]
    arrays = ours.samples(2)
    assert torch.equal(vectors(ours, arrays), vectors(told, arrays))
    with pytest.raises(ConfigError, match=r"^models\.m\.pooling: the checkpoint has no weights for the model's own"):
        registry(folder, "image", pooling="pooler")


def test_two_towers_share_one_copy_and_one_alone_drops_the_other(made: Any, added_bytes: Callable[[], int]) -> None:
    folder = made(clip)
    whole = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    both = registry(folder, "image", "text")
    assert both["m (image)"]._model is both["m (text)"]._model  # type: ignore[attr-defined]
    assert whole <= added_bytes() < 1.02 * whole
    del both
    image = registry(folder, "image")
    assert added_bytes() < 0.1 * whole  # the text tower's vocabulary is most of it
    text = registry(folder, "text")
    assert text["m"].digest == image["m"].digest != ""  # type: ignore[attr-defined]


def test_normalised_pixels_mix_with_others(made: Any) -> None:
    ours = registry(made(dinov2), "image")["m"]
    processor = AutoImageProcessor.from_pretrained(made(dinov2))
    data = encoded(photo(PHOTOS[0]), "PNG")
    array = ours.recipe().image(data, 10_000_000).array
    ready = ours.recipe().handoff(by_processor(processor, data).numpy()).array
    assert torch.allclose(vectors(ours, [array, ready])[0], vectors(ours, [array, ready])[1], atol=0.05)


@pytest.mark.parametrize(
    ("data", "code"), [(b"no image", "undecodable"), (encoded(Image.new("RGB", (3000, 1)), "PNG"), "too_large")]
)
def test_an_image_that_does_not_do(made: Any, data: bytes, code: str) -> None:
    recipe = registry(made(clip), "image", load=False)["m"].recipe()
    with pytest.raises(TaskError) as caught:
        recipe.image(data, 1_000_000)
    assert caught.value.code == code


def test_a_processor_with_steps_of_its_own_is_asked_itself(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(siglip)

    def preprocess(self: Any, images: Any, **settings: Any) -> Any:
        return original(self, [image.flip(-1) for image in images], **settings)

    original = SiglipImageProcessor._preprocess
    monkeypatch.setattr(SiglipImageProcessor, "_preprocess", preprocess)
    data = encoded(photo(PHOTOS[0]), "PNG")
    array = registry(folder, "image", load=False)["m"].recipe().image(data, 10_000_000).array
    wanted = by_processor(AutoImageProcessor.from_pretrained(folder), data) * 0.5 + 0.5
    assert np.abs(array - 255 * wanted.numpy()).max() <= 1.001


def test_images_that_keep_their_shapes_are_refused(made: Any, tmp_path: Path) -> None:
    save(tmp_path, AutoConfig.for_model("dinov2", **_VISION), BitImageProcessor(do_center_crop=False))
    with pytest.raises(ConfigError, match=r"^models\.m\.name: .*keep their own shapes and make no batch; use a model"):
        registry(tmp_path, "image", load=False)["m"].recipe()


def test_a_kind_that_the_model_has_not_is_named(made: Any, minilm: Path) -> None:
    with pytest.raises(ConfigError, match=r"^models\.m\.kinds: 'dinov2' embeds images only, so this must be 'image'"):
        registry(made(dinov2), "image", "text")
    with pytest.raises(ConfigError, match=r"^models\.m\.kinds: 'bert' embeds texts only, so this must be 'text'"):
        registry(minilm, "image")
    with pytest.raises(ConfigError, match=r"^models\.m\.pooling: a model with two towers has its own way"):
        registry(made(clip), "image", pooling="mean")
    with pytest.raises(ConfigError, match=r"^models\.m\.pooling: of an image model it is one of cls, mean, pooler"):
        registry(made(dinov2), "image", pooling="max")
