"""What metrics ask of their arguments: a wrong one is refused in one line, before any state has changed."""

import warnings

import numpy as np
import torch
from torch import Tensor

from datamodules.media.pictures import to_uint8

Shape = tuple[str | int, ...]
"""Sizes of a tensor, letters where any is right."""
PICTURES: Shape = ("N", 3, "H", "W")
OVERSHOOT = 0.5
"""Floats so far beyond [-1, 1] still pass, as networks and resizing go beyond; they are clamped. 0..255 does not pass."""
LOUDEST = 2.0
"""Samples beyond [-1, 1] still pass up to here, as decoders overshoot; 16-bit samples do not."""


def _told(values: object) -> str:
    if not isinstance(values, Tensor):
        return type(values).__name__
    return f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"


def _has_shape(values: Tensor, shape: Shape) -> bool:
    return len(values.shape) == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, values.shape, strict=True)
    )


def _range(values: Tensor) -> tuple[float, float]:
    """Least and greatest value, in one pass and one wait for the device; NaN if there is one."""
    if not values.numel():
        return 0.0, 0.0
    low, high = torch.stack(values.detach().aminmax()).tolist()
    return low, high


def check_images(images: Tensor, shape: Shape = PICTURES, name: str = "images") -> None:
    """Make sure that images are uint8, or float in [-1, 1]; a warning where floats look like [0, 1].

    Args:
        images: What was given.
        shape: What it should have.
        name: What it is called.

    Raises:
        ValueError: Another shape or type, floats beyond -1.5 or 1.5, or NaN.
    """
    told = _told(images)
    if isinstance(images, Tensor) and _has_shape(images, shape):
        if images.dtype == torch.uint8:
            return
        if images.is_floating_point():
            low, high = _range(images)
            if low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
                if 0 <= low < high <= 1:
                    warnings.warn(
                        f"{name} lie in {low:g} to {high:g}: they are taken as [-1, 1], not as [0, 1]",
                        stacklevel=2,
                    )
                return
            told = f"{told} from {low:g} to {high:g}"
    wanted = ", ".join(str(size) for size in shape)
    raise ValueError(f"{name} must be ({wanted}) uint8, or float in [-1, 1]; got {told}")


def as_uint8(images: Tensor, shape: Shape = PICTURES, name: str = "images") -> Tensor:
    """Checked images as 8-bit values: uint8 unchanged, floats in [-1, 1] rounded, up to 0.5 beyond clamped first.

    Args:
        images: What was given.
        shape: What it should have.
        name: What it is called.

    Raises:
        ValueError: Images of another shape, type or range, see `check_images`.
    """
    check_images(images, shape, name)
    return to_uint8(images)


def check_pair(predicted: Tensor, target: Tensor) -> None:
    """Make sure that both are images ``(N, 3, H, W)`` of one shape; see `check_images`.

    Raises:
        ValueError: They aren't, or their shapes differ.
    """
    check_images(predicted)
    check_images(target)
    if predicted.shape != target.shape:
        raise ValueError(f"images of shape {tuple(predicted.shape)} against {tuple(target.shape)}")


def check_sound(waveform: Tensor) -> None:
    """Make sure that sound is ``(S,)`` float in [-1, 1].

    Raises:
        ValueError: Another shape or type, samples beyond -2 or 2, or NaN.
    """
    told = _told(waveform)
    if isinstance(waveform, Tensor) and waveform.ndim == 1 and waveform.is_floating_point():
        low, high = _range(waveform)
        if low >= -LOUDEST and high <= LOUDEST:
            return
        told = f"{told} from {low:g} to {high:g}"
    raise ValueError(f"sound must be (S,) float in [-1, 1]; got {told}")


def check_rows(rows: Tensor, *shapes: Shape, name: str = "features", finite: bool = True) -> None:
    """Make sure that rows are floats of one of the shapes.

    Args:
        rows: What was given.
        shapes: What it may have.
        name: What it is called.
        finite: Whether NaN and infinity are refused.

    Raises:
        ValueError: They aren't.
    """
    told = _told(rows)
    if isinstance(rows, Tensor) and rows.is_floating_point() and any(_has_shape(rows, s) for s in shapes):
        if not finite or bool(rows.isfinite().all()):
            return
        told = f"{told} with NaN or infinity"
    wanted = " or ".join(str(shape).replace("'", "") for shape in shapes)
    raise ValueError(f"{name} must be {wanted} float{' and finite' if finite else ''}; got {told}")


def side_of(real: bool) -> int:
    """Index of a side in the states of a distance: 0 real, 1 generated.

    Raises:
        ValueError: Neither True nor False, such as a word, which would count as True.
    """
    if not isinstance(real, bool | np.bool_):
        raise ValueError(f"real must be True or False; got {real!r}")
    return 0 if real else 1
