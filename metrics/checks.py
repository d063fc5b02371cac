"""Checks of what metrics are given: a wrong argument is refused in one line, before any state has changed."""

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


def _has_shape(values: object, shape: Shape) -> bool:
    return (
        isinstance(values, Tensor)
        and values.ndim == len(shape)
        and all(isinstance(want, str) or want == have for want, have in zip(shape, values.shape, strict=True))
    )


def _check_floats(
    values: Tensor, shapes: tuple[Shape, ...], limit: float, wanted: str
) -> tuple[float, float]:
    """Least and greatest of floats of one of the shapes; others, NaN and values beyond the limit raise ValueError."""
    told = type(values).__name__
    if isinstance(values, Tensor):
        told = f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"
        if values.is_floating_point() and any(_has_shape(values, shape) for shape in shapes):
            # one pass, and one wait for the device
            low, high = torch.stack(values.detach().aminmax()).tolist() if values.numel() else (0.0, 0.0)
            if -limit <= low and high <= limit:
                return low, high
            told += f" from {low:g} to {high:g}"
    raise ValueError(f"{wanted}; got {told}")


def check_images(images: Tensor, shape: Shape = PICTURES) -> None:
    """Make sure that images are uint8, or float in [-1, 1]; a warning where floats look like [0, 1].

    Raises:
        ValueError: Another shape or type, floats beyond -1.5 or 1.5, or NaN.
    """
    if _has_shape(images, shape) and images.dtype == torch.uint8:
        return
    wanted = f"images must be ({', '.join(map(str, shape))}) uint8, or float in [-1, 1]"
    low, high = _check_floats(images, (shape,), 1 + OVERSHOOT, wanted)
    if 0 <= low < high <= 1:
        told = f"images lie in {low:g} to {high:g}: they are taken as [-1, 1], not as [0, 1]"
        warnings.warn(told, stacklevel=2)


def as_uint8(images: Tensor, shape: Shape = PICTURES) -> Tensor:
    """Images as 8-bit values: uint8 as they are, floats clamped to [-1, 1] and rounded; errors as of `check_images`."""
    check_images(images, shape)
    return to_uint8(images)


def as_uint8_pair(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both images ``(N, 3, H, W)`` by `as_uint8`.

    Raises:
        ValueError: See `check_images`; or their shapes differ.
    """
    check_images(predicted)
    check_images(target)
    if predicted.shape != target.shape:
        raise ValueError(f"images of shape {tuple(predicted.shape)} against {tuple(target.shape)}")
    return to_uint8(predicted), to_uint8(target)


def check_sound(waveform: Tensor) -> None:
    """Make sure that sound is ``(S,)`` float in [-1, 1].

    Raises:
        ValueError: Another shape or type, samples beyond -2 or 2, or NaN.
    """
    _check_floats(waveform, (("S",),), LOUDEST, "sound must be (S,) float in [-1, 1]")


def check_rows(rows: Tensor, *shapes: Shape, name: str = "features") -> None:
    """Make sure that rows, called ``name``, are finite floats of one of the shapes.

    Raises:
        ValueError: They aren't.
    """
    wanted = " or ".join(str(shape).replace("'", "") for shape in shapes)
    limit = torch.finfo(torch.float64).max
    _check_floats(rows, shapes, limit, f"{name} must be {wanted} float and finite")


def check_side(real: bool) -> None:
    """Make sure that a side is True or False.

    Raises:
        ValueError: Neither, such as a word, which would count as True.
    """
    if not isinstance(real, bool | np.bool_):
        raise ValueError(f"real must be True or False; got {real!r}")
