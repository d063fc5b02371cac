"""What the benchmarks of sound and of variance compute, on made-up clips."""

import sys
from types import ModuleType

import numpy as np
import pytest

from datamodules.errors import UserError


@pytest.fixture
def sound(load) -> ModuleType:
    return load("synthetic_sound")


def made_up_clips(sound: ModuleType, number: int, rng: np.random.Generator) -> list:
    """Clips of noise whose lips are one band of it, two frames earlier."""
    clips = []
    for _ in range(number):
        spectra = rng.standard_normal((80, 320)).astype(np.float32)
        band = spectra.reshape(80, -1, sound.MEL_BANDS).mean(axis=1)[:, 7]
        lips = np.stack([np.roll(band, 2), np.zeros(80)], axis=1).astype(np.float32)
        lips[:2] = 0
        clips.append(sound.Clip(False, np.zeros(640 * 80, np.float32), spectra, lips))
    return clips


def test_ridge_finds_a_linear_map(sound: ModuleType) -> None:
    rng = np.random.default_rng(0)
    weights = sound.fit_ridge(made_up_clips(sound, 60, rng))
    unseen = made_up_clips(sound, 3, rng)
    predicted = [sound.with_context(clip.sound) @ weights[:, 0] for clip in unseen]
    assert sound.explained(predicted, [clip.lips[:, 0] for clip in unseen]) > 0.8
    assert sound.explained(predicted, [clip.lips[:, 0] for clip in unseen[1:] + unseen[:1]]) < 0


@pytest.mark.parametrize("delay", [-4, 0, 3])
def test_offset_of_late_sound_is_positive(sound: ModuleType, delay: int) -> None:
    lips = np.random.default_rng(1).standard_normal(120)
    assert sound.found_offset(np.roll(lips, delay), lips) == delay


def test_delayed_clip_has_later_sound(sound: ModuleType) -> None:
    waveform = np.zeros(640 * 50, np.float32)
    waveform[640 * 20 : 640 * 21] = 0.5
    clip = sound.Clip.of("train", waveform, np.zeros(50), np.zeros(50))
    assert [int(clip.delayed(k).sum(axis=1).argmax()) for k in (-3, 0, 5)] == [17, 20, 25]


def test_explained_variance_of_draws(load) -> None:
    variance = load("synthetic_variance")
    rng = np.random.default_rng(3)
    speeches = []
    for _ in range(10):
        common = rng.standard_normal((400, 1))
        speeches.append(
            [np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal((400, 1)) for _ in range(8)]
        )
    share, error = variance.explained(speeches)
    assert share == pytest.approx(0.3, abs=0.02)
    assert 0 < error < 0.02


def test_wrong_input_is_one_line(load, sound: ModuleType, monkeypatch, capsys) -> None:
    printing = load("printing")
    monkeypatch.setattr(sys, "argv", ["synthetic_sound.py", "--clips", "2"])
    with pytest.raises(SystemExit) as caught:
        printing.one_line_errors(sound.main)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: --clips 2")

    def refuse() -> None:
        raise UserError("no")

    with pytest.raises(SystemExit):
        printing.one_line_errors(refuse)
    assert capsys.readouterr().err == "error: no\n"
