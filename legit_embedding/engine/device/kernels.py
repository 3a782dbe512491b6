"""Selection of torch's attention kernels."""

from __future__ import annotations

import torch


def choose_attention(*, cudnn: bool) -> None:
    """Allow torch's attention to use cuDNN, or restrict it to the flash, memory-efficient and plain kernels.

    On recent GPUs torch prefers cuDNN, which builds a plan for each new shape. That takes tens of milliseconds of host
    time, and nearly every text batch has a new shape. The setting applies to the whole process.
    """
    switch = getattr(torch.backends.cuda, "enable_cudnn_sdp", None)
    if switch is not None:
        switch(cudnn)
