from __future__ import annotations

import pytest
import torch

from tests.unit.engine.backends import Model


@pytest.fixture(autouse=True)
def torchs_own():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_attention_keeps_off_cudnn_unless_a_setting_brings_it_back(start_engine):
    start_engine(Model())
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()
    start_engine(Model(), cudnn_attention=True)
    assert torch.backends.cuda.cudnn_sdp_enabled()
