"""Sample clips of a validation: mp4 with sound in a folder, moving pictures in TensorBoard."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, cat

from datamodules.batches import FPS
from datamodules.media.video import write_video


def side_by_side(real: Tensor, rendered: Tensor) -> np.ndarray:
    """Clips ``(T, 3, H, W)`` uint8 beside each other as ``(T, H, 2 W, 3)``: real left, rendered right."""
    return np.ascontiguousarray(cat([real, rendered], dim=3).permute(0, 2, 3, 1).cpu().numpy())


def write_sample(folder: Path, name: str, frames: np.ndarray, waveform: Tensor) -> None:
    """Write ``FOLDER/NAME.mp4`` of frames ``(T, H, W, 3)`` uint8 and sound ``(640 T,)``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / f"{name}.mp4", frames, audio=waveform.cpu().numpy(), crf=23, threads=1)


def log_sample(loggers: Iterable[Any], tag: str, frames: np.ndarray, step: int) -> None:
    """Hand frames ``(T, H, W, 3)`` uint8 to every TensorBoard logger as an animated GIF.

    It is what ``SummaryWriter.add_video`` writes, without moviepy, for lack of which that drops videos silently.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    boards = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    if not boards:
        return
    first, *others = (Image.fromarray(frame) for frame in frames)
    gif, duration = io.BytesIO(), round(1000 / FPS)
    first.save(gif, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    height, width = frames.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif.getvalue())
    for logger in boards:
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        logger.experiment._get_file_writer().add_summary(summary, step)
