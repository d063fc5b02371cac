"""The MediaPipe Face Landmarker: opening it, quietly, with clear errors where a part of it is missing."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from datamodules import assets
from datamodules.errors import UserError

if TYPE_CHECKING:
    from mediapipe.tasks.python.vision import FaceLandmarker

MODEL = "face_landmarker.task"
LANDMARKS = 478
SYSTEM_PACKAGES = ("libgl1", "libglib2.0-0", "libegl1", "libgles2")


class MissingLibraryError(UserError):
    """A system library that MediaPipe loads is not installed."""


@contextmanager
def open_landmarker(mode: Literal["image", "video"], faces: int) -> Iterator["FaceLandmarker"]:
    """A Face Landmarker for the time of a ``with`` block, on the CPU.

    Args:
        mode: ``image`` looks at each picture afresh; ``video`` tracks and smooths and wants rising time stamps.
        faces: Most faces to return.

    Raises:
        MissingAssetError: The model file is absent.
        MissingLibraryError: A system library is absent.
    """
    model = assets.find(MODEL)
    with _quiet_start():
        landmarker = _create(str(model), mode, faces)
    with landmarker:
        yield landmarker


def _create(model: str, mode: str, faces: int) -> "FaceLandmarker":
    try:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=model),
            running_mode=vision.RunningMode[mode.upper()],
            num_faces=faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        return vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MissingLibraryError(
            f"MediaPipe cannot start ({reason}); install its system libraries: apt-get install {' '.join(SYSTEM_PACKAGES)}"
        ) from None


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep MediaPipe's start-up notes, which its C++ side writes to file descriptor 2, off the terminal.

    The notes are no errors; failures come back as exceptions.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def head_rotation(matrix: np.ndarray) -> np.ndarray:
    """Head rotation from MediaPipe's facial transformation matrix.

    The matrix turns the canonical face (x image right, y up, z out of the face) into camera space (x image right,
    y up, z towards the camera) and is read as R_y(yaw) R_x(-pitch) R_z(-roll).

    Args:
        matrix: ``(4, 4)`` float.

    Returns:
        ``(3,)`` float32 degrees: yaw > 0 towards image right, pitch > 0 up, roll > 0 clockwise in the image.
    """
    rotation = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[1, 2], -1, 1))
    roll = np.arctan2(-rotation[1, 0], rotation[1, 1])
    return np.degrees([yaw, pitch, roll]).astype(np.float32)
