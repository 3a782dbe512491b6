"""open_clip's model configuration, resolved as open_clip does but without building the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from open_clip.factory import get_model_config, parse_model_name
from open_clip.pretrained import download_pretrained_from_hf, get_pretrained_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

if TYPE_CHECKING:
    from legit_embedding.prep.images.image import Interpolation, ResizeMode

_CONFIG_FILE = "open_clip_config.json"
_USUAL_SIZE = 224


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model's vector size and image preprocessing."""

    dim: int
    size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: ResizeMode
    interpolation: Interpolation
    fill_color: int

    @classmethod
    def read(cls, name: str, pretrained: str) -> Architecture:
        """Merge the defaults, the checkpoint's preprocessing settings and the architecture's image size.

        Args:
            name: the name in open_clip's format: an architecture, ``hf-hub:ID`` or ``local-dir:PATH``.
            pretrained: a tag; other values carry no preprocessing settings.

        Raises:
            LookupError: open_clip knows no such architecture.
            OSError: the model's own configuration file cannot be read.
        """
        model, checkpoint = configurations(name, pretrained)
        merged = merge_preprocess_dict(asdict(PreprocessCfg()), checkpoint)
        size = model["vision_cfg"].get("image_size", _USUAL_SIZE)
        # "random" is for training: at inference open_clip treats it as bicubic.
        interpolation = "bilinear" if merged["interpolation"] == "bilinear" else "bicubic"
        return cls(
            dim=int(model["embed_dim"]),
            size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
            mean=_channels(merged["mean"]),
            std=_channels(merged["std"]),
            resize_mode=cast("ResizeMode", merged["resize_mode"] or "shortest"),
            interpolation=cast("Interpolation", interpolation),
            fill_color=int(merged["fill_color"]),
        )


def configurations(name: str, pretrained: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the architecture's configuration and the preprocessing settings."""
    schema, identifier = parse_model_name(name)
    if schema is None:
        cleaned = identifier.replace("/", "-")
        model = get_model_config(cleaned)
        if model is None:
            message = f"open_clip knows no architecture {name!r}"
            raise LookupError(message)
        return model, get_pretrained_cfg(cleaned, pretrained)
    folder = identifier if schema == "local-dir" else str(Path(_downloaded_config(identifier)).parent)
    own = json.loads((Path(folder) / _CONFIG_FILE).read_text("utf-8"))
    return own["model_cfg"], own.get("preprocess_cfg", {})


def _downloaded_config(identifier: str) -> str:
    return str(download_pretrained_from_hf(identifier, filename=_CONFIG_FILE))


def _channels(value: float | list[float] | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),) * 3
