"""What a sweep looks like: one speech at every point, as a sheet of frames and as a grid of videos with sound."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datamodules.media.audio import fit_length, load_audio
from datamodules.media.pictures import resize_bilinear
from datamodules.media.video import VideoReader, write_video
from experiments.pictures import INK, PAPER, contact_sheet
from experiments.sweep.plan import SweepPlan
from experiments.sweep.points import PointMeter
from metrics.evaluation.clips import ClipFiles

TILE = 144
HEAD = 20
"""Pixels above a tile for its label."""
COLUMNS = 9


def write_videos(plan: SweepPlan, meter: PointMeter, shown: Sequence[ClipFiles], folder: Path) -> None:
    """Write ``sweep_sheet_CLIP.png`` and ``sweep_CLIP.mp4`` of the shown clips, a line for each series."""
    for files in shown:
        singles = [plan.points[start : start + COLUMNS] for start in range(0, len(plan.points), COLUMNS)]
        lines = [*(one.points for one in plan.series), *singles]
        videos = [{point.label: meter.path(point, files, "mp4") for point in line} for line in lines]
        rows = {label: spread_of(path, COLUMNS) for line in videos for label, path in line.items()}
        contact_sheet(rows, folder / f"sweep_sheet_{files.name}.png")
        video_grid(videos, folder / f"sweep_{files.name}.mp4", load_audio(files.speech))


def spread_of(path: Path, count: int) -> np.ndarray:
    """Frames evenly spread over a video, ``(N, H, W, 3)`` uint8."""
    reader = VideoReader(path)
    return reader.get(np.linspace(0, len(reader) - 1, min(count, len(reader))).round().astype(int))


def video_grid(lines: Sequence[dict[str, Path]], path: Path, speech: np.ndarray, tile: int = TILE) -> Path:
    """Write an mp4 of videos of one length under their labels, line by line; no more than a frame of each is in memory.

    Args:
        lines: Label -> video, of each line of the grid.
        path: The mp4.
        speech: ``(S,)`` at 16 kHz, cut or padded to the videos.
        tile: Edge of a video in the grid in pixels.
    """
    places = {
        (row, column): (label, video)
        for row, line in enumerate(lines)
        for column, (label, video) in enumerate(line.items())
    }
    readers = [VideoReader(video) for _, video in places.values()]
    length = min(map(len, readers))
    size = (tile * max(map(len, lines)), (tile + HEAD) * len(lines))
    page, font = Image.new("RGB", size, PAPER), ImageFont.load_default(size=12)
    draw = ImageDraw.Draw(page)
    for (row, column), (label, _) in places.items():
        where = (column * tile + tile // 2, row * (tile + HEAD) + HEAD // 2)
        draw.text(where, _fitting(label, font, tile), fill=INK, anchor="mm", font=font)
    canvas = np.array(page)

    def frames() -> Iterator[np.ndarray]:
        for shown in zip(*(reader.frames(range(length)) for reader in readers), strict=True):
            frame = canvas.copy()
            for (row, column), picture in zip(places, shown, strict=True):
                top, left = row * (tile + HEAD) + HEAD, column * tile
                frame[top : top + tile, left : left + tile] = resize_bilinear(picture[None], tile)[0]
            yield frame

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames(), audio=fit_length(speech, length), crf=20)
    return path


def _fitting(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A label as far as it fits into so many pixels."""
    while font.getlength(label) > width - 4 and len(label) > 2:
        label = f"{label[:-2]}…"
    return label
