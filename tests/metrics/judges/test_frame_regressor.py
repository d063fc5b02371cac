import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.video import write_video
from metrics.judges.frame_regressor import TARGETS, FrameRegressor
from metrics.judges.frame_regressor_fit import _augment, fit_frame_regressor, held_out_r2
from metrics.motion import measure_motion

SIZE = 64


def draw_face(
    yaw: float, pitch: float, roll: float, opening: float, width: float, blink: float, skin: float
) -> np.ndarray:
    """A face of ellipses whose features move as the truth says: enough to tell whether the judge can read."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    angle = np.deg2rad(roll)
    cx, cy = 0.5 + 0.006 * yaw, 0.57 - 0.006 * pitch
    dx, dy = xs - 0.5, ys - 0.57
    x, y = np.cos(angle) * dx + np.sin(angle) * dy + 0.5, -np.sin(angle) * dx + np.cos(angle) * dy + 0.57
    face = np.full((SIZE, SIZE, 3), 60.0)
    face[((x - 0.5) / 0.3) ** 2 + ((y - 0.57) / 0.4) ** 2 < 1] = [skin, 0.8 * skin, 0.7 * skin]
    for side in (-1, 1):
        eye = ((x - cx - 0.13 * side) / 0.06) ** 2 + ((y - cy + 0.13) / (0.005 + 0.05 * (1 - blink))) ** 2 < 1
        face[eye] = [245, 245, 245]
    mouth = ((x - cx) / (0.15 * width)) ** 2 + ((y - cy - 0.18) / (0.012 + 0.2 * opening)) ** 2 < 1
    face[mouth] = [90, 20, 30]
    return face.clip(0, 255).astype(np.uint8)


def make_clips(root: Path, names: list[str], split: str, frames: int = 60) -> list[ClipRecord]:
    records = []
    for number, name in enumerate(names):
        generator = np.random.default_rng(number + (1000 if split == "test" else 0))
        skin = generator.uniform(130, 230)
        values = generator.uniform([-20, -12, -10, 0, 0.6, 0], [20, 12, 10, 0.4, 1.0, 1], (frames, 6))
        write_video(root / f"{name}.mp4", [draw_face(*row, skin) for row in values])
        rotation, single = values[:, :3].astype(np.float32), values[:, 3:].astype(np.float32).T
        names = ("lip_opening", "lip_width", "blink")
        arrays = {"rotation": rotation, **dict(zip(names, np.ascontiguousarray(single), strict=True))}
        write_annotations(root / f"{name}.safetensors", arrays, {})
        records.append(
            ClipRecord(name, f"{name}.mp4", None, "", name, name, split, "drawn", 0.0, frames, SIZE,
                       annotations=f"{name}.safetensors")
        )  # fmt: skip
    return records


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ClipRecord], list[ClipRecord]]:
    root = tmp_path_factory.mktemp("faces")
    training = make_clips(root, [f"a{i}" for i in range(8)], "train")
    return root, training, make_clips(root, ["b0", "b1"], "test", 40)


def test_what_never_varies_has_no_share_of_variance(clips):
    root, _, (record, *_) = clips
    arrays = dict(read_annotations(root / record.annotations).arrays)
    write_annotations(root / "awake.safetensors", arrays | {"blink": np.zeros_like(arrays["blink"])}, {})
    scores = held_out_r2(FrameRegressor(), root, [replace(record, annotations="awake.safetensors")])
    assert set(TARGETS) - set(scores) == {"blink"}
    assert all(map(math.isfinite, scores.values()))


def test_reads_faces_it_never_saw_and_survives_a_round_trip(clips, tmp_path):
    root, training, test = clips
    judge = fit_frame_regressor(root, training, seconds_budget=None, steps=200, batch_size=16)
    scores = held_out_r2(judge, root, test)
    assert set(scores) == set(TARGETS)
    assert scores["lip_opening"] > 0.7
    assert scores["yaw"] > 0.7
    judge.save(tmp_path / "judge")
    again = FrameRegressor.load(tmp_path / "judge")
    assert again.sha256 == judge.sha256
    frames = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3), dtype=np.uint8)
    np.testing.assert_allclose(again.predict(frames), judge.predict(frames), atol=1e-6)
    curves = measure_motion(frames, again)
    assert curves.rotation.shape == (3, 3)
    assert curves.blink.min() >= 0
    assert curves.blink.max() <= 1


def test_same_seed_same_judge_and_a_budget_ends_early(clips):
    root, training, _ = clips
    first, second, other = (
        fit_frame_regressor(root, training[:2], seconds_budget=None, steps=3, seed=seed, frames=40)
        for seed in (0, 0, 1)
    )
    assert first.sha256 == second.sha256 != other.sha256
    other.load_state_dict(first.state_dict())
    assert other.sha256 == first.sha256
    other.settings = other.settings | {"width": 17}
    assert other.sha256 != first.sha256  # settings are part of it
    hurried = fit_frame_regressor(root, training[:2], seconds_budget=0.2, steps=100_000, frames=40)
    assert hurried.facts["steps"] < 1000


def test_augmentation_mirrors_the_truth_with_the_picture():
    images = torch.zeros(64, 3, 64, 64)
    images[..., 48:] = 1.0  # bright right side
    labels = torch.tensor([[5.0, 3, 2, 0.2, 1, 0]]).expand(64, 6)
    varied, turned = _augment(images, labels, torch.Generator().manual_seed(0))
    brighter_right = varied[..., 52:].mean(dim=(1, 2, 3)) > varied[..., :12].mean(dim=(1, 2, 3))
    assert 10 < brighter_right.sum() < 54
    assert torch.equal(turned[:, 0] > 0, brighter_right)
    assert torch.equal(turned[:, 2] > 0, brighter_right)
    assert torch.equal(turned[:, [1, 3, 4, 5]], labels[:, [1, 3, 4, 5]])


def test_no_truth_or_no_judge_is_told(tmp_path):
    record = ClipRecord("a", "a.mp4", None, "", "a", "a", "train", "drawn", 0.0, 5, 64)
    with pytest.raises(UserError, match="annotations"):
        fit_frame_regressor(tmp_path, [record])
    with pytest.raises(UserError, match="judge"):
        FrameRegressor.load(tmp_path)


def test_a_damaged_judge_is_told(tmp_path):
    judge = FrameRegressor(width=4, features=8)
    judge.save(tmp_path)
    weights, card = tmp_path / "judge.safetensors", tmp_path / "judge.json"
    whole = weights.read_bytes()
    weights.write_bytes(b"not a judge of anything at all" * 2)
    with pytest.raises(UserError, match="fit it anew"):
        FrameRegressor.load(tmp_path)
    weights.write_bytes(whole)
    FrameRegressor.load(tmp_path)
    card.write_text(card.read_text().replace('"facts"', '"other"'))
    with pytest.raises(UserError, match=r"facts.*fit it anew"):
        FrameRegressor.load(tmp_path)


@pytest.mark.parametrize("name", ["std", "head.0.weight"])
def test_a_judge_that_would_read_nothing_but_nan_is_refused(tmp_path, name):
    judge = FrameRegressor(width=4, features=8)
    judge.state_dict()[name][0] = torch.nan
    judge.save(tmp_path)
    with pytest.raises(UserError, match=r"NaN or infinite.*fit it anew"):
        FrameRegressor.load(tmp_path)


HUGE, LARGE, NO_NUMBER = ({"width": w, "features": f} for w, f in ((10**6, 8), (256, 4096), (True, 8)))


@pytest.mark.parametrize("settings", [HUGE, LARGE, NO_NUMBER, {"width": 4}, [4, 8]])
def test_settings_of_a_judge_take_no_memory_that_no_weights_back(tmp_path, settings, monkeypatch):
    FrameRegressor(width=4, features=8).save(tmp_path)
    card = json.loads((tmp_path / "judge.json").read_text())
    (tmp_path / "judge.json").write_text(json.dumps(card | {"settings": settings}))
    real = FrameRegressor.__init__

    def build(self, *args, **options):
        assert torch.get_default_device().type == "meta", "allocates"
        real(self, *args, **options)

    monkeypatch.setattr(FrameRegressor, "__init__", build)
    with pytest.raises(UserError, match=r"^[^\n]*fit it anew$"):
        FrameRegressor.load(tmp_path)


def test_a_judge_is_inside_its_folder_and_plain(tmp_path):
    FrameRegressor(width=4, features=8).save(tmp_path / "judge")
    for name in ("judge.json", "judge.safetensors"):
        kept = (tmp_path / "judge" / name).rename(tmp_path / name)
        (tmp_path / "judge" / name).symlink_to(kept)
        with pytest.raises(UserError, match="leads out"):
            FrameRegressor.load(tmp_path / "judge")
        (tmp_path / "judge" / name).unlink()
        kept.rename(tmp_path / "judge" / name)
    (tmp_path / "judge" / "judge.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"^[^\n]*fit it anew$"):
        FrameRegressor.load(tmp_path / "judge")
