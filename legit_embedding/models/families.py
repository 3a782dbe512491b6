"""Kinds of input that transformers architectures embed, and the reasons why some are unsupported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from legit_embedding.models.config import KINDS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from legit_embedding.models.config import Kind

_NAFLEX = (
    "it takes images of any shape (NaFlex), which make no batch of one shape; "
    "use a SigLIP 2 of fixed resolution, google/siglip2-base-patch16-224 for one"
)
_VIDEO = "it embeds videos; embed single frames with an image model, facebook/dinov2-base for one"
_SOUND = "it embeds sound; this worker embeds images and texts, so use a text model on a transcript"
_REMOTE = (
    "its code lies beside its weights, and such code is never run here; "
    "use a model whose architecture transformers has itself"
)
_REFUSED = {"siglip2": _NAFLEX, "siglip2_vision_model": _NAFLEX}
_VIDEO_TYPES = frozenset({"timesformer", "videomae", "vivit", "vjepa2", "xclip"})
_SOUND_INPUTS = frozenset({"input_values", "input_features"})


@dataclass(frozen=True, slots=True)
class Family:
    """Kinds of input that one architecture embeds."""

    kinds: tuple[Kind, ...]

    @property
    def is_pair(self) -> bool:
        """True if it has two towers that share an embedding space."""
        return len(self.kinds) > 1

    @classmethod
    def of(cls, architecture: PretrainedConfig) -> Family:
        """Determine the family from the class that transformers has for this configuration.

        Raises:
            ValueError: it has no such class, or the class embeds neither images nor texts.
        """
        found = AutoModel._model_mapping.get(type(architecture), None)  # noqa: SLF001 - there is no public API for this
        made: Any = found[0] if isinstance(found, tuple) else found
        if made is None:
            message = f"transformers has no encoder for {architecture.model_type!r}; use an embedding model"
            raise ValueError(message)
        if hasattr(made, "get_image_features") and hasattr(made, "get_text_features"):
            return cls(KINDS)
        if made.main_input_name == "pixel_values":
            return cls(("image",))
        if made.main_input_name in _SOUND_INPUTS or hasattr(made, "get_audio_features"):
            raise ValueError(_SOUND)
        return cls(("text",))


def refusal(config: dict[str, Any]) -> str | None:
    """Return the reason why a model with this ``config.json`` is unsupported and the alternative, or None."""
    model_type = config.get("model_type")
    if model_type in _REFUSED:
        return _REFUSED[model_type]
    if isinstance(model_type, str) and (model_type in _VIDEO_TYPES or "video" in model_type):
        return _VIDEO
    if config.get("auto_map") and model_type not in CONFIG_MAPPING:
        return _REMOTE
    return None
