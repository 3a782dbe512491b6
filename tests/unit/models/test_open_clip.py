from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save_file
from torch.nn import functional

from legit_embedding.config import ModelConfig
from legit_embedding.errors import ConfigError
from legit_embedding.models.architecture import Architecture
from legit_embedding.models.open_clip import OpenClipModel
from tests.images import PHOTOS, encoded, photo
from tests.tiny_models import TINY_CLIP, TINY_CLIP_WIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

CPU = torch.device("cpu")


def model(name: str = TINY_CLIP, dtype: torch.dtype | None = torch.float32, **settings: Any) -> OpenClipModel:
    fields = {"kind": "image", "backend": "open_clip", "name": name, "pretrained": "random:7"} | settings
    made = OpenClipModel("m", ModelConfig.model_validate(fields))
    if dtype is not None:
        made.load(CPU, dtype)
    return made


def noise(made: OpenClipModel, count: int) -> list[NDArray[np.generic]]:
    shape = (count, *made.samples(1)[0].shape)
    return list(np.random.default_rng(5).integers(0, 256, shape, np.uint8))


def embed(made: OpenClipModel, arrays: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    vectors = made.forward(made.collate(arrays))
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
    return vectors


def library_model(name: str, seed: int = 7) -> tuple[torch.nn.Module, Any]:
    """The whole model and its inference transform, as open_clip makes them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole, _, transform = open_clip.create_model_and_transforms(name)
    return whole.eval(), transform


def by_open_clip(whole: Any, transform: Any, arrays: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    """The library's own normalisation and image encoder, for pixels that are resized already."""
    normalize = transform.transforms[-1]
    pixels = torch.stack([normalize(torch.from_numpy(array).float() / 255) for array in arrays])
    with torch.inference_mode():
        vectors: torch.Tensor = whole.eval().encode_image(pixels, normalize=True)
    return vectors


@pytest.mark.parametrize("name", [TINY_CLIP, TINY_CLIP_WIDE])
def test_vectors_are_open_clips_own(name: str) -> None:
    made = model(name)
    arrays = noise(made, 5)
    vectors = embed(made, arrays)
    assert vectors.shape == (5, made.dim) == (5, 24)
    assert functional.cosine_similarity(vectors, by_open_clip(*library_model(name), arrays)).min() >= 0.99999
    assert torch.allclose(torch.cat([embed(made, [array]) for array in arrays]), vectors, atol=1e-5)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)


def test_eva02_embeds_photos_as_open_clip_does() -> None:
    made = model("EVA02-B-16")
    whole, transform = library_model("EVA02-B-16")
    photos = [photo(name) for name in PHOTOS[:2]]
    recipe = made.recipe()
    arrays = [recipe.image(encoded(image, "PNG"), 10_000_000).array for image in photos]
    vectors = embed(made, arrays)
    assert vectors.shape == (2, 512)
    with torch.inference_mode():
        reference: Any = whole
        wanted = reference.encode_image(torch.stack([transform(image) for image in photos]))
    assert functional.cosine_similarity(vectors, wanted).min() >= 0.9999
    assert functional.cosine_similarity(vectors[:1], vectors[1:]).item() < 0.99


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_and_answers_in_float32(dtype: torch.dtype) -> None:
    made = model(dtype=dtype)
    assert made._visual is not None
    assert {parameter.dtype for parameter in made._visual.parameters()} == {dtype}
    arrays = noise(made, 5)
    assert functional.cosine_similarity(embed(made, arrays), embed(model(), arrays)).min() > 0.999


def test_a_vector_keeps_its_length_where_the_settings_say_so() -> None:
    raw, arrays = model(normalize=False), noise(model(dtype=None), 3)
    assert (embed(raw, arrays).norm(dim=1) - 1).abs().min() > 0.1
    assert functional.cosine_similarity(embed(raw, arrays), embed(model(), arrays)).min() > 0.99999


