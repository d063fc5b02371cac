"""Metrics over clips and over pictures, of which each measure's own is made.

In a ``MetricCollection`` give ``compute_groups=False``: by default a collection merges metrics whose states have the same
names and after the first update the same values, as they have where a real clip is compared with itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def known_mean(values: np.ndarray | float) -> float:
    """Mean of the finite values, of any shape; NaN without one."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")


class ClipMean(Metric):
    """A measure over clips: mean of its finite values, or their median where it is a lag in frames.

    ``ClipMean(head_motion)`` is updated with what `metrics.motion.head_motion` takes, one clip at a time;
    ``ClipMean()`` with finished values.

    Args:
        function: Value of a clip, or values of its frames, whose mean counts; NaN where there is none.
        median: Whether the median of the clips is taken.
        settings: Keyword arguments of the function.
    """

    total: Tensor
    clips: Tensor
    values: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None

    def __init__(
        self, function: Callable[..., float | np.ndarray] = float, median: bool = False, **settings: Any
    ) -> None:
        super().__init__()
        self.function, self.median, self.settings = function, median, settings
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        if median:
            self.add_state("values", [], dist_reduce_fx="cat")

    def update(self, *seen: Any) -> None:
        """Add one clip by what the function takes."""
        value = known_mean(self.function(*seen, **self.settings))
        if np.isfinite(value):
            self.total += value
            self.clips += 1
            if self.median:  # float32, as an idle process offers the others an empty list of it
                self.values.append(torch.tensor([value], dtype=torch.float32, device=self.device))

    def compute(self) -> Tensor:
        """Mean or median over the clips, float64; NaN without any."""
        if self.median and self.clips > 0:
            return dim_zero_cat(self.values).double().quantile(0.5)
        return self.total / self.clips


class PictureMean(Metric):
    """Mean over pictures or their pixels of what is added up."""

    total: Tensor
    count: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor, count: int | None = None) -> None:
        """Add values of any shape, of so many pictures or pixels; None: as many as there are."""
        self.total += values.double().sum()
        self.count += values.numel() if count is None else count

    def compute(self) -> Tensor:
        """The mean, float64; NaN of nothing."""
        return self.total / self.count
