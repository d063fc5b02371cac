"""One tester of all metrics, and what their tests share."""

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

Update = tuple[Any, ...]
"""Arguments of one update; a mapping at the end holds those with a name."""


def updated(metric: Metric, updates: Sequence[Update]) -> Metric:
    for *arguments, last in updates:
        named = last if isinstance(last, dict) else {}
        metric.update(*arguments, *([] if named else [last]), **named)
    return metric


def in_two_processes(folder: Path, work: Callable[[int], Any]) -> list[Any]:
    """Results of ``work(rank)`` in two processes of one gloo group."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run(rank: int) -> None:
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        where = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
        results.put((rank, work(rank)))
        torch.distributed.destroy_process_group()

    children = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    return [result for _, result in sorted(results.get() for _ in children)]


@pytest.fixture
def check_metric(tmp_path: Path) -> Callable[..., None]:
    """A metric gives the same for its updates in any order and after a reset, in two processes and in a collection."""

    def check(build: Callable[[], Metric], updates: Sequence[Update], alike: int = 1) -> None:
        rel = 1e-6
        metric = updated(build(), updates)
        value = float(metric.compute())
        assert value == value
        assert float(updated(build(), updates[::-1]).compute()) == pytest.approx(value, rel=rel)
        metric.reset()
        assert metric.update_count == 0
        assert not float(metric.compute()) == value
        assert float(updated(metric, updates).compute()) == pytest.approx(value, rel=1e-12)

        def work(rank: int) -> list[float]:
            shares = ([updates[:-1], updates[-1:]], [updates, []], [[], updates])  # uneven; one idle
            return [float(updated(build(), share[rank]).compute()) for share in shares]

        for found in in_two_processes(tmp_path, work):
            assert found == pytest.approx([value] * 3, rel=rel)

        # Two that start alike and go on differently stay apart.
        both = MetricCollection({"one": build(), "other": build()}, compute_groups=False)
        for *arguments, last in updates[:alike]:
            named = last if isinstance(last, dict) else {}
            both.update(*arguments, *([] if named else [last]), **named)
        both.compute()
        updated(both["one"], updates[alike:])
        together = both.compute()
        assert float(together["one"]) == pytest.approx(value, rel=1e-12)
        assert float(together["other"]) != float(together["one"])

    return check


@pytest.fixture
def no_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any public model file."""
    (tmp_path / "assets").mkdir()
    monkeypatch.setenv("IFMDM_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def assert_refused() -> Callable[..., None]:
    """The arguments raise one line, and the states stay as they were."""

    def states(metric: Metric) -> dict[str, Any]:
        return {
            name: [part.clone() for part in value] if isinstance(value, list) else value.clone()
            for name, value in metric.metric_state.items()
        }

    def check(metric: Metric, *arguments: Any, told: str = "must be|against|pixels", **named: Any) -> None:
        before = states(metric)
        with pytest.raises(ValueError, match=told) as raised:
            metric.update(*arguments, **named)
        assert "\n" not in str(raised.value)
        for name, value in before.items():
            torch.testing.assert_close(states(metric)[name], value, atol=0, rtol=0)

    return check


@pytest.fixture(scope="session")
def noise_pictures() -> Callable[..., Tensor]:
    """Random pictures of a shape ``(..., 3, H, W)`` uint8, all 256 levels."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)

    return make


@pytest.fixture(scope="session")
def real_pairs(shared: Path) -> tuple[Tensor, Tensor]:
    """Frames 256 px high of a real clip and those a quarter of a second later, ``(6, 3, 256, W)`` uint8."""
    from datamodules.media.video import VideoReader

    reader = VideoReader(shared / "data/clips/hdtf_wda_katiehill.mp4")
    first = np.arange(6) * 20
    both = torch.from_numpy(reader.get([*first, *(first + 6)])).permute(0, 3, 1, 2).float()
    size = (256, 256 * both.shape[3] // both.shape[2])
    small = torch.nn.functional.interpolate(both, size=size, mode="area").round().to(torch.uint8)
    return small[:6], small[6:]
