"""Per-frame annotations of a clip: truth for synthetic data, measurements for recorded data.

One safetensors file a clip. Arrays whose first axis is time (T frames at 25 fps):

===================  ===========  ============================================================================
name                 shape        meaning
===================  ===========  ============================================================================
``rotation``         (T, 3)       yaw, pitch, roll in degrees, signs as seen in the image: yaw > 0 the face
                                  turns towards image right, pitch > 0 it looks up, roll > 0 it tilts clockwise
``translation``      (T, 3)       shift of the point that the head turns about from its neutral place, in head
                                  radii along the camera's axes: x image right, y up, z towards the camera
``lip_opening``      (T,)         inner-lip gap divided by the distance of the outer eye corners
``lip_width``        (T,)         distance of the mouth corners, same unit
``blink``            (T,)         0 open .. 1 closed
``gaze``             (T, 2)       degrees
``phoneme``          (T,)         int16 index into the phoneme table of the metadata
``landmarks``        (T, L, 2)    [0, 1] image coordinates, x right, y down
``landmarks_3d``     (T, L, 3)    posed points (rotation and translation included) in head radii along the same
                                  axes, origin at the head's centre in the neutral pose
``visible``          (T, L)       whether nothing hides the landmark
``surface``          (T, P, 2)    further points of the surface, as ``landmarks``
``surface_visible``  (T, P)       whether nothing hides them
``person``           (T, s, s)    uint8 share of the person in the pixels of a small picture, 255 = all
``regions``          (T, 3, 4)    boxes x0, y0, x1, y1 in [0, 1] of mouth, left eye and right eye
===================  ===========  ============================================================================

Where the camera moves, ``rotation``, ``translation`` and ``landmarks_3d`` are those before its move; ``landmarks`` and
``regions`` are as seen. Further arrays are allowed. Metadata (identity parameters, text, landmark names, ...) are JSON
values.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from datamodules.errors import UserError
from datamodules.files import whole_output

PER_FRAME_SHAPES: dict[str, tuple[int | None, ...]] = {
    "rotation": (3,),
    "translation": (3,),
    "lip_opening": (),
    "lip_width": (),
    "blink": (),
    "gaze": (2,),
    "phoneme": (),
    "landmarks": (None, 2),
    "landmarks_3d": (None, 3),
    "visible": (None,),
    "surface": (None, 2),
    "surface_visible": (None,),
    "person": (None, None),
    "regions": (3, 4),
}
"""Shape of each known array after its time axis; None stands for any length."""
POSE_ARRAYS = ("rotation", "landmarks", "lip_opening", "lip_width", "blink")
"""Arrays that the pose is put together from."""


@dataclass
class Annotations:
    """Annotations of one clip: arrays (see the table at the top of the module) and JSON values by name."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


def write_annotations(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write the annotations of one clip (``clips/ID.safetensors``), arrays and JSON values by name, in one step.

    Raises:
        ValueError: A known array has another shape than in the table above, or they differ in T.
    """
    lengths = set()
    for name in arrays.keys() & PER_FRAME_SHAPES.keys():
        shape, found = PER_FRAME_SHAPES[name], arrays[name].shape
        known = [size if size else length for size, length in zip(shape, found[1:], strict=False)]
        if list(found[1:]) != known or len(shape) != len(known):
            raise ValueError(f"{path}: annotation '{name}' has shape {found}, expected (T, *{shape})")
        lengths.add(found[0])
    if len(lengths) > 1:
        raise ValueError(f"{path}: per-frame annotations differ in length: {sorted(lengths)}")
    texts = {name: json.dumps(value, sort_keys=True) for name, value in metadata.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_output(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, texts)
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Gives the same annotations the same bytes: safetensors writes the metadata in a random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:  # never, as long as safetensors writes no blanks
            raise ValueError(f"{path}: a header of {size} bytes can't hold {len(text)}")
        file.seek(8)
        file.write(text.ljust(size))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The annotation file, open; UserError where it is missing or damaged."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no annotation file there; prepare the data again")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise UserError(f"{path}: damaged annotation file ({error}); prepare the data again") from error


def read_annotations(path: Path) -> Annotations:
    """Read the annotations of one clip; UserError where the file is missing or damaged."""
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        texts = file.metadata() or {}
    try:
        return Annotations(arrays, {name: json.loads(text) for name, text in texts.items()})
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged annotation file ({error}); prepare the data again") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of one clip by name, from the head of the file; UserError where it is missing or damaged."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_frames(path: Path, names: Sequence[str], frames: Sequence[int]) -> dict[str, np.ndarray]:
    """Some arrays at some frames, name -> ``(N, ...)`` float32; names that the file does not hold are left out.

    Raises:
        UserError: The file is missing or damaged, or ends before one of these frames.
    """
    wanted = np.asarray(frames)
    runs = [(run[0], run[-1] + 1) for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)]
    found = {}
    with _opened(path) as file:
        for name in set(names) & set(file.keys()):
            values = file.get_slice(name)
            require_frames(path, values.get_shape()[0], frames)
            found[name] = np.concatenate([values[int(a) : int(b)] for a, b in runs]).astype(np.float32)
    return found


def require_frames(path: Path, length: int, frames: Sequence[int]) -> None:
    """UserError where annotations of so many frames end before one of these."""
    if max(frames) >= length:
        raise UserError(f"{path}: only {length} frames are annotated; prepare the data again")


def pose_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """``POSE_NAMES`` of N annotated frames: ``(N, 8)`` float32 in degrees, shares of the picture and annotation units.

    The shift is the mean of the landmarks in the picture, which also moves where a real head does, whatever the camera. None
    where one of the arrays is missing.
    """
    if not set(POSE_ARRAYS) <= set(arrays):
        return None
    single = [arrays[name][:, None] for name in ("lip_opening", "lip_width", "blink")]
    pose = np.concatenate([arrays["rotation"], arrays["landmarks"].mean(axis=1), *single], axis=1)
    return pose.astype(np.float32)
