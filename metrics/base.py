"""What all metrics of this project are."""

from typing import Any

import torch
from torchmetrics import Metric


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
