"""Which of torch's attention kernels may be chosen."""

from __future__ import annotations

import torch


def choose_attention(*, cudnn: bool) -> None:
    """Let torch's attention use cuDNN, or keep it to the flash, memory-efficient and plain kernels.

    On recent GPUs torch prefers cuDNN, which makes a plan for each new shape: that takes tens of milliseconds of the
    host's time, and nearly every batch of texts has a shape of its own. The choice holds for the whole process.
    """
    switch = getattr(torch.backends.cuda, "enable_cudnn_sdp", None)
    if switch is not None:
        switch(cudnn)
