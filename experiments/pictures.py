"""Contact sheets and side-by-side videos of frames."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datamodules.batches import SAMPLE_RATE
from datamodules.media.pictures import resize_bilinear
from datamodules.media.video import write_video
from experiments.results import write_whole

MARGIN = 4
PAPER = (250, 250, 247)
INK = (40, 44, 52)


def sample_portrait() -> np.ndarray:
    """A public-domain photograph that comes with matplotlib, Grace Hopper, ``(600, 512, 3)`` uint8 RGB."""
    from matplotlib.cbook import get_sample_data

    file: Any = get_sample_data("grace_hopper.jpg")
    with file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """``count`` frames evenly spread over the clip ``(T, H, W, 3)``, the first and the last among them."""
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]


def contact_sheet(rows: Mapping[str, np.ndarray | Sequence[np.ndarray]], path: Path, tile: int = 96) -> Path:
    """Write a PNG with one labelled row of frames for each entry.

    Args:
        rows: Label -> ``(N, H, W, 3)`` uint8 RGB frames, or a sequence of such frames; rows may differ in N.
        path: The PNG to write.
        tile: Edge of a frame on the sheet in pixels.

    Raises:
        ValueError: No frames.
    """
    arrays = {label: np.asarray(frames) for label, frames in rows.items() if len(frames)}
    if not arrays:
        raise ValueError("a contact sheet needs frames")
    font = ImageFont.load_default(size=max(11, tile // 8))
    gutter = max(int(font.getlength(label)) for label in arrays) + 3 * MARGIN
    columns = max(len(frames) for frames in arrays.values())
    step = tile + MARGIN
    sheet = Image.new("RGB", (gutter + columns * step, len(arrays) * step + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (label, frames) in enumerate(arrays.items()):
        top = MARGIN + row * step
        draw.text((MARGIN, top + tile // 2), label, fill=INK, font=font, anchor="lm")
        for column, frame in enumerate(resize_bilinear(frames, tile)):
            sheet.paste(Image.fromarray(frame), (gutter + column * step, top))
    return write_whole(path, png_bytes(sheet))


def png_bytes(image: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def side_by_side(
    videos: Mapping[str, np.ndarray],
    path: Path,
    audio: np.ndarray | None = None,
    tile: int = 160,
    crf: int = 23,
) -> Path:
    """Write an mp4 with clips beside each other under their labels, cut to the shortest.

    Args:
        videos: Label -> ``(T, H, W, 3)`` uint8 RGB square frames.
        path: The mp4 to write; its folder is made if missing.
        audio: ``(S,)`` speech at 16 kHz, or None.
        tile: Edge of a clip in the video in pixels.
        crf: x264 quality.
    """
    length = min(len(frames) for frames in videos.values())
    header = Image.new("RGB", (tile * len(videos), 24), PAPER)
    draw = ImageDraw.Draw(header)
    for column, label in enumerate(videos):
        draw.text(
            (column * tile + tile // 2, 12),
            label,
            fill=INK,
            anchor="mm",
            font=ImageFont.load_default(size=13),
        )
    wide = np.concatenate([resize_bilinear(frames[:length], tile) for frames in videos.values()], axis=2)
    top = np.broadcast_to(np.asarray(header), (length, *np.asarray(header).shape))
    frames = np.concatenate([top, wide], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = None if audio is None else audio[: length * SAMPLE_RATE // 25]
    write_video(path, frames, audio=sound, sample_rate=SAMPLE_RATE, crf=crf)
    return path
