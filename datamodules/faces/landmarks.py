"""The MediaPipe Face Landmarker: opening it, quietly, and what it measures on frames."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from datamodules import assets
from datamodules.batches import FPS
from datamodules.errors import UserError

if TYPE_CHECKING:
    from mediapipe import Image as MediapipeImage
    from mediapipe.tasks.python.vision import FaceLandmarker

MODEL = "face_landmarker.task"
LANDMARKS = 478
BLENDSHAPES = 52
SYSTEM_PACKAGES = ("libgl1", "libglib2.0-0", "libegl1", "libgles2")


class MissingLibraryError(UserError):
    """A system library that MediaPipe loads is not installed."""


@contextmanager
def open_landmarker(mode: Literal["image", "video"], faces: int) -> Iterator["FaceLandmarker"]:
    """A Face Landmarker of ``faces`` faces at most, for the time of a ``with`` block, on the CPU.

    Mode ``image`` looks at each picture afresh; ``video`` tracks and smooths, faster, and wants rising time stamps.

    Raises:
        MissingAssetError: The model file is absent.
        MissingLibraryError: A system library is absent.
    """
    model = assets.find(MODEL)
    # MediaPipe arms SIGPROF timers in its threads and has the signal ignored once, unknown to Python; Lightning's Trainer
    # puts back what Python knows, the default, and the next timer would end the process.
    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGPROF) is signal.SIG_DFL:
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
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
    """Keep MediaPipe's start-up notes (C++, file descriptor 2) off the terminal; failures come back as exceptions."""
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
    """Yaw, pitch and roll ``(3,)`` float32 in degrees of MediaPipe's facial transformation matrix ``(4, 4)``.

    The matrix turns the canonical face (x image right, y up, z out of the face) into camera space (x image right,
    y up, z towards the camera) and is read as R_y(yaw) R_x(-pitch) R_z(-roll): yaw > 0 towards image right, pitch > 0 up,
    roll > 0 clockwise in the image.
    """
    rotation = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[1, 2], -1, 1))
    roll = np.arctan2(-rotation[1, 0], rotation[1, 1])
    return np.degrees([yaw, pitch, roll]).astype(np.float32)


@dataclass(frozen=True)
class FaceMeasurements:
    """What the Face Landmarker sees in T frames; values of frames without a face are NaN.

    Attributes:
        found: ``(T,)`` bool.
        landmarks: ``(T, 478, 3)`` float32: x right and y down in [0, 1] of the frame, z in the scale of x, smaller = nearer.
        blendshapes: ``(T, 52)`` float32 in [0, 1].
        blendshape_names: Names of the 52 columns; empty if no face was found at all.
        rotation: ``(T, 3)`` float32 degrees: yaw > 0 towards image right, pitch > 0 up, roll > 0 clockwise in the image.
        translation: ``(T, 3)`` float32, about centimetres: x image right, y up, z towards the camera (so negative).
    """

    found: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: tuple[str, ...]
    rotation: np.ndarray
    translation: np.ndarray


def measure_landmarks(
    frames: Iterable[np.ndarray], mode: Literal["image", "video"] = "image", fps: float = FPS
) -> FaceMeasurements:
    """Measure the most prominent face of frames ``(H, W, 3)`` uint8 RGB; modes and errors as of `open_landmarker`.

    ``fps`` is for the smoothing of ``video``.
    """
    with open_landmarker(mode, faces=1) as landmarker:
        pictures = enumerate(map(mediapipe_image, frames))
        if mode == "image":
            results = [landmarker.detect(picture) for _, picture in pictures]
        else:
            results = [landmarker.detect_for_video(one, round(index * 1000 / fps)) for index, one in pictures]
    count = len(results)
    landmarks = np.full((count, LANDMARKS, 3), np.nan, np.float32)
    blendshapes = np.full((count, BLENDSHAPES), np.nan, np.float32)
    rotation, translation = np.full((2, count, 3), np.nan, np.float32)
    names: tuple[str, ...] = ()
    for index, result in enumerate(results):
        if not result.face_landmarks:
            continue
        landmarks[index] = [(point.x, point.y, point.z) for point in result.face_landmarks[0]]
        blendshapes[index] = [shape.score for shape in result.face_blendshapes[0]]
        names = names or tuple(shape.category_name for shape in result.face_blendshapes[0])
        matrix = np.asarray(result.facial_transformation_matrixes[0])
        rotation[index], translation[index] = head_rotation(matrix), matrix[:3, 3]
    found = np.array([bool(result.face_landmarks) for result in results], dtype=bool)
    return FaceMeasurements(found, landmarks, blendshapes, names, rotation, translation)


def mediapipe_image(image: np.ndarray) -> "MediapipeImage":
    """The frame ``(H, W, 3)`` uint8 RGB as MediaPipe takes it."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
