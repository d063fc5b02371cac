"""What all metrics of this project are."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.protocol import is_lag


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


class ClipValues(JudgeMetric):
    """Measures that a function gives for one clip, over clips: of lags the median, of all others the mean.

    A clip without a value (NaN) does not count. ``names`` are those of the measures.
    """

    names: ClassVar[tuple[str, ...]]
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
            kept = getattr(self, name)
            values = (dim_zero_cat(kept) if len(kept) else torch.zeros(0, device=self.device)).double()
            found[name] = values.quantile(0.5) if is_lag(name) and len(values) else values.mean()
        return found
