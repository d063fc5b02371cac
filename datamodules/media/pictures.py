"""Pictures: reading them, and the one conversion between stored pixels and the floats that networks see."""

import io
import math
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.errors import UserError
from datamodules.files import require_file

if TYPE_CHECKING:  # pictures are read, and refused, without loading torch
    from torch import Tensor

MIN_SIDE = 16
MAX_PIXELS = 50_000_000
MAX_BYTES = 2**30
_FORMATS = "JPEG PNG WEBP AVIF GIF BMP DIB TIFF JPEG2000 PPM PSD ICO SGI QOI PCX TGA"
"""Not all that Pillow knows: for EPS, by whatever name, it starts Ghostscript."""
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_BITS_PER_SAMPLE = 258  # tag of a TIFF
_OVERSHOOT = 2.0
"""Float pictures are 0..1, a little more where they were sharpened; what goes beyond is of another scale."""


def to_float(pixels: "np.ndarray | Tensor") -> "Tensor":
    """Pixels, uint8 array ``(..., H, W, 3)`` or tensor ``(..., 3, H, W)``, as float32 ``(..., 3, H, W)`` in [-1, 1]."""
    import torch

    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, -3)
    return pixels.float() / 127.5 - 1


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Pixels uint8 ``(H, W, 3)`` as a JPEG of a quality 1 to 95 gives them back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


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
    """Read a picture of the formats that people use, upright as its EXIF tag says, transparency over white.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UserError: Missing, empty or damaged file, no picture, a side under 16 pixels, or over 50 megapixels or 1 GiB.
    """
    path = require_file(path, "image", regular=True)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: image file over {MAX_BYTES // 2**20} MiB; save it again as PNG or JPEG")
    with path.open("rb") as file:
        head = file.read(len(_PNG))
    try:
        try:
            return _read_known(path, path)
        except ValueError:
            if head != _PNG:
                raise
            return _read_known(
                path, io.BytesIO(_without_text(path.read_bytes()))
            )  # it may be more than Pillow takes
    except UnidentifiedImageError:
        if head[:4] in _TIFF:
            return _read_tiff(path)
        raise UserError(f"{path}: is not an image that can be read; give a JPEG, PNG or WebP") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: image over {MAX_PIXELS // 1_000_000} megapixels; scale it down") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{path}: damaged image ({error}); save it again") from None


def _read_known(path: Path, stored: Path | io.BytesIO) -> np.ndarray:
    """A picture that Pillow knows; the path is for messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
        Image.init()  # old versions of Pillow lack some
        image = Image.open(stored, formats=[name for name in _FORMATS.split() if name in Image.OPEN])
    with image:
        width, height = image.size
        told = f"{path}: image of {width} x {height} pixels"
        if width * height > MAX_PIXELS:
            raise UserError(f"{told}, more than {MAX_PIXELS // 1_000_000} megapixels; scale it down")
        if min(width, height) < MIN_SIDE:
            raise UserError(f"{told}, each side must have {MIN_SIDE} or more; give a larger one")
        tags = getattr(image, "tag_v2", {})
        return _to_rgb(ImageOps.exif_transpose(image), tags)


def _without_text(png: bytes) -> bytes:
    """A PNG without its chunks of text: none of them shows."""
    kept, place = [png[:8]], 8
    while place + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(png[place : place + 12 + length])
        place += 12 + length
    return b"".join(kept)


def _to_rgb(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_8_bits(np.asarray(image), tags.get(_BITS_PER_SAMPLE, (16,))[0])
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _to_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Floats, or integers of so many bits, as uint8; ValueError where they are of no scale."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind in "iu":
        return ((pixels.astype(np.int64) & (2**bits - 1)) >> (bits - 8)).astype(np.uint8)
    if pixels.dtype.kind != "f" or not np.isfinite(pixels).all():
        raise ValueError("pixels that are no finite numbers")
    peak = float(pixels.max())
    white = 1.0 if peak <= _OVERSHOOT else 255.0 if peak < 256 else 65535.0
    return np.rint(pixels.astype(np.float64) * (255 / white)).clip(0, 255).astype(np.uint8)


def _read_tiff(path: Path) -> np.ndarray:
    """A TIFF that Pillow does not know: colours as floats, doubles, half precision, planes one after another.

    Raises:
        UserError: tifffile doesn't know it either, or it is too large.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            height, width = page.shaped[-3:-1]
            if math.prod(page.shaped) > 4 * MAX_PIXELS or min(height, width) < MIN_SIDE:
                raise UserError(f"{path}: image of {width} x {height} pixels; scale it")
            planes = page.asarray().reshape(-1, *page.shaped[-3:])[:, :, :, :3]
            colours = np.moveaxis(planes[:3, ..., 0], 0, -1) if len(planes) > 1 else planes[0]
            pixels = _to_8_bits(colours, int(page.bitspersample))
    except UserError:
        raise
    except Exception as error:  # damage shows in many ways
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: TIFF that cannot be read ({told}); save it with 8 bits a colour") from None
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
