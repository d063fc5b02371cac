import dataclasses
from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.annotations import PER_FRAME_SHAPES, read_annotations
from datamodules.clips.manifest import SPLITS, ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.media.audio import load_audio
from datamodules.media.video import probe
from datamodules.synthetic import SyntheticDataModule
from datamodules.synthetic_faces import dataset
from datamodules.synthetic_faces.dataset import prepare_synthetic
from datamodules.synthetic_faces.motion.head_motion import LIMITS
from datamodules.synthetic_faces.motion.style import AXES
from datamodules.synthetic_faces.plans import ClipPlan
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech.narration import sentences
from experiments.evaluation_setup import choose_clips

pytest.importorskip("espeakng_loader")

SMALL = Settings(3, size=64, seconds=(0.6, 0.9))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips, rendered by two processes."""
    return prepare_synthetic(tmp_path_factory.mktemp("synthetic") / "data", SMALL, workers=2)


def test_clips_have_the_format_of_prepared_data(small: Path) -> None:
    records = read_manifest(small)
    assert [record.split for record in records] == ["train", "val", "test"]
    for record in records:
        info = probe(small / record.video)
        assert (info.frames, info.fps, info.height, info.width) == (record.frames, 25, 64, 64)
        assert len(load_audio(small / record.audio)) == 640 * record.frames
        truth = read_annotations(small / record.annotations)
        for name in PER_FRAME_SHAPES:
            assert len(truth.arrays[name]) == record.frames, name
            assert np.isfinite(truth.arrays[name]).all(), name
        assert truth.arrays["phoneme"].dtype == np.int16
        assert len(truth.metadata["landmark_names"]) == truth.arrays["landmarks"].shape[1]
        assert truth.arrays["phoneme"].max() < len(truth.metadata["phoneme_table"])
        assert truth.metadata["style"]["head_intensity"] > 0
        parts = sum(truth.arrays[f"head_{name}"] for name in ("speech", "style", "free"))
        rest = [truth.metadata["style"][f"rest_{axis}"] for axis in AXES]
        limits = np.array([LIMITS[axis] for axis in AXES])
        turned = limits * np.tanh((rest + parts) / limits)
        np.testing.assert_allclose(truth.arrays["rotation"], turned, atol=1e-3)
        assert truth.arrays["visible"].shape == truth.arrays["landmarks"].shape[:2]
        assert truth.metadata["voice"]["name"] == record.voice
        stock = sentences(truth.metadata["voice"]["language"], record.split)
        assert truth.metadata["text"].startswith(stock)
    assert {path.suffix for path in (small / "clips").iterdir()} == {".mp4", ".wav", ".safetensors"}


def test_twins_draws_and_dense_truth_are_written(tmp_path: Path) -> None:
    written = {"draws": 2, "twins": True, "dense": True, "domain": "plain", "camera": "moving"}
    root = prepare_synthetic(tmp_path, Settings(6, size=32, seconds=(0.4, 0.5), **written), workers=2)
    records = {record.id: record for record in read_manifest(root)}
    assert len(records) == 6 + 4
    truth = {name: read_annotations(root / record.annotations) for name, record in records.items()}
    twins = [name for name in records if name.endswith("_twin")]
    for name in twins:
        original = truth[name].metadata["twin_of"]
        np.testing.assert_array_equal(truth[name].arrays["controls"], truth[original].arrays["controls"])
        assert (root / records[name].audio).read_bytes() == (root / records[original].audio).read_bytes()
        assert truth[name].metadata["identity"] != truth[original].metadata["identity"]
        assert records[name].split == records[original].split
        assert truth[name].metadata["performer"] == records[original].identity
        assert records[name].quality["twin_of"] == original
    shown = [record for split in SPLITS for record in SyntheticDataModule(root, 32).records(split)]
    assert {record.id for record in shown} == {*records} - {*twins}
    assert not {record.id for record in choose_clips(list(records.values()), "test", None)} & {*twins}
    first, second = records["synthetic_000000"], records["synthetic_000001"]
    assert (root / first.audio).read_bytes() == (root / second.audio).read_bytes()
    assert first.identity == second.identity
    assert np.abs(truth[first.id].arrays["rotation"] - truth[second.id].arrays["rotation"]).max() > 0.1
    dense = read_annotations(root / f"clips/{first.id}.dense.safetensors").arrays
    assert dense["flow"].shape == (first.frames, 32, 32, 2)
    assert dense["depth"].shape == dense["mask"].shape == dense["seen"].shape == (first.frames, 32, 32)
    assert not np.abs(dense["flow"][0][dense["mask"][0] > 0]).max() > 0.01
    card = (root / "README.md").read_text()
    assert "| test | 4 |" in card
    assert "- `draws`: 2" in card


def test_number_of_workers_does_not_matter(small: Path, tmp_path: Path) -> None:
    alone = prepare_synthetic(tmp_path / "alone", SMALL, workers=0)
    names = {
        path.relative_to(root) for root in (small, alone) for path in root.rglob("[!.]*") if path.is_file()
    }
    assert len(names) == 3 + 3 * 3
    for name in names:
        assert (small / name).read_bytes() == (alone / name).read_bytes(), name


def test_complete_dataset_is_returned_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "make_clip", None)
    seen: list[tuple[int, int]] = []
    prepare_synthetic(small, SMALL, workers=0, progress=lambda *counts: seen.append(counts))
    assert seen == [(3, 3)]


def test_other_settings_are_refused_and_leave_the_data(small: Path) -> None:
    before = (small / "manifest.jsonl").read_bytes()
    with pytest.raises(UserError, match="other settings \\(seed\\)"):
        prepare_synthetic(small, dataclasses.replace(SMALL, seed=1), workers=0)
    assert (small / "manifest.jsonl").read_bytes() == before


def test_interrupted_run_is_continued_and_a_lost_clip_alone_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, made, seen = tmp_path, list[int](), list[tuple[int, int]]()

    def make(plan: ClipPlan, settings: Settings, root: Path, device: str) -> ClipRecord:
        made.append(plan.index)
        if len(made) == 5:
            raise KeyboardInterrupt
        video, audio, truth = (f"clips/{plan.clip_id}{suffix}" for suffix in (".mp4", ".wav", ".safetensors"))
        for name in (video, audio, truth):
            (root / name).write_bytes(b"x")
        identity = str(plan.seen)
        return ClipRecord(
            plan.clip_id, video, audio, "", identity, "v", plan.split, "t", 0.0, 9, 64, annotations=truth
        )

    monkeypatch.setattr(dataset, "make_clip", make)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic(root, Settings(10), workers=0)
    assert not (root / "manifest.jsonl").exists()
    (root / "clips" / "synthetic_000001.mp4").unlink()  # half a clip does not count
    prepare_synthetic(root, Settings(10), workers=0, progress=lambda *n: seen.append(n))
    assert made[5:] == [1, 4, 5, 6, 7, 8, 9]
    assert (seen[0], seen[-1]) == ((3, 10), (10, 10))
    (root / "clips" / "synthetic_000004.wav").unlink()
    prepare_synthetic(root, Settings(10), workers=0)
    assert made[12:] == [4]
    assert len(read_manifest(root)) == 10


@pytest.mark.parametrize(
    "wrong",
    [{"settings": Settings(2)}, {"workers": -1}, {"device": "abacus"}],
    ids=["clips", "workers", "device"],
)
def test_wrong_settings_are_one_line_and_leave_nothing(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UserError) as caught:
        prepare_synthetic(tmp_path / "data", **({"settings": Settings(4), "workers": 0} | wrong))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("there", "content", "output", "message"),
    [
        ("file", b"mine", "file", "is a file"),
        ("manifest.jsonl", b"mine", ".", "something else"),
        ("project/README.md", b"mine", "project", "something else"),
        ("dataset.json", b'{"version": 0}', ".", "other settings"),
        ("dataset.json", b"[1]", ".", "no JSON object"),
        ("dataset.json", b"\xff\xfe", ".", "not valid JSON"),
    ],
)
def test_foreign_folders_are_refused(
    tmp_path: Path, there: str, content: bytes, output: str, message: str
) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare_synthetic(tmp_path / output, Settings(3), workers=0)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == content
