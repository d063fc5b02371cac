"""The shipped judge of lip sync, on heads, voices and sentences of a seed that it never saw."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from datamodules.synthetic_faces.dataset import prepare_synthetic
from datamodules.synthetic_faces.settings import Settings
from metrics.judges.syncnet import SHIPPED_EXPERT, load_expert
from metrics.sync import lip_sync

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sync_expert")


def heads(output: Path, clips: int, seconds: tuple[float, float]) -> Path:
    settings = Settings(clips=clips, size=128, seed=977, identities=clips, seconds=seconds)
    return prepare_synthetic(output, settings)


def test_it_is_small_and_no_other_than_its_card_says():
    assert (SHIPPED_EXPERT / "model.safetensors").stat().st_size < 25e6
    network = load_expert()
    assert (network.width, network.size) == (0.25, 112)
    weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    card = (SHIPPED_EXPERT / "README.md").read_text()
    assert f"{weights:.2f} M parameters" in card


def test_the_offset_follows_the_sound_on_a_few_new_heads(bench, tmp_path):
    network = load_expert()
    root = heads(tmp_path / "heads", 3, (4.0, 4.5))
    clips = [clip for split in ("train", "val", "test") for clip in bench.read_clips(root, split)]
    assert len(clips) == 3
    own = [lip_sync(network, clip.frames, [clip.waveform])[0] for clip in clips]
    foreign = [lip_sync(network, clip.frames, [clip.waveform])[0] for clip in bench.with_foreign_sound(clips)]
    assert all(abs(one.offset) <= 1 for one in own)
    assert all(one.confidence > other.confidence for one, other in zip(own, foreign, strict=True))
    for clip in clips:
        offsets = [found.offset for found in bench.judge_shifts(network, clip, (-8, 0, 5))]
        assert np.abs(np.array(offsets) - (-8, 0, 5)).max() <= 1
    assert [len(piece.frames) for piece in bench.pieces(clips)] == [50] * len(bench.pieces(clips))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nineteen_of_twenty_offsets_are_right_wherever_the_sound_is(bench, tmp_path):
    network = load_expert()
    root = heads(tmp_path / "heads", 20, (3.5, 5.5))
    clips = [clip for split in ("train", "val", "test") for clip in bench.read_clips(root, split)]
    found = np.array([[one.offset for one in bench.judge_shifts(network, clip)] for clip in clips])
    right = (np.abs(found - np.array(bench.SHIFTS)) <= 1).mean(axis=0)
    assert right.min() >= 0.95, right
    assert (np.median(found, axis=0) == bench.SHIFTS).all()
    own = [lip_sync(network, clip.frames, [clip.waveform])[0] for clip in clips]
    foreign = [lip_sync(network, clip.frames, [clip.waveform])[0] for clip in bench.with_foreign_sound(clips)]
    confidence = [np.mean([one.confidence for one in side]) for side in (own, foreign)]
    assert confidence[0] > 2 * confidence[1]
