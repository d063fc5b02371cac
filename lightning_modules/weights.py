"""Weights of a module in memory and in safetensors files: whole or not at all, finite, and fitting."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import file_inside, require_shapes, tensor_shapes, whole_output


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of a state dict below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_state(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load strictly.

    Raises:
        UserError: Names or shapes differ, or a value is not finite.
    """
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{source}: {name} holds values that are NaN or infinite; train or get it again")
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{source}: weights don't fit the network: {first[:200]}") from error


def write_weights(path: Path, module: nn.Module, half: bool) -> None:
    """Write a module's state as safetensors, whole or not at all.

    With ``half`` matrices and kernels become float16 (half the size), except those with values too large for it. Vectors,
    such as biases and running statistics, are small and keep their precision.
    """

    def stored(value: Tensor) -> Tensor:
        value = value.detach().cpu().contiguous()
        if not half or not value.is_floating_point() or value.ndim < 2:
            return value
        return value.half() if value.half().isfinite().all() else value

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_output(path) as temporary:
        save_file({name: stored(value) for name, value in module.state_dict().items()}, temporary)


def load_weights(module: nn.Module, folder: Path, name: str) -> None:
    """Load a safetensors file ``name`` of a model folder into a module; half-precision values come back as float32.

    Names and shapes are compared before any tensor is read.

    Raises:
        UserError: Missing or damaged file, a link out of the folder, or weights that don't fit the module.
    """
    path = file_inside(folder, name)
    wanted = {key: value.shape for key, value in module.state_dict().items()}
    require_shapes(tensor_shapes(path), wanted, path)
    try:
        state = load_file(path)
    except Exception as error:  # such as a type of number that torch doesn't know
        raise UserError(f"{path}: can't be read as weights ({type(error).__name__})") from error
    load_state(module, {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, path)