def test_normalised_pixels_are_taken_as_they_are_and_mix_with_others() -> None:
    made = model()
    arrays = noise(made, 4)
    normalize = library_model(TINY_CLIP)[1].transforms[-1]
    ready = [normalize(torch.from_numpy(array).float() / 255).numpy() for array in arrays]
    assert made.collate(arrays)["pixels"].dtype == torch.uint8
    assert made.collate(ready)["pixels"].dtype == made.collate([arrays[0], ready[1]])["pixels"].dtype == torch.float32
    wanted = embed(made, arrays)
    assert torch.allclose(embed(made, ready), wanted, atol=1e-5)
    assert torch.allclose(embed(made, [ready[0], arrays[1], arrays[2], ready[3]]), wanted, atol=1e-5)


def test_only_one_copy_of_the_image_tower_is_kept_and_no_text_tower(added_bytes: Callable[[], int]) -> None:
    made = model(dtype=torch.bfloat16)
    assert made._visual is not None
    weights = sum(parameter.nbytes for parameter in made._visual.parameters())
    assert weights == 135_936
    assert weights <= added_bytes() < 1.01 * weights


def test_samples_are_as_many_images_as_the_cost() -> None:
    made = model(TINY_CLIP_WIDE)
    assert made.collate(made.samples(6))["pixels"].shape == (6, 3, 32, 48)
    assert made.samples(0)[0].dtype == np.uint8
    assert embed(made, made.samples(2)).isfinite().all()


