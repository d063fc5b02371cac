"""How tests of the stages train."""

import functools
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
from torch.utils.data import DataLoader


@pytest.fixture
def trainer(tmp_path) -> Callable[..., L.Trainer]:
    """Makes quiet trainers on the CPU."""
    return functools.partial(
        L.Trainer,
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.fixture
def loader() -> Callable[..., DataLoader]:
    """Makes a loader of the items of a batch, a NamedTuple."""

    def make(batch: Any, batch_size: int, repeat: int = 1) -> DataLoader:
        items = [type(batch)(*(value[i] for value in batch)) for i in range(len(batch[0]))]
        return DataLoader(items * repeat, batch_size=batch_size)

    return make
