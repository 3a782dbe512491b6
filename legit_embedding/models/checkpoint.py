"""Files of one transformers model, from the hub, a folder or an installed package, loaded once for all its towers."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
from transformers.utils.hub import cached_file
from transformers.utils.logging import disable_progress_bar

from legit_embedding.errors import ConfigError
from legit_embedding.models.families import Family, refusal
from legit_embedding.models.fingerprint import fingerprint
from legit_embedding.models.settings import misconfigured
from legit_embedding.models.sidecar import Sidecar
from legit_embedding.models.weights import PACKAGE, commit_of, in_package, random_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PretrainedConfig, PreTrainedModel

    from legit_embedding.models.config import Kind, ModelConfig

# Encoder-decoder models of which only the encoder is loaded, as in sentence-transformers.
_TWO_HALVES = frozenset({"mt5", "t5", "umt5"})
# The head over the first token is read only by the pooling of that name, and checkpoints may lack it.
_POOLER = "pooler."
_HALVES: Mapping[Kind, tuple[str, ...]] = {
    "image": ("vision_model", "visual_projection", "vision_proj"),
    "text": ("text_model", "text_projection", "text_proj"),
}


class Checkpoint:
    """Lazily read files that the settings of one model refer to.

    ``name`` is a hub id, a folder or ``package:NAME``. ``pretrained`` is empty for the weights that belong to the name,
    a folder or ``package:NAME`` to read everything from there instead, or ``random:SEED``. ``revision`` pins files from
    the hub.

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
        self.has_pooler = False
        """True if the weights include a head over the first token; known once they are loaded."""
        self._seed = random_seed(name, config)
        self._loaded: PreTrainedModel | None = None

    @cached_property
    def source(self) -> str:
        """Hub id or folder from which all files are read."""
        own = self.config.pretrained and self._seed is None
        field, source = ("pretrained", self.config.pretrained) if own else ("name", self.config.name)
        if source.startswith(PACKAGE):
            source = str(in_package(self.name, field, source, ["config.json"]).parent)
        if not source:
            raise misconfigured(self.name, "name", "expected a hub id, a folder or package:NAME")
        if self.config.revision and Path(source).is_dir():
            reason = f"{source!r} is a folder, and only a model of the hub has revisions"
            raise misconfigured(self.name, "revision", reason)
        return source

    @property
    def hub(self) -> dict[str, Any]:
        """Common keyword arguments for the library's loading functions; code shipped with a model never runs."""
        return {"revision": self.config.revision or None, "trust_remote_code": False}

    @property
    def revision(self) -> str:
        """The pinned revision, or the commit in the hub's cache; empty if neither is known."""
        return self.config.revision or self._commit

    @cached_property
    def _commit(self) -> str:
        path = self._file("config.json")
        return commit_of(path) if path is not None else ""

    @cached_property
    def architecture(self) -> PretrainedConfig:
        """The model's own configuration."""
        said = self.read("config.json")
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(self.source, **self.hub)
        except Exception as error:
            raise self.cannot_load(refusal(said) or error) from error
        reason = refusal(said)
        if reason:
            raise self.cannot_load(reason)
        return config

    @cached_property
    def family(self) -> Family:
        """The architecture's family, checked to embed all the kinds that the settings name."""
        try:
            family = Family.of(self.architecture)
        except ValueError as error:
            raise self.cannot_load(error) from None
        for kind in self.config.serves:
            if kind not in family.kinds:
                known = " and ".join(f"{each}s" for each in family.kinds)
                reason = f"{self.architecture.model_type!r} embeds {known} only, so this must be {family.kinds[0]!r}"
                raise misconfigured(self.name, "kinds" if self.config.kinds else "kind", reason)
        return family

    @cached_property
    def sidecar(self) -> Sidecar:
        """sentence-transformers' metadata for the model."""
        return Sidecar.read(self.read, self.architecture.model_type)

    def read(self, path: str) -> Any:  # noqa: ANN401 - a list or an object, depending on the file
        """Read a JSON file of the model. Returns an empty object if the file is missing."""
        found = self._file(path)
        return json.loads(found.read_text("utf-8")) if found is not None else {}

    def tensors(self, folder: str) -> Mapping[str, torch.Tensor]:
        """Read the weights of a layer stored in its own folder.

        Raises:
            ConfigError: the folder has no weights.
        """
        path = self._file(f"{folder}/model.safetensors")
        if path is not None:
            return load_file(path)
        path = self._file(f"{folder}/pytorch_model.bin")
        if path is None:
            raise self.cannot_load(f"the weights of its layer in {folder} are not there")
        found: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found

    def model(self, dtype: torch.dtype) -> PreTrainedModel:
        """Return the model shared by all its towers, on the CPU until the first tower moves it."""
        if self._loaded is None:
            disable_progress_bar()  # type: ignore[no-untyped-call]
            self._loaded = self._without_other_half(self.guarded(lambda: self._made(dtype)))
        return self._loaded

    def guarded(self, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - depends on the loader
        """Call a function that reads files.

        Raises:
            ConfigError: the call failed. The library may raise any exception; its message is passed on to the operator.
        """
        try:
            return load()
        except ConfigError:
            raise
        except Exception as error:
            raise self.cannot_load(error) from error

    def cannot_load(self, reason: object) -> ConfigError:
        """Build the error for a model that cannot be loaded."""
        field = "pretrained" if self.config.pretrained and self._seed is None else "name"
        return misconfigured(self.name, field, f"cannot load {getattr(self.config, field)!r}: {reason}")

    def _file(self, path: str) -> Path | None:
        try:
            found = cached_file(self.source, path, revision=self.config.revision or None)
        except OSError:
            return None
        return Path(found) if found else None

    @property
    def _auto(self) -> type[AutoModel | AutoModelForTextEncoding]:
        return AutoModelForTextEncoding if self.architecture.model_type in _TWO_HALVES else AutoModel

    def _made(self, dtype: torch.dtype) -> PreTrainedModel:
        _ = self.family
        model, missing = self._pretrained(dtype) if self._seed is None else self._random(self._seed, dtype)
        model.config.use_cache = False  # otherwise a decoder returns the keys and values of every batch
        kept = [(name, tensor) for name, tensor in model.named_parameters() if name not in missing]
        self.digest = fingerprint(kept)
        self.has_pooler = not any(name.startswith(_POOLER) for name in missing)
        return model.eval().requires_grad_(False)  # type: ignore[no-any-return, no-untyped-call]

    def _pretrained(self, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        model, info = self._auto.from_pretrained(self.source, dtype=dtype, output_loading_info=True, **self.hub)
        missing = set(info["missing_keys"])
        needed = sorted(key for key in missing if not key.startswith(_POOLER))
        if needed:  # the library would initialise them randomly
            raise self.cannot_load(f"{len(needed)} of its weights are not in the checkpoint, {needed[0]} for one")
        return model, missing

    def _random(self, seed: int, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = self._auto.from_config(self.architecture, dtype=torch.float32)  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return model, set()

    def _without_other_half(self, model: PreTrainedModel) -> PreTrainedModel:
        """Drop the tower that is not used."""
        if self.family.kinds != self.config.serves:
            for kind in set(self.family.kinds) - set(self.config.serves):
                for part in _HALVES[kind]:
                    if isinstance(getattr(model, part, None), torch.nn.Module):
                        setattr(model, part, None)
        return model
