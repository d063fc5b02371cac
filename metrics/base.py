"""What metrics of torchmetrics are made of here: means over clips, means over pictures, distances of rows.

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

from metrics.checks import check_rows, check_side


def known_mean(values: np.ndarray | float) -> float:
    """Mean of the finite values, of any shape; NaN without one."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")


class ClipMean(Metric):
    """A measure over clips: mean of its finite values, or their median where it is a lag in frames.

    ``ClipMean(head_motion)`` is updated with what `metrics.motion.head_motion` takes, one clip at a time;
    ``ClipMean()`` with finished values. ``settings`` are the function's; of values of frames the mean counts.
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
    """Mean over pictures or their pixels of what is added up; ``kwargs`` are torchmetrics'."""

    total: Tensor
    count: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor, count: int | None = None) -> None:
        """Add values of any shape, of so many pictures or pixels; None: as many as there are."""
        self.total += values.double().sum()
        self.count += values.numel() if count is None else count

    def compute(self) -> Tensor:
        """The mean, float64; NaN of nothing."""
        return self.total / self.count


class SidesDistance(Metric):
    """Distance between all rows of ``width`` of the real and of the generated clips; ``fewest`` on each side."""

    real: list[Tensor]
    generated: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self, width: int = 1, fewest: int = 1, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.width, self.fewest = width, fewest
        self._empty = torch.empty(0, width, dtype=dtype)
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")
        self._begin()

    def _begin(self) -> None:
        # A process without rows must still offer the others a tensor of the same type and width to gather.
        self.real.append(self._empty.to(self.device))
        self.generated.append(self._empty.to(self.device))

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._begin()

    def rows_of(self, values: Tensor) -> Tensor:
        """Rows ``(N, width)`` of what a clip is updated with: here of rows, of width 1 also ``(N,)``.

        Raises:
            ValueError: Others, or not finite.
        """
        shapes = (("N", self.width),) if self.width > 1 else (("N",), ("N", 1))
        check_rows(values, *shapes, name="rows")
        return values.reshape(-1, self.width)

    def update(self, values: Tensor, real: bool) -> None:
        """Add what `rows_of` takes, of one clip."""
        check_side(real)
        (self.real if real else self.generated).append(self.rows_of(values).to(self._empty.dtype))

    def compute(self) -> Tensor:
        """The distance; NaN with too few rows on a side."""
        real, generated = (dim_zero_cat(side) for side in (self.real, self.generated))
        if min(len(real), len(generated)) < self.fewest:
            return torch.full((), torch.nan, dtype=torch.float64, device=real.device)
        return self.distance(real, generated)

    def distance(self, real: Tensor, generated: Tensor) -> Tensor:
        """Distance of rows ``(N, width)`` and ``(M, width)``: scalar float64."""
        raise NotImplementedError
