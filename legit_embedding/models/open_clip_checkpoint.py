"""Files of one open_clip model, loaded once for all its towers."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from huggingface_hub import snapshot_download
from open_clip.factory import get_model_config, parse_model_name
from open_clip.pretrained import download_pretrained_from_hf, get_pretrained_cfg

from legit_embedding.models.architecture import Architecture, configurations
from legit_embedding.models.fingerprint import fingerprint
from legit_embedding.models.settings import misconfigured
from legit_embedding.models.weights import PACKAGE, RANDOM, commit_of, in_package, random_seed

if TYPE_CHECKING:
    from legit_embedding.models.config import Kind, ModelConfig

logger = logging.getLogger(__name__)

MISMATCH = "Model %s: the weights %r were trained with another activation than that of %r (see its -quickgelu variant)"
_CHECKPOINTS = ("open_clip_model.safetensors", "*.safetensors", "*.pt", "*.pth", "*.bin")


class OpenClipCheckpoint:
    """Lazily read files that the settings of one model refer to.

    ``name`` is an architecture, ``hf-hub:ID`` or ``local-dir:PATH``. ``pretrained`` is a tag, a checkpoint's path,
    ``package:NAME`` for a checkpoint shipped in an installed package, or ``random:SEED``; with the two prefixes it is
    empty, because the name locates the weights. ``revision`` pins files from the hub.

    Args:
        name: the model's name, for error messages.
        config: its settings, for all the kinds that it serves.

    Raises:
        ConfigError: the seed is invalid; later, a file is missing or does not fit.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        self.name = name
        self.config = config
        self.digest = ""
        self.revision = config.revision
        self._seed = random_seed(name, config)
        self._waiting = set(config.serves)
        self._whole: torch.nn.Module | None = None

    @cached_property
    def source(self) -> str:
        """Name in open_clip's format; for a pinned model from the hub, the folder of that revision."""
        name, revision = self.config.name, self.config.revision
        try:
            schema, identifier = parse_model_name(name)
            if schema == "hf-hub" and revision:
                return f"local-dir:{snapshot_download(identifier, revision=revision)}"
        except Exception as error:  # the libraries may raise anything; the message goes to the operator
            raise self._cannot_load("name", error) from error
        if revision and (schema == "local-dir" or not self._tag.get("hf_hub")):
            raise misconfigured(
                self.name, "revision", f"{name!r} does not come from the hub, which alone has revisions"
            )
        return name

    @cached_property
    def architecture(self) -> Architecture:
        """The model's vector size and image preprocessing."""
        source = self.source
        try:
            return Architecture.read(source, self.config.pretrained)
        except Exception as error:  # the library may raise anything; the message goes to the operator
            raise self._cannot_load("name", error) from error

    @cached_property
    def text(self) -> dict[str, Any]:
        """Text tower's section of the architecture's configuration."""
        source = self.source
        try:
            found: dict[str, Any] = configurations(source, self.config.pretrained)[0]["text_cfg"]
        except Exception as error:
            raise self._cannot_load("name", error) from error
        return found

    def tower(self, kind: Kind) -> torch.nn.Module:
        """Return a tower, on the CPU in float32: the image tower, or the whole model that contains the text tower.

        Unused parts of the model are released with the last tower.
        """
        if self._whole is None:
            self._whole = self._create().eval().requires_grad_(False)
            self.digest = fingerprint(self._whole.named_parameters())
        whole = self._whole
        self._waiting.discard(kind)
        if not self._waiting:
            self._whole = None
        return whole.get_submodule("visual") if kind == "image" else whole

    def _create(self) -> torch.nn.Module:
        _ = self.architecture  # report a wrong name before a wrong checkpoint
        checkpoint = self._checkpoint() if self._seed is None else None
        try:
            return self._pretrained(checkpoint) if self._seed is None else self._random(self._seed)
        except Exception as error:
            raise self._cannot_load("pretrained" if checkpoint else "name", error) from error

    def _pretrained(self, checkpoint: str | None) -> torch.nn.Module:
        tag = self._tag
        if tag and bool(tag.get("quick_gelu")) != bool(get_model_config(self._known_name).get("quick_gelu")):
            # Same behaviour as the library, because existing indexes may have been built that way.
            logger.warning(MISMATCH, self.name, self.config.pretrained, self.config.name)
        if tag.get("hf_hub") and "file" not in tag:
            checkpoint = self._downloaded(tag["hf_hub"])
        if not self.revision:
            self.revision = commit_of(checkpoint or self._folder())
        model: torch.nn.Module = open_clip.create_model(
            self.source, checkpoint, require_pretrained=True, weights_only=True
        )
        return model

    def _random(self, seed: int) -> torch.nn.Module:
        # Drawn on the CPU in float32, so that a seed gives the same weights on every device and in every precision.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: torch.nn.Module = open_clip.create_model(self.source, load_weights=False, pretrained_text=False)
        return model

    def _checkpoint(self) -> str | None:
        """Return the checkpoint for open_clip to load: a tag, a path, or None if the name implies it."""
        name, pretrained = self.config.name, self.config.pretrained
        if parse_model_name(name)[0] is not None:
            if pretrained:
                reason = f"{name!r} brings its own weights, so this must be empty, or {RANDOM}SEED"
                raise misconfigured(self.name, "pretrained", reason)
            return None
        if pretrained.startswith(PACKAGE):
            return str(in_package(self.name, "pretrained", pretrained, _CHECKPOINTS))
        if not (self._tag or Path(pretrained).is_file()):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self._known_name)) or "none"
            reason = f"{pretrained!r} is neither a checkpoint's path nor a tag of {name!r}; its tags: {tags}"
            raise misconfigured(self.name, "pretrained", reason)
        return pretrained

    @property
    def _tag(self) -> dict[str, Any]:
        """Return open_clip's metadata for the tag; empty if `pretrained` is not a tag."""
        found: dict[str, Any] = get_pretrained_cfg(self._known_name, self.config.pretrained)
        return found

    @property
    def _known_name(self) -> str:
        return self.config.name.replace("/", "-")

    def _downloaded(self, where: str) -> str:
        """Download a tag's checkpoint at the pinned revision; open_clip itself would take the latest."""
        repository, filename = os.path.split(where)
        return str(download_pretrained_from_hf(repository, filename or None, self.config.revision or None))

    def _folder(self) -> str:
        schema, identifier = parse_model_name(self.source)
        if schema != "hf-hub":
            return str(identifier)
        return str(download_pretrained_from_hf(identifier, filename="open_clip_config.json"))

    def _cannot_load(self, field: str, error: Exception) -> Exception:
        return misconfigured(self.name, field, f"cannot load {getattr(self.config, field)!r}: {error}")
