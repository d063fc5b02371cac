import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
from datamodules.clips.manifest import ClipRecord, read_manifest, write_manifest
from datamodules.clips.splits import fill_splits, split_by_identity
from datamodules.errors import UserError


def record(name: str = "a", **changes) -> ClipRecord:
    made = ClipRecord(
        name, f"clips/{name}.mp4", f"clips/{name}.wav", "0" * 64, "somebody", "somebody", "train", "raw/film.mp4", 1.5,
        100, 128,
    )  # fmt: skip
    return replace(made, **changes)


def test_manifest_comes_back_as_written_and_sorted(tmp_path: Path) -> None:
    records = [
        record("b", crop=[0, 0.5, 10, 10.5]),
        record("a", audio=None, quality={"blur": 0.25, "faces": 1}),
    ]
    write_manifest(tmp_path / "new", records)
    assert read_manifest(tmp_path / "new") == records[::-1]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frames": 0}, "frames 0"),
        ({"frames": True}, "frames True"),
        ({"frames": "90"}, "frames '90'"),
        ({"split": "dev"}, "split 'dev'"),
        ({"video": "/etc/passwd"}, "relative path"),
        ({"audio": "../elsewhere.wav"}, "relative path"),
        ({"id": "a/b"}, "plain file stem"),
        ({"identity": ""}, "identity is empty"),
        ({"start": -1.0}, "start -1.0"),
        ({"crop": [1, 2, 3]}, "crop"),
        ({"schema": 2}, "schema 2"),
        ({"colour": "red"}, "unknown field colour"),
        ({"size": None}, "size None"),
    ],
)
def test_wrong_line_is_one_line_error_with_its_number(tmp_path: Path, change: dict, reason: str) -> None:
    good = vars(record("good"))
    lines = [json.dumps(good), json.dumps({**vars(record("bad")), **change})]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        read_manifest(tmp_path)
    message = str(error.value)
    assert "manifest.jsonl, line 2" in message
    assert reason in message
    assert "\n" not in message


def test_refused_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, [record("a")])
    for wrong in ([record("b"), record("c", frames=0)], [record("b"), record("b")]):
        with pytest.raises(UserError, match=r"frames 0|twice"):
            write_manifest(tmp_path, wrong)
    assert [item.id for item in read_manifest(tmp_path)] == ["a"]


def test_split_is_stable_when_identities_are_added() -> None:
    first = [f"person{number}" for number in range(500)]
    splits = split_by_identity(first)
    more = split_by_identity([*reversed(first), *(f"other{number}" for number in range(500))])
    assert all(more[name] == split for name, split in splits.items())
    counts = Counter(more.values())
    assert abs(counts["train"] - 800) < 50
    assert abs(counts["val"] - 100) < 40
    assert abs(counts["test"] - 100) < 40
    assert split_by_identity(first, seed=1) != splits
    assert set(split_by_identity(first, (1, 0, 0)).values()) == {"train"}
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_identity(first, (0.8, 0.1, 0.2))


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


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_handful_of_identities_fills_every_split(count: int) -> None:
    names = [f"p{n}" for n in range(count)]
    for seed in range(20):
        assigned = split_by_identity(names, (0.8, 0.1, 0.1), seed)
        filled = fill_splits(assigned, (0.8, 0.1, 0.1), seed)
        assert filled.keys() == assigned.keys()
        assert "train" in filled.values()
        train = list(assigned.values()).count("train")
        if train >= 3:
            assert set(filled.values()) == {"train", "val", "test"}
        assert filled == fill_splits(dict(reversed(assigned.items())), (0.8, 0.1, 0.1), seed)
    assert set(fill_splits(dict.fromkeys(names, "train"), (1, 0, 0)).values()) == {"train"}


def test_splits_that_have_somebody_stay_as_they_are() -> None:
    assigned = split_by_identity([f"p{n}" for n in range(200)])
    assert fill_splits(assigned, (0.8, 0.1, 0.1)) == assigned
