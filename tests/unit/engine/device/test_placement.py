from __future__ import annotations

import pytest

from legit_embedding.engine.device.nvml import Gpu
from legit_embedding.engine.device.placement import places

ALLOWED = range(16)


@pytest.fixture
def bus(tmp_path):
    """Four GPUs on two NUMA nodes."""
    for number in range(4):
        folder = tmp_path / f"0000:{number}a:00.0"
        folder.mkdir()
        (folder / "local_cpulist").write_text("0-3,8-11\n" if number < 2 else "4-7,12-15\n")
        (folder / "numa_node").write_text(f"{number // 2}\n")
    return tmp_path


def gpus(count: int) -> list[Gpu]:
    return [Gpu(n, f"GPU-{n}", "H100", bus_id=f"00000000:{n}A:00.0") for n in range(count)]


def test_each_gpu_gets_its_part_of_the_cores_beside_it(bus):
    found = places(gpus(4), bus, ALLOWED)
    assert [place.cpus for place in found] == ["0-3", "8-11", "4-7", "12-15"]
    assert [place.node for place in found] == [0, 0, 1, 1]
    assert found[2].command == (
        "CUDA_VISIBLE_DEVICES=GPU-2 numactl --physcpubind=4-7 --membind=1 "
        "celery -A legit_embedding worker --pool=gpubatch -n gpu2@%h -c 4"
    )


def test_a_gpu_alone_has_its_whole_node(bus):
    assert [place.cpus for place in places(gpus(1), bus, ALLOWED)] == ["0-3,8-11"]


def test_only_cores_that_may_be_used_count(bus):
    assert [place.cpus for place in places(gpus(2), bus, range(4))] == ["0-1", "2-3"]


def test_without_a_word_from_the_system_all_share_what_there_is(tmp_path):
    found = places(gpus(2), tmp_path, ALLOWED)
    assert [place.cpus for place in found] == ["0-7", "8-15"]
    assert found[0].node is None
    assert found[0].command.startswith("CUDA_VISIBLE_DEVICES=GPU-0 taskset -c 0-7 celery ")


def test_more_gpus_than_cores_share_them(tmp_path):
    assert [place.cpus for place in places(gpus(3), tmp_path, range(2))] == ["0-1"] * 3
