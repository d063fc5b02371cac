"""What all metrics of this project are."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class JudgeMetric(Metric):
    """A metric that a ``MetricCollection`` leaves by itself.

    Collections merge metrics whose states have the same names and, after the first update, the same values, as they have
    where a real picture is compared with itself. A state of its own class's name tells each apart.

    Args:
        kwargs: Of torchmetrics.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state(f"_{type(self).__name__}", torch.zeros(()), dist_reduce_fx="sum")


class MeanOfClips(JudgeMetric):
    """Mean over clips of one value each; a clip without a value (NaN) does not count."""

    total: Tensor
    clips: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("clips", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def count(self, value: float) -> None:
        """Add the value of one clip."""
        if np.isfinite(value):
            self.total += value
            self.clips += 1

    def compute(self) -> Tensor:
        """Mean over the clips; NaN without any."""
        return self.total / self.clips


def gathered(values: Sequence[Tensor] | Tensor, device: torch.device) -> Tensor:
    """State of single values ``(N,)``, before or after it was gathered from all processes, as float64; N may be 0."""
    return (dim_zero_cat(values) if len(values) else torch.zeros(0, device=device)).double()


class ClipValues(JudgeMetric):
    """Several values of each clip, over clips: of lags the median, of all others the mean.

    A clip without a value (NaN) does not count. ``names`` are those of the measures, ``lags`` those of them that are
    shifts in frames.
    """

    names: ClassVar[tuple[str, ...]]
    lags: ClassVar[tuple[str, ...]] = ()
    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        for name in self.names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def add(self, values: Mapping[str, float]) -> None:
        """Add the measures of one clip, by their names."""
        for name in self.names:
            if np.isfinite(values[name]):
                getattr(self, name).append(
                    torch.tensor([values[name]], dtype=torch.float32, device=self.device)
                )

    def compute(self) -> dict[str, Tensor]:
        """Each measure by its name; NaN without clips."""
        found = {}
        for name in self.names:
            values = gathered(getattr(self, name), self.device)
            found[name] = values.quantile(0.5) if name in self.lags and len(values) else values.mean()
        return found
