"""The manifest comes back as written; a wrong line of it is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.clips.manifest import ClipRecord, read_manifest, write_manifest
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
        ({"frames": 10**12}, "not an integer in 1..90000"),
        ({"size": 10**6}, "not an integer in 1..8192"),
        ({"start": 1e300}, "start 1e+300"),
        ({"start": 10**400}, "number is too large"),
        ({"crop": [0, 0, 1e12, 1e12]}, "crop"),
        ({"quality": {"yaw": float("nan")}}, "NaN is no number"),
        ({"quality": {"note": 70_000 * "a"}}, "over 64 KB"),
        ({"quality": {"a": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]}}, "nested too deeply"),
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
