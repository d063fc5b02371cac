"""Annotations come back as written, whole or some of their frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from datamodules.batches import POSE_NAMES
from datamodules.clips.annotations import (
    pose_of,
    read_annotations,
    read_frames,
    read_shapes,
    write_annotations,
)
from datamodules.errors import UserError


def test_annotations_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "clips" / "a.safetensors"
    generator = np.random.default_rng(0)
    arrays = {
        "rotation": generator.normal(size=(3, 7)).astype(np.float32).T,  # not contiguous
        "regions": generator.uniform(size=(7, 3, 4)).astype(np.float32),
        "phoneme": np.arange(7, dtype=np.int16),
    }
    metadata = {"text": "Grüß 'Gott'", "intensity": 0.5, "landmarks": ["chin", "nose"], "voice": None}
    write_annotations(path, arrays, metadata)
    found = read_annotations(path)
    assert found.metadata == metadata
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def read_one(path: Path) -> dict[str, np.ndarray]:
    return read_frames(path, ["regions"], [0])


@pytest.mark.parametrize("read", [read_annotations, read_one, read_shapes])
def test_missing_and_damaged_annotations_are_user_errors(tmp_path: Path, read) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a\.safetensors: no annotation file"):
        read(path)
    write_annotations(path, {"regions": np.zeros((3, 3, 4))}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"a\.safetensors: damaged"):
        read(path)


@pytest.mark.parametrize("frames", [[6, 0, 6], range(7), [4], [2, 3, 4, 1, 2, 0], [3, 3, 2]])
def test_some_frames_are_those_of_the_whole_file_in_the_order_asked_for(
    tmp_path: Path, frames: Sequence[int]
) -> None:
    path = tmp_path / "a.safetensors"
    generator = np.random.default_rng(0)
    arrays = {
        "regions": generator.uniform(size=(7, 3, 4)),  # float64
        "blink": generator.uniform(size=7).astype(np.float32),
        "phoneme": np.arange(7, dtype=np.int16),
    }
    write_annotations(path, arrays, {})
    found = read_frames(path, ["regions", "blink", "phoneme", "landmarks"], frames)
    assert set(found) == set(arrays)  # no landmarks in the file
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, arrays[name][list(frames)].astype(np.float32))
    with pytest.raises(UserError, match="7 frames"):
        read_frames(path, ["blink"], [0, 7])


def test_pose_holds_what_its_names_say() -> None:
    generator = np.random.default_rng(0)
    shapes = {"rotation": (5, 3), "landmarks": (5, 4, 2)} | dict.fromkeys(
        ("lip_opening", "lip_width", "blink"), (5,)
    )
    arrays = {name: generator.uniform(size=shape) for name, shape in shapes.items()}
    pose = pose_of(arrays)
    assert pose is not None
    assert pose.shape == (5, len(POSE_NAMES))
    assert pose.dtype == np.float32
    named = dict(zip(POSE_NAMES, pose.T, strict=True))
    expected = dict(zip(("yaw", "pitch", "roll"), arrays["rotation"].T, strict=True))
    expected |= dict(zip(("shift_x", "shift_y"), arrays["landmarks"].mean(axis=1).T, strict=True))
    expected |= {name: arrays[name] for name in ("lip_opening", "lip_width", "blink")}
    assert set(expected) == set(POSE_NAMES)
    for name, values in expected.items():
        np.testing.assert_allclose(named[name], values, rtol=1e-6, err_msg=name)
    for name in arrays:
        assert pose_of({other: values for other, values in arrays.items() if other != name}) is None


def test_annotations_that_disagree_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="differ in length"):
        write_annotations(path, {"blink": np.zeros(3), "gaze": np.zeros((4, 2))}, {})
    with pytest.raises(ValueError, match="rotation"):
        write_annotations(path, {"rotation": np.zeros((3, 4))}, {})
    assert not path.exists()
