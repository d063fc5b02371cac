"""Arithmetic that a judge's numbers are stated for, whatever the training around it has set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def single_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 as IEEE has it: without autocast, TF32's 10 bits of mantissa (NVIDIA) and bfloat16's 7 (CPUs).

    PyTorch convolves in TF32 unless told otherwise, and after ``torch.set_float32_matmul_precision`` multiplies in it, on
    CPUs that can in bfloat16.

    Args:
        device: Where is computed; its settings are as before at the end.
    """
    backends: Any = torch.backends  # mypy sees none of their parts
    operations = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    kept = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for operation, precision in zip(operations, kept, strict=True):
            operation.fp32_precision = precision
