"""Progress as plain lines, and the checkpoint of a training that stops between two validations."""

import logging
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException
from torch.utils.data import DataLoader

from lightning_modules.callbacks import last_checkpoint
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.progress import PlainProgress, progress_bar


class Line(LightningModule):
    """A line through the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch - batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", (self.weight - 1).square(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path: Path, callbacks: list, **options: object) -> Trainer:
    """Train with four batches an epoch."""
    loader = DataLoader(torch.ones(4), batch_size=1)
    quiet = {"logger": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    options = {"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path} | quiet | options
    trainer = Trainer(callbacks=callbacks, **options)
    trainer.fit(Line(), loader, loader)
    return trainer


@pytest.mark.parametrize(("seconds", "count"), [(0, 2 * (4 + 1)), (600, 2)])  # of batches and validations
def test_plain_progress_says_where_it_is_and_how_good(
    tmp_path: Path, caplog: Any, capsys: Any, seconds: float, count: int
) -> None:
    with caplog.at_level(logging.INFO, logger="lightning_modules"):
        fit(tmp_path, [PlainProgress(seconds)], max_epochs=2, enable_checkpointing=False)
    lines = [record.message for record in caplog.records if record.name.startswith("lightning_modules")]
    assert len(lines) == count
    assert "epoch 1  batch 4/4  step 8" in lines[-1]
    assert "val/loss" in lines[-1]
    assert "\r" not in capsys.readouterr().err  # no bar beside it


@pytest.mark.parametrize(("terminal", "kind"), [(True, TQDMProgressBar), (False, PlainProgress)])
def test_bar_on_a_terminal_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert isinstance(progress_bar(), kind)


@pytest.mark.parametrize(("options", "step"), [({"max_steps": 6}, 6), ({"max_epochs": 2}, 8)])
@pytest.mark.parametrize("validation", [1.0, 0])
def test_last_checkpoint_is_of_the_last_step(
    tmp_path: Path, options: dict, step: int, validation: float
) -> None:
    trainer = fit(tmp_path, [LastCheckpoint(str(tmp_path))], limit_val_batches=validation, **options)
    files = [path.name for path in tmp_path.glob("*.ckpt")]
    assert files == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == step
    (tmp_path / "last.ckpt").unlink()
    trainer.validate(Line(), DataLoader(torch.ones(4)), verbose=False)  # is no training
    assert not (tmp_path / "last.ckpt").exists()


class Signal(Callback):
    """Sends a signal to the last process in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 6 and trainer.global_rank == trainer.world_size - 1:
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("processes", [1, 2])
def test_slurm_is_asked_for_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Once, though one of two processes alone is warned."""
    asked = tmp_path / "asked"

    def run(words: list[str], check: bool) -> None:
        with asked.open("a") as file:
            print(*words, file=file)

    monkeypatch.setattr(last_checkpoint, "SLURMEnvironment", SimpleNamespace(detect=lambda: True))
    monkeypatch.setattr(last_checkpoint, "subprocess", SimpleNamespace(run=run))
    for name, value in (("JOB_ID", "7"), ("ARRAY_JOB_ID", "5"), ("ARRAY_TASK_ID", "2")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    strategy = "auto" if processes == 1 else "ddp_fork"
    with pytest.raises((SystemExit, ProcessExitedException)) as ended:
        fit(
            tmp_path,
            [LastCheckpoint(str(tmp_path)), Signal()],
            max_epochs=4,
            devices=processes,
            strategy=strategy,
        )
    assert 143 in (getattr(ended.value, "code", None), getattr(ended.value, "exit_code", None))
    assert asked.read_text() == "scontrol requeue 5_2\n"
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6
