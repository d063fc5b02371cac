"""The MediaPipe Face Landmarker: opening it, quietly, and what it measures on frames."""

import contextlib
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datamodules import assets
from datamodules.errors import UserError

if TYPE_CHECKING:
    from mediapipe import Image as MediapipeImage
    from mediapipe.tasks.python.vision import FaceDetector, FaceLandmarker

MODEL = "face_landmarker.task"
_DETECTOR = "face_detector.tflite"  # in this model
_SURER = 0.07
"""By which the detector is surer of an upright face than of the same one upside down, at least; of 0..1."""
LANDMARKS = 478
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
    options = {
        "num_faces": faces,
        "output_face_blendshapes": True,
        "output_facial_transformation_matrixes": True,
    }
    with _open("FaceLandmarker", {"model_asset_path": str(model)}, mode, options) as landmarker:
        yield landmarker


@contextmanager
def open_detector() -> Iterator["FaceDetector"]:
    """The detector inside the Face Landmarker's model, for `is_upside_down`; raises as `open_landmarker`."""
    with zipfile.ZipFile(assets.find(MODEL)) as model:
        base = {"model_asset_buffer": model.read(_DETECTOR)}
    with _open("FaceDetector", base, "image", {"min_detection_confidence": _SURER}) as detector:
        yield detector


@contextmanager
def _open(kind: str, base: dict[str, Any], mode: str, options: dict[str, Any]) -> Iterator[Any]:
    """One of MediaPipe's tasks, started and closed quietly."""
    try:
        from mediapipe.tasks.python import BaseOptions, vision

        asked = getattr(vision, f"{kind}Options")(
            base_options=BaseOptions(**base), running_mode=vision.RunningMode[mode.upper()], **options
        )
        with _quietly():
            task = getattr(vision, kind).create_from_options(asked)
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MissingLibraryError(
            f"MediaPipe cannot start ({reason}); install its system libraries: apt-get install {' '.join(SYSTEM_PACKAGES)}"
        ) from None
    try:
        yield task
    finally:
        with _quietly():
            task.close()


def is_upside_down(crop: np.ndarray, detector: "FaceDetector") -> bool:
    """Whether the face that a picture ``(H, W, 3)`` uint8 RGB is framed round stands on its head.

    The landmarker reads such a face as an upright one, with the eyes at the mouth. The detector is less sure of it than of
    the picture turned by 180 degrees: by 0.10 to 0.45 in photographs.
    """

    def sureness(picture: np.ndarray) -> float:
        with _quietly():  # it tells how a model is laid out in memory
            found = detector.detect(mediapipe_image(picture)).detections
        return max((one.categories[0].score for one in found), default=0.0)

    return sureness(crop[::-1, ::-1]) > sureness(crop) + _SURER


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep MediaPipe's notes (C++, file descriptor 2) off the terminal; failures come back as exceptions."""
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


def eye_blink(blendshapes: Sequence) -> float:
    """How far the lids are shut, 0 open .. 1 closed: mean of both eyes, from MediaPipe's blendshapes of a face."""
    return float(np.mean([one.score for one in blendshapes if one.category_name.startswith("eyeBlink")]))


@dataclass(frozen=True)
class FaceMeasurements:
    """What the Face Landmarker sees in T frames; values of frames without a face are NaN.

    Attributes:
        landmarks: ``(T, 478, 3)`` float32: x right and y down in [0, 1] of the frame, z in the scale of x, smaller = nearer.
        rotation: ``(T, 3)`` float32, see `head_rotation`.
        blink: ``(T,)`` float32, see `eye_blink`.
    """

    landmarks: np.ndarray
    rotation: np.ndarray
    blink: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """``(T,)`` bool: where there is a face."""
        return ~np.isnan(self.blink)


def measure_landmarks(frames: Iterable[np.ndarray]) -> FaceMeasurements:
    """Measure the most prominent face of each frame ``(H, W, 3)`` uint8 RGB by itself; raises as `open_landmarker`."""
    with open_landmarker("image", faces=1) as landmarker:
        results = [landmarker.detect(mediapipe_image(frame)) for frame in frames]
    shapes = (LANDMARKS, 3), (3,), ()
    landmarks, rotation, blink = (np.full((len(results), *shape), np.nan, np.float32) for shape in shapes)
    for index, result in enumerate(results):
        if result.face_landmarks:
            landmarks[index] = [(point.x, point.y, point.z) for point in result.face_landmarks[0]]
            rotation[index] = head_rotation(np.asarray(result.facial_transformation_matrixes[0]))
            blink[index] = eye_blink(result.face_blendshapes[0])
    return FaceMeasurements(landmarks, rotation, blink)


def mediapipe_image(image: np.ndarray) -> "MediapipeImage":
    """The frame ``(H, W, 3)`` uint8 RGB as MediaPipe takes it."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
