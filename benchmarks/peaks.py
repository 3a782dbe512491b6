"""The peak speed of GPUs in dense matrix products, by their makers' data sheets."""

from __future__ import annotations

import torch

# TFLOPS in bf16, without sparsity, accumulating in fp32. The first name that a GPU's own name contains counts.
_BF16 = {
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "B200": 2250.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
}


def dense_peak(name: str, dtype: torch.dtype) -> float | None:
    """FLOPS of this GPU in half precision; None for one that is not listed, and for other types."""
    if dtype not in {torch.bfloat16, torch.float16}:
        return None
    return next((tflops * 1e12 for known, tflops in _BF16.items() if known in name), None)
