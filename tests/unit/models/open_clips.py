"""open_clip architectures of every kind of text tower, so small that they are made in a blink."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import AutoConfig, PreTrainedTokenizerFast

from tests.texts import texts

if TYPE_CHECKING:
    from pathlib import Path

_VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
_TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_SIGLIP = {
    "context_length": 64,
    "width": 32,
    "heads": 2,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "tokenizer_kwargs": {"clean": "canonicalize"},
}
_DECODER = {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2}


def add_models(folder: Path) -> None:
    """Make them known to open_clip in this process, with the tokenizers that the names of some refer to."""
    register_model(legit_tiny_eva02)
    register_model(legit_tiny_siglip)
    sentencepiece, gemma, roberta = (folder / name for name in ("t5", "gemma", "roberta"))
    _unigram().save_pretrained(sentencepiece)
    byte_fallback_bpe().save_pretrained(gemma)
    _roberta(roberta)
    models: dict[str, dict[str, Any]] = {
        "tiny-eva02": {
            "vision_cfg": _timm("legit_tiny_eva02", "token", None),
            "text_cfg": _TEXT,
            "custom_text": True,
        },
        "tiny-vit": {"vision_cfg": _VIT, "text_cfg": _TEXT},
        "tiny-siglip": {
            "vision_cfg": _timm("legit_tiny_siglip", "map", "none"),
            "text_cfg": {**_SIGLIP, "vocab_size": 600, "hf_tokenizer_name": str(sentencepiece)},
            "custom_text": True,
            "init_logit_bias": -10,
        },
        "tiny-siglip2": {
            "vision_cfg": _timm("legit_tiny_siglip", "map", "none"),
            "text_cfg": {
                **_SIGLIP,
                "vocab_size": 700,
                "hf_tokenizer_name": str(gemma),
                "act_kwargs": {"approximate": "tanh"},
            },
            "custom_text": True,
            "init_logit_bias": -10,
        },
        "tiny-coca": {
            "vision_cfg": _VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
            "text_cfg": _TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": _DECODER,
            "custom_text": True,
        },
        "tiny-roberta": {
            "vision_cfg": _VIT,
            "text_cfg": {
                "hf_model_name": str(roberta),
                "hf_tokenizer_name": str(roberta),
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "mlp",
            },
        },
        "tiny-clipa": {
            "vision_cfg": _VIT,
            "text_cfg": {
                **_TEXT,
                "context_length": 32,
                "vocab_size": 700,
                "hf_tokenizer_name": str(gemma),
                "tokenizer_kwargs": {"strip_sep_token": True},
                "no_causal_mask": True,
                "pool_type": "last",
            },
        },
        "tiny-eos": {
            "vision_cfg": _VIT,
            "text_cfg": {
                **_TEXT,
                "vocab_size": 700,
                "hf_tokenizer_name": str(gemma),
                "pool_type": "eos",
                "eos_id": 1,
            },
        },
    }
    for name, model in models.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 48 if "siglip" in name else 24} | model))
    open_clip.add_model_config(folder)


def legit_tiny_eva02(pretrained: bool = False, **settings: Any) -> Eva:
    """As EVA02's image tower in every respect but its size."""
    ours = {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True}
    kept = _own(settings)
    return Eva(**_TIMM, **ours, mlp_ratio=4 * 2 / 3, use_rot_pos_emb=True, ref_feat_shape=(4, 4), **kept)


def legit_tiny_siglip(pretrained: bool = False, **settings: Any) -> VisionTransformer:
    """As SigLIP's image tower in every respect but its size."""
    return VisionTransformer(**_TIMM, class_token=False, **_own(settings))


def _own(settings: dict[str, Any]) -> dict[str, Any]:
    """What timm tells the model itself, and not the function that fetches weights."""
    return {name: value for name, value in settings.items() if name in {"num_classes", "global_pool"}}


def _timm(name: str, pool: str, proj: str | None) -> dict[str, Any]:
    tower = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": proj}
    return {"image_size": 32} | tower


def _unigram() -> PreTrainedTokenizerFast:
    """Like T5's, which SigLIP uses."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts(100),
        trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    # As SigLIP's, it pads with the end of a text.
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>")


def byte_fallback_bpe(**settings: Any) -> PreTrainedTokenizerFast:
    """Like Gemma's, which SigLIP 2 uses."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        texts(100), trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        sep_token="<bos>",
        **settings,
    )


def _roberta(folder: Path) -> None:
    """A text tower of transformers, with its configuration and its tokenizer."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts(100),
        trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=700,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=130,
        pad_token_id=1,
    )
    config.save_pretrained(folder)
