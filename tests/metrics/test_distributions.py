"""Distances of motion over several processes."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from metrics.distributions import BlinkIntervalDistance, HeadSpectrumDistance, HeadVelocityDistance

BUILDS = {
    "velocity": (HeadVelocityDistance, (12,)),
    "blinks": (BlinkIntervalDistance, (12,)),
    "spectrum": (HeadSpectrumDistance, (3, 5)),
}


def add(metric: HeadVelocityDistance, name: str, seed: int) -> None:
    """The rows of one clip on either side."""
    generator = torch.Generator().manual_seed(seed)
    metric.update(torch.rand(BUILDS[name][1], generator=generator), real=True)
    metric.update(torch.rand(BUILDS[name][1], generator=generator) + 0.2, real=False)


def _process(rank: int, port: int, name: str, shares: list[list[int]], results: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = BUILDS[name][0]()
    for seed in shares[rank]:
        add(metric, name, seed)
    torch.save(metric.compute(), results / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shares", [[[0], [1, 2]], [[0, 1, 2], []]], ids=["split", "one idle"])
@pytest.mark.parametrize("name", BUILDS)
def test_two_processes_give_what_one_gives(name, shares, tmp_path):
    """Also where one process has no clip at all, or none yet after a reset."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_process, (port, name, shares, tmp_path), nprocs=2, start_method="fork")
    alone = BUILDS[name][0]()
    add(alone, name, 9)
    alone.reset()
    assert torch.isnan(alone.compute())
    for seed in range(3):
        add(alone, name, seed)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert float(found) == pytest.approx(float(alone.compute()), rel=1e-12)
