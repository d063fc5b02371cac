"""Judges are loaded where their files are, and told of where they are not; the judge of motion is fitted once."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from datamodules import assets
from datamodules.assets import MissingAssetError
from datamodules.clips.manifest import SYNTHETIC_SOURCE, read_manifest, write_manifest
from metrics.evaluation.judges import (
    NO_BOXES,
    NO_FACES,
    PUBLIC_SYNCNET,
    Judges,
    load_judges,
    load_motion_judge,
    load_training_judges,
    motion_judges,
)
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.registry import SLOTS
from metrics.evaluation.remarks import absent_judges
from metrics.judges.frame_regressor import FrameRegressor
from metrics.judges.syncnet import SyncNet
from metrics.motion import MotionCurves


class BandJudge:
    name, sha256 = "bands", "0" * 64

    def measure(self, frames):
        return MotionCurves(np.zeros((len(frames), 3)), np.zeros(len(frames)), np.zeros(len(frames)))


def test_an_absent_judge_is_listed_with_the_command_and_its_measures():
    def absent():
        raise MissingAssetError("net.pth: model file not found; get it by `ifmdm assets fetch net.pth`")

    judges = Judges()
    assert judges.load("inception", "net", absent) is None
    assert judges.load("i3d", "windows", lambda: ("judge", "hash of it")) == "judge"
    assert (judges.hashes, judges.weights()) == ({"i3d": "hash of it"}, {"windows": "hash of it"})
    (entry,) = absent_judges(judges)
    assert (entry["clip"], entry["what"]) == ("*", "fid, kid")
    assert entry["why"].endswith("`ifmdm assets fetch net.pth`")


def test_drawn_heads_have_judges_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("IFMDM_ASSETS", str(tmp_path))
    judges = load_judges(SLOTS, get_protocol("synthetic-v2"), BandJudge())
    without_file = {"motion", "sync", "efficientnet"}
    assert set(judges.hashes) - {"listener"} == without_file  # the listener comes with an extra
    assert ("listener" in judges.hashes) is (judges.listener is not None) is ("listener" not in judges.absent)
    assert judges.names["sync"] == "sync expert"
    assert judges.absent["landmarks"] == judges.absent["embedder"] == NO_FACES
    assert {"lpips", "inception", "i3d"} <= set(judges.absent)
    assert set(load_judges(("motion",), get_protocol("synthetic-v2"), BandJudge()).hashes) == {"motion"}
    assert motion_judges(BandJudge()).facts == {"name": "bands"}
    fitted = FrameRegressor(width=4, features=8)
    before = fitted.sha256
    assert load_judges(("motion",), get_protocol("synthetic-v2"), fitted).hashes["motion"] == before
    training = load_training_judges(("motion",), get_protocol("synthetic-v2"))
    assert "face_landmarker.task" in training.absent["motion"]
    assert np.isnan(training.detector(np.zeros((3, 8, 8, 3), np.uint8))[0].lip_opening).all()


def test_lip_sync_hangs_on_the_network_and_on_what_cuts_out_the_faces(tmp_path, monkeypatch):
    class FaceJudge(BandJudge):
        def __init__(self, sha256):
            self.sha256 = sha256

        def look(self, frames):
            return self.measure(frames), np.zeros((len(frames), 478, 3))

    def load(motion, sync):
        return load_judges(("sync",), get_protocol("talking-head-v2"), motion, sync)

    monkeypatch.setenv("IFMDM_ASSETS", str(tmp_path))
    monkeypatch.setattr(assets, "find", lambda name: tmp_path / name)
    (tmp_path / PUBLIC_SYNCNET).write_bytes(b"weights")
    monkeypatch.setattr(SyncNet, "load", lambda path: SyncNet(0.05, 51))
    found = [
        load(FaceJudge("1"), "public"),
        load(FaceJudge("2"), "public"),
        load(FaceJudge("1"), "expert"),
    ]
    assert len({judges.hashes["sync"] for judges in found}) == 3
    whole = {load(motion, "expert").hashes["sync"] for motion in (None, BandJudge(), FaceJudge("2"))}
    assert whole == {found[2].hashes["sync"]}  # boxes are no affair of who sees the whole frame
    for blind in (None, BandJudge()):
        refused = load(blind, "public")
        assert refused.sync is None
        assert "sync" not in refused.hashes
        assert {one["why"] for one in absent_judges(refused) if "lse_d" in one["what"]} == {NO_BOXES}
    with pytest.raises(ValueError, match="cut out by landmarks"):
        found[0].sync(
            torch.zeros(120, 3, 64, 64, dtype=torch.uint8), None, [], get_protocol("talking-head-v2")
        )


@pytest.fixture
def data(fake_clips, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(fake_clips, folder)
    records = [dataclasses.replace(one, source=SYNTHETIC_SOURCE) for one in read_manifest(folder)]
    write_manifest(folder, records)
    return folder


def test_a_judge_is_kept_for_its_data_and_limits_alone(data):
    fits, sizes = [], []

    def fit(root, training, device, seconds, steps, **more):
        fits.append((seconds, steps))
        return FrameRegressor()

    def check(*args, size):
        sizes.append(size)
        return {"lip_opening": 0.5}

    def load(name="regressor", **options):
        return load_motion_judge(name, data, fit=fit, check=check, **options)

    first = load(seconds=5, size=48)
    assert first.facts["held_out"] == {"split test, 48 px": {"lip_opening": 0.5}}
    assert load(seconds=5, size=48).sha256 == first.sha256
    assert (fits, sizes) == ([(5, 600)], [48])
    again = load(seconds=5, size=32)  # only its own error is measured again
    assert set(again.facts["held_out"]) == {"split test, 48 px", "split test, 32 px"}
    assert again.facts["held_out_r2"] == {"lip_opening": 0.5}
    load(seconds=5, size=48)  # both are known by now
    assert (len(fits), sizes) == (1, [48, 32])
    load(size=32)
    load(seconds=90, steps=10, size=32)
    assert fits[1:] == [(None, 600), (90, 10)]
    assert sorted(path.name for path in data.glob("judge*")) == ["judge", "judge_10steps_90s", "judge_5s"]
    for limits in ({"seconds": 5}, {}, {"seconds": 90, "steps": 10}):  # none has taken another's place
        load("auto", size=32, **limits)
    assert len(fits) == 3
    old = FrameRegressor.load(data / "judge")
    old.facts["limits"] = {"seconds": 90.0, "steps": 1500}  # as before limits had folders of their own
    old.save(data / "judge")
    load(size=32)
    assert fits[3:] == [(None, 600)]
    write_manifest(data, read_manifest(data)[:-1])
    load(size=32)
    assert len(fits) == 5  # other data


def test_a_judge_that_can_not_be_kept_still_judges(data, caplog):
    (data / "judge").write_text("a file where the folder should be")
    judge = load_motion_judge(
        "regressor",
        data,
        fit=lambda *args, **more: FrameRegressor(),
        check=lambda *args, size: {"lip_opening": 0.5},
    )
    assert judge.facts["held_out_r2"] == {"lip_opening": 0.5}
    assert "can't be kept" in caplog.text


def test_recorded_clips_are_judged_by_landmarks(data, shared, monkeypatch):
    """`ifmdm prepare folder` annotates them too, by what it measures: that makes no synthetic heads of them."""
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    write_manifest(data, [dataclasses.replace(one, source="talk.mp4") for one in read_manifest(data)])
    judge = load_motion_judge("auto", data)
    assert judge.name == "face-landmarker"
    assert set(motion_judges(judge).hashes) == {"motion", "landmarks"}
