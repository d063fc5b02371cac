"""Where trained models generate: a GPU where there is one, unless ``IFMDM_DEVICE`` says otherwise."""

import os
import re
from collections.abc import Mapping

import torch

from datamodules.errors import UserError

DEVICE_VARIABLE = "IFMDM_DEVICE"
"""Environment variable: ``cpu``, ``cuda`` or ``cuda:N``."""


def inference_device(environment: Mapping[str, str] = os.environ) -> torch.device:
    """Device of the models of all commands that use one: as ``IFMDM_DEVICE`` says, else the first GPU of CUDA, else the CPU.

    Raises:
        UserError: The variable names no such device, or one that is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = environment.get(DEVICE_VARIABLE, "").strip()
    if not name:
        return torch.device("cuda" if gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"{DEVICE_VARIABLE} is '{name}': use cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(
            f"{DEVICE_VARIABLE} is '{name}', but torch finds {gpus} GPUs here; use cpu or leave it out"
        )
    return device
