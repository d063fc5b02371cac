"""Pictures: reading them, and the one conversion between stored pixels and the floats that networks see."""

import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.errors import UserError
from datamodules.files import require_file

if TYPE_CHECKING:  # pictures are read, and refused, without loading torch
    from torch import Tensor

MIN_SIDE = 16
MAX_PIXELS = 50_000_000


def to_float(pixels: "np.ndarray | Tensor") -> "Tensor":
    """Pixels, uint8 array ``(..., H, W, 3)`` or tensor ``(..., 3, H, W)``, as float32 ``(..., 3, H, W)`` in [-1, 1]."""
    import torch

    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, -3)
    return pixels.float() / 127.5 - 1


def to_uint8(images: "Tensor") -> "Tensor":
    """What networks paint as pixels: floats in [-1, 1], clamped and rounded; any shape, uint8 stays as it is."""
    import torch

    if images.dtype == torch.uint8:
        return images
    # in single precision at least: bfloat16 has no room for 256 levels between 0 and 2
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    return ((exact.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_pixels(images: "Tensor") -> np.ndarray:
    """Floats ``(..., 3, H, W)`` in [-1, 1] as uint8 array ``(..., H, W, 3)``."""
    return to_uint8(images).movedim(-3, -1).cpu().numpy()


def resize_bilinear(frames: np.ndarray, size: int) -> np.ndarray:
    """Frames ``(N, H, W, 3)`` uint8 as ``(N, size, size, 3)``, for models and pages: antialiased bilinear interpolation."""
    import torch
    from torch.nn import functional as F

    if frames.shape[1:3] == (size, size):
        return frames
    image = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    resized = F.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture of any format that Pillow knows, upright as its EXIF tag says, transparency over white.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UserError: Missing, empty or damaged file, no picture, a side under 16 pixels, or over 50 megapixels.
    """
    path = require_file(path, "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(path)
        with image:
            width, height = image.size
            told = f"{path}: image of {width} x {height} pixels"
            if width * height > MAX_PIXELS:
                raise UserError(f"{told}, more than {MAX_PIXELS // 1_000_000} megapixels; scale it down")
            if min(width, height) < MIN_SIDE:
                raise UserError(f"{told}, each side must have {MIN_SIDE} or more; give a larger one")
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise UserError(f"{path}: is not an image that can be read; give a JPEG, PNG or WebP") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: image over {MAX_PIXELS // 1_000_000} megapixels; scale it down") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{path}: damaged image ({error}); save it again") from None


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