def test_the_recipe_needs_no_weights_and_takes_the_options() -> None:
    recipe = model(dtype=None, options={"exact": True}).recipe()
    assert recipe._transform.__self__.exact is True  # type: ignore[attr-defined]
    assert model(dtype=None).recipe()._transform.__self__.exact is False  # type: ignore[attr-defined]
    item = recipe.image(encoded(photo(PHOTOS[0]), "JPEG"), 10_000_000)
    assert item.array.shape == (3, 32, 32)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of the whole tiny model, of seed 7."""
    path = tmp_path / "weights" / "tiny.safetensors"
    path.parent.mkdir()
    save_file({key: value.clone() for key, value in library_model(TINY_CLIP)[0].state_dict().items()}, path)
    return path


def same_vectors(one: OpenClipModel, other: OpenClipModel) -> bool:
    return torch.equal(embed(one, noise(one, 2)), embed(other, noise(one, 2)))


def test_weights_come_from_a_path_or_a_package(checkpoint: Path, package: Path) -> None:
    assert same_vectors(model(pretrained=str(checkpoint)), model())
    assert not same_vectors(model(pretrained=str(checkpoint)), model(pretrained="random:8"))
    checkpoint.rename(package / checkpoint.name)
    assert same_vectors(model(pretrained="package:legit_weights"), model())


@pytest.fixture
def tag(checkpoint: Path) -> Iterator[str]:
    """A tag like SigLIP's, whose checkpoint wants images otherwise than the defaults."""
    settings = {"mean": (0.5, 0.4, 0.3), "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    _PRETRAINED[TINY_CLIP] = {"legit_tag": {"file": str(checkpoint), **settings}}
    yield "legit-tag"
    del _PRETRAINED[TINY_CLIP]


def test_weights_and_preprocessing_come_from_a_tag(tag: str) -> None:
    made = model(pretrained=tag)
    whole, _, transform = open_clip.create_model_and_transforms(TINY_CLIP, tag)
    arrays = noise(made, 3)
    assert functional.cosine_similarity(embed(made, arrays), by_open_clip(whole, transform, arrays)).min() >= 0.99999
    found = Architecture.read(TINY_CLIP, tag)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert (found.interpolation, found.resize_mode) == ("bilinear", "squash")


def test_weights_come_from_a_folder_with_its_own_configuration(checkpoint: Path) -> None:
    preprocess = {"mean": 0.5, "std": [0.2, 0.3, 0.4], "resize_mode": "longest", "fill_color": 9}
    own = {"model_cfg": open_clip.get_model_config(TINY_CLIP), "preprocess_cfg": preprocess}
    (checkpoint.parent / "open_clip_config.json").write_text(json.dumps(own))
    name = f"local-dir:{checkpoint.parent}"
    made = model(name, pretrained="")
    whole, _, transform = open_clip.create_model_and_transforms(name)
    arrays = noise(made, 3)
    assert functional.cosine_similarity(embed(made, arrays), by_open_clip(whole, transform, arrays)).min() >= 0.99999
    found = Architecture.read(name, "")
    assert (found.mean, found.resize_mode, found.fill_color) == ((0.5, 0.5, 0.5), "longest", 9)
    with pytest.raises(ConfigError, match=r"^models\.m\.pretrained: .* brings its own weights"):
        model(name, pretrained="openai")
    checkpoint.unlink()
    with pytest.raises(ConfigError, match=r"^models\.m\.name: cannot load 'local-dir:.*could not be loaded"):
        model(name, pretrained="")


@pytest.mark.parametrize("name", [TINY_CLIP, TINY_CLIP_WIDE, "EVA02-B-16"])
def test_the_architecture_is_what_the_built_model_says(name: str) -> None:
    found = Architecture.read(name, "")
    if name == "EVA02-B-16":  # built in another test; building it again would take a second
        assert (found.size, found.dim) == ((224, 224), 512)
        return
    built: Any = library_model(name)[0].visual.preprocess_cfg  # type: ignore[union-attr]
    size = built["size"] if isinstance(built["size"], tuple | list) else (built["size"],) * 2
    assert found.size == tuple(size)
    assert (found.mean, found.std) == (built["mean"], built["std"])
    assert (found.interpolation, found.resize_mode) == (built["interpolation"], built["resize_mode"])
    assert found.fill_color == built["fill_color"]


def test_every_architecture_and_tag_of_open_clip_is_understood() -> None:
    pairs = open_clip.list_pretrained() + [(name, "") for name in open_clip.list_models()]
    assert len(pairs) > 200
    for name, pretrained in pairs:
        found = Architecture.read(name, pretrained)
        assert found.interpolation in {"bicubic", "bilinear"}
        assert found.resize_mode in {"shortest", "squash", "longest"}
        assert len(found.mean) == len(found.std) == 3
        assert min(found.size) >= 32


@pytest.mark.parametrize(
    ("settings", "field", "reason"),
    [
        ({"name": "ViT-Z-99"}, "name", "open_clip knows no architecture 'ViT-Z-99'"),
        ({"name": "local-dir:/no/such/folder"}, "name", "No such file"),
        ({"name": "hf-hub:no-one/has-this-model"}, "name", "Failed to download"),
        (
            {"pretrained": ""},
            "pretrained",
            "'' is neither a checkpoint's path nor a tag of 'legit-tiny'; its tags: none",
        ),
        ({"name": "EVA02-B-16", "pretrained": "x"}, "pretrained", "its tags: merged2b_s8b_b131k"),
        ({"pretrained": "/no/such/file.safetensors"}, "pretrained", "neither a checkpoint's path"),
        ({"pretrained": "package:no_such_package"}, "pretrained", "is not installed"),
    ],
)
def test_a_model_that_is_not_there_names_the_setting_in_one_line(
    settings: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^models\.m\.{field}: .+") as caught:
        model(**settings)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_architecture_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"^models\.m\.pretrained: cannot load '.*tiny.safetensors'"):
        model("ViT-S-32-alt", pretrained=str(checkpoint))


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": Malicious(tmp_path / "executed")}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"^models\.m\.pretrained: cannot load"):
        model(pretrained=str(tmp_path / "weights.pt"))
    assert not (tmp_path / "executed").exists()


def test_forward_before_load_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="before load"):
        model(dtype=None).forward({})
