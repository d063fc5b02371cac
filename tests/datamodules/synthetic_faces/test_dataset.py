import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.annotations import read_annotations
from datamodules.audio import load_audio
from datamodules.errors import UserError
from datamodules.manifest import ClipRecord, read_manifest
from datamodules.synthetic_faces import dataset
from datamodules.synthetic_faces.dataset import plan_clips, prepare_synthetic
from datamodules.synthetic_faces.sentences import sentences
from datamodules.video import probe

pytest.importorskip("espeakng_loader")

SMALL = {"size": 64, "seconds": (0.6, 0.9), "domain": "wide"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips, rendered by two processes."""
    return prepare_synthetic(tmp_path_factory.mktemp("synthetic") / "data", 3, workers=2, **SMALL)


def test_clips_have_the_format_of_prepared_data(small: Path) -> None:
    records = read_manifest(small)
    assert [record.split for record in records] == ["train", "val", "test"]
    for record in records:
        info = probe(small / record.video)
        assert (info.frames, info.fps, info.height, info.width) == (record.frames, 25, 64, 64)
        assert len(load_audio(small / record.audio)) == 640 * record.frames
        truth = read_annotations(small / record.annotations)
        for name in (
            "rotation",
            "lip_opening",
            "lip_width",
            "blink",
            "gaze",
            "phoneme",
            "landmarks",
            "regions",
        ):
            assert len(truth.arrays[name]) == record.frames, name
            assert np.isfinite(truth.arrays[name]).all(), name
        assert truth.arrays["phoneme"].dtype == np.int16
        assert len(truth.metadata["landmark_names"]) == truth.arrays["landmarks"].shape[1]
        assert truth.arrays["phoneme"].max() < len(truth.metadata["phoneme_table"])
        assert truth.metadata["intensity"]["head_intensity"] > 0
        assert truth.metadata["voice"]["name"] == record.voice
        said = truth.metadata["text"]
        assert any(
            said.startswith(text) for text in sentences(truth.metadata["voice"]["language"], record.split)
        )
    leftovers = {path.suffix for path in (small / "clips").iterdir()} - {".mp4", ".wav", ".safetensors"}
    assert not leftovers


def test_number_of_workers_does_not_matter(small: Path, tmp_path: Path) -> None:
    alone = prepare_synthetic(tmp_path / "alone", 3, workers=0, **SMALL)
    for one, other in zip(read_manifest(small), read_manifest(alone), strict=True):
        assert one == other  # with the hash of the video
        assert (small / one.audio).read_bytes() == (alone / other.audio).read_bytes()
        truth, same = (read_annotations(root / one.annotations) for root in (small, alone))
        assert truth.metadata == same.metadata
        assert truth.arrays.keys() == same.arrays.keys()
        for name, array in truth.arrays.items():
            assert array.tobytes() == same.arrays[name].tobytes(), name


def test_complete_dataset_is_returned_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(dataset, "make_clip", fail)
    seen: list[tuple[int, int]] = []
    prepare_synthetic(small, 3, workers=0, progress=lambda *counts: seen.append(counts), **SMALL)
    assert seen == [(3, 3)]


def test_other_settings_are_refused_and_leave_the_data(small: Path) -> None:
    before = (small / "manifest.jsonl").read_bytes()
    with pytest.raises(UserError, match="other settings \\(seed\\)"):
        prepare_synthetic(small, 3, workers=0, seed=1, **SMALL)
    assert (small / "manifest.jsonl").read_bytes() == before


def fake_clip(plan: dataset.ClipPlan, root: Path) -> ClipRecord:
    """Writes empty files in place of a rendered clip."""
    names = [f"clips/{plan.clip_id}{suffix}" for suffix in (".mp4", ".wav", ".safetensors")]
    for name in names:
        (root / name).write_bytes(b"x")
    return ClipRecord(
        plan.clip_id, names[0], names[1], "", str(plan.identity), "v", plan.split, "test", 0.0, 10, plan.size,
        annotations=names[2],
    )  # fmt: skip


def test_interrupted_run_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []

    def render(plan: dataset.ClipPlan, root: Path) -> ClipRecord:
        if len(rendered) == 4:
            raise KeyboardInterrupt
        rendered.append(plan.index)
        return fake_clip(plan, root)

    monkeypatch.setattr(dataset, "make_clip", render)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic(tmp_path / "data", 10, workers=0)
    assert not (tmp_path / "data" / "manifest.jsonl").exists()
    (tmp_path / "data" / "clips" / "synthetic_000001.mp4").unlink()  # half a clip does not count
    rendered.clear()
    monkeypatch.setattr(
        dataset, "make_clip", lambda plan, root: rendered.append(plan.index) or fake_clip(plan, root)
    )
    seen: list[tuple[int, int]] = []
    prepare_synthetic(tmp_path / "data", 10, workers=0, progress=lambda *counts: seen.append(counts))
    assert rendered == [1, 4, 5, 6, 7, 8, 9]
    assert seen[0] == (3, 10)
    assert seen[-1] == (10, 10)
    assert len(read_manifest(tmp_path / "data")) == 10


@pytest.mark.parametrize("clips", [3, 5, 16, 40, 200])
def test_splits_share_no_identity_and_none_is_empty(clips: int) -> None:
    plans = plan_clips(clips, 64, 0, "wide", (4.0, 8.0))
    members = {
        split: {plan.identity for plan in plans if plan.split == split} for split in ("train", "val", "test")
    }
    assert all(members.values())
    assert sum(len(group) for group in members.values()) == len(set.union(*members.values()))
    assert len(plans) == clips
    if clips >= 40:
        shares = [sum(plan.split == split for plan in plans) / clips for split in ("train", "val", "test")]
        assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.06)
        assert clips / len(set.union(*members.values())) > 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"clips": 2},
        {"size": 9},
        {"size": 65},
        {"domain": "moon"},
        {"workers": -1},
        {"seed": -1},
        {"seconds": (5.0, 4.0)},
        {"identities": 9},
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UserError) as caught:
        prepare_synthetic(tmp_path / "data", **({"clips": 4, "workers": 0} | wrong))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        prepare_synthetic(tmp_path / "file", 3, workers=0)
    (tmp_path / "manifest.jsonl").write_text("{}")
    with pytest.raises(UserError, match="not synthetic"):
        prepare_synthetic(tmp_path, 3, workers=0)
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(UserError, match="other settings"):
        prepare_synthetic(other, 3, workers=0)
