"""Arithmetic that a judge's numbers are stated for, whatever the training around it has set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def single_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 as IEEE has it: without autocast and, on NVIDIA cards, without TF32's 10 bits of mantissa.

    PyTorch convolves in TF32 unless told otherwise, and multiplies in it after ``torch.set_float32_matmul_precision``.

    Args:
        device: Where is computed; its settings are as before at the end.
    """
    cudnn: Any = torch.backends.cudnn  # mypy sees none of its parts
    operations = (torch.backends.cuda.matmul, cudnn.conv)
    kept = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for operation, precision in zip(operations, kept, strict=True):
            operation.fp32_precision = precision
