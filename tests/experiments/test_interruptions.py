"""Trainings that are ended, killed or starved go on as if nothing had been, or keep what is good and say one line."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from experiments.train import TrainingResult

ROOT = Path(__file__).parents[2]
STAGES = ("autoencoder", "statistics", "diffusion", "sync_expert")


class LostError(Exception):
    """Stands for a kill: nothing is saved."""


class End(Callback):
    """Ends a training at a step: by a signal to itself, or at once."""

    def __init__(self, step: int, by: str) -> None:
        self.step, self.by = step, by

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.by == "lost":
                raise LostError
            os.kill(os.getpid(), signal.Signals[self.by])


def content(result: TrainingResult) -> dict[str, Any]:
    """What must be the same whether a training was interrupted or not."""
    found = torch.load(result.checkpoint, map_location="cpu", weights_only=True)
    names = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "random_state")
    return {name: found[name] for name in names if name in found}


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    if isinstance(first, Tensor):
        return [] if torch.equal(first, second) else [place]
    if isinstance(first, dict | list | tuple):
        items = first.items() if isinstance(first, dict) else enumerate(first)
        assert len(first) == len(second)
        return [one for key, value in items for one in differences(value, second[key], f"{place}.{key}")]
    return [] if first == second else [place]


@pytest.mark.parametrize("by", ["SIGTERM", "lost"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_training_ends_bit_for_bit_as_one_that_was_not(
    stage: str, by: str, train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    """An epoch has three steps; SIGTERM saves within one, what is lost goes on from the end of one. A worker loads ahead."""
    common = ["trainer.max_steps=8", "data.num_workers=1"]
    whole = train(stage, *common, f"run_dir={tmp_path / 'whole'}")
    resume: list[str] = []
    for step in (4, 5):
        end = f"+callbacks.end={{_target_: {__name__}.End, step: {step}, by: {by}}}"
        with pytest.raises(LostError if by == "lost" else SystemExit) as ended:
            train(stage, *common, *resume, end)
        assert by == "lost" or ended.value.args == (143,)
        resume = ["resume=last"]
    parts = train(stage, *common, *resume)
    assert differences(content(whole), content(parts)) == []
    assert (tmp_path / "run/run.json").read_text().count('"epochs": 3,') == 1
    assert sorted(path.name for path in parts.checkpoint.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_reaching_max_steps_within_an_epoch_loses_nothing(
    train: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    common = ("statistics", "model.scheduler=null")  # which is made for a number of steps
    whole = train(*common, "trainer.max_steps=7", f"run_dir={tmp_path / 'whole'}")
    for steps, resume in ((2, "null"), (5, "last"), (6, "last"), (7, "last")):
        parts = train(*common, f"trainer.max_steps={steps}", f"resume={resume}")
    assert differences(content(whole), content(parts)) == []
