"""Trainings of several processes on CPUs: they end together, and go on as if nothing had been."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from experiments import train as training
from experiments.config import compose
from experiments.train import TrainingResult
from tests.experiments.test_interruptions import content, differences, finish, start

TWO = ["trainer.devices=2", "data.batch_size=2"]
FORKED = "trainer.strategy=ddp_fork_find_unused_parameters_true"
CALLBACKS = """
import os, pathlib, signal, time
import torch
from lightning.pytorch import Callback
class Draw(Callback):
    def on_train_batch_end(self, trainer, *_):
        torch.rand(1 + trainer.global_rank)
class End(Callback):
    def __init__(self, step, by):
        self.step, self.by = step, signal.Signals[by]
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and trainer.global_rank == 1:
            pathlib.Path(trainer.default_root_dir, "ended").touch()
            os.kill(os.getpid(), self.by)
"""


def ending(step: int, by: str = "SIGKILL") -> str:
    """The word that ends the second of two processes by a signal."""
    return f"+callbacks.end={{_target_: interruption.End, step: {step}, by: {by}}}"


@pytest.fixture(autouse=True)
def callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interruption.py").write_text(CALLBACKS)
    monkeypatch.syspath_prepend(tmp_path)


def last_step(run: Path) -> int:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("by", "status", "saved"),
    [pytest.param("SIGKILL", 2, 3, marks=pytest.mark.slow), ("SIGTERM", 143, 5)],
)
def test_two_processes_go_on_bit_for_bit(
    by: str,
    status: int,
    saved: int,
    words: Callable[..., list[str]],
    train: Callable[..., TrainingResult],
    tmp_path: Path,
) -> None:
    """An epoch has three steps; each process draws random numbers of its own."""
    common = [*TWO, FORKED, "trainer.max_steps=8", "+callbacks.draw={_target_: interruption.Draw}"]
    whole = train("diffusion", *common, f"run_dir={tmp_path / 'whole'}")
    first, second = content(whole)["random_state"]
    assert differences(first, second) != []
    ended = finish(start(words("diffusion", *common, ending(5, by)), path=tmp_path), 120)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert last_step(tmp_path / "run") == saved
    parts = train("diffusion", *common, "resume=last")
    assert differences(content(whole), content(parts)) == []


TORCHRUN = [
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "experiments",
    "train",
]
TRAIN = ["-m", "experiments", "train"]


@pytest.mark.parametrize(
    ("program", "strategy"),
    [
        (TRAIN, FORKED),
        pytest.param(TRAIN, "trainer.strategy=ddp", marks=pytest.mark.slow),
        pytest.param(TORCHRUN, "trainer.strategy=ddp", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_ends_all_others(
    program: list[str], strategy: str, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    overrides = words("autoencoder", *TWO, strategy, "trainer.max_steps=1000", ending(4))
    process = start(overrides, path=tmp_path, program=program)
    done = finish(process, 120)
    seconds = time.time() - (tmp_path / "run/ended").stat().st_mtime
    assert done.returncode != 0
    told = done.stderr.partition(" torch/distributed/elastic/")[
        0
    ]  # torchrun then reports which process it was
    assert "Traceback" not in told
    assert told.count("ifmdm: error: another process of this training has ended") == 1
    assert seconds < 20
    assert last_step(tmp_path / "run") == 3


def test_more_processes_than_cores_are_refused(
    words: Callable[..., list[str]],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """As many as there are cores are not, nor what a machine with GPUs would do."""
    monkeypatch.setattr(training, "cores_at_hand", lambda: 2)
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("it would have started them"))
    refused(["train", *words("statistics", "trainer.devices=99", FORKED)], "trainer.devices=99", "2 cores")
    refused(["train", *words("statistics", "trainer.devices=3", "trainer.accelerator=auto")], "devices=3")
    assert not (tmp_path / "run").exists()
    training.refuse_more_processes_than_cores(compose(words("statistics", "trainer.devices=2", FORKED)))


def test_another_share_of_the_batches_is_told_once(
    words: Callable[..., list[str]],
    train: Callable[..., TrainingResult],
    caplog: pytest.LogCaptureFixture,
) -> None:
    unchanging = ["model.scheduler=null", "resume=last"]
    train("statistics", "trainer.max_steps=2", *unchanging[:1])
    train("statistics", "trainer.max_steps=3", *unchanging, "data.batch_size=4")
    assert "order of batches" not in caplog.text
    train("statistics", "trainer.max_steps=4", *unchanging, "data.batch_size=2")
    assert caplog.text.count("order of batches") == 1
    assert "1 process(es) with batches of 4, resumed by 1 process(es) with batches of 2" in caplog.text
    done = finish(start(words("statistics", "trainer.max_steps=5", *unchanging, *TWO, FORKED)))
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "order of batches" in line]
    assert len(told) == 1
    assert "1 process(es) with batches of 2, resumed by 2 process(es) with batches of 2" in told[0]
