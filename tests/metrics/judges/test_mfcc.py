"""MFCC: equal to python_speech_features where it is installed, and to a plain rewriting of its definition everywhere."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from datamodules.media.audio import load_audio
from metrics.judges.mfcc import mfcc, mfcc_frames

LENGTHS = [1, 399, 400, 401, 560, 561, 3200, 3440, 16000]


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    """Chirping tones under a slow envelope with digital silence in it, as 16-bit steps in [-1, 1]."""
    generator = np.random.default_rng(seed)
    times = np.arange(samples) / 16000
    tones = sum(
        np.sin(2 * np.pi * f * times * (1 + 0.1 * times)) / i for i, f in enumerate((140, 620, 2300), 1)
    )
    sound = 0.3 * tones * np.sin(2 * np.pi * 3 * times) ** 2 + 0.01 * generator.normal(size=samples)
    sound[samples // 2 : samples // 2 + 900] = 0
    return np.rint(sound.clip(-1, 1) * 32767) / 32768


def plain(signal: np.ndarray) -> np.ndarray:
    """The definition written out, one column and one filter after the other: ``(T, 13)``."""
    signal = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    starts, rows = range(0, max(1, -(-(len(signal) - 400) // 160) * 160 + 1), 160), []
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    corners = [int(513 * 700 * (10 ** (mel / 2595) - 1) / 16000) for mel in mels]
    for start in starts:
        column = np.zeros(400)
        part = signal[start : start + 400]
        column[: len(part)] = part
        power = np.abs(np.fft.fft(column, 512)[:257]) ** 2 / 512
        bands = []
        for low, peak, high in zip(corners, corners[1:], corners[2:], strict=False):
            rising = sum(power[i] * (i - low) / (peak - low) for i in range(low, peak))
            falling = sum(power[i] * (high - i) / (high - peak) for i in range(peak, high))
            bands.append(rising + falling or np.finfo(float).eps)
        cepstra = dct(np.log(bands), norm="ortho")[:13] * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
        rows.append([np.log(power.sum() or np.finfo(float).eps), *cepstra[1:]])
    return np.array(rows)


@pytest.mark.parametrize("samples", LENGTHS)
def test_equals_the_package(samples):
    package = pytest.importorskip("python_speech_features")
    sound = speechlike(samples)
    theirs = package.mfcc((sound * 32768).astype(np.int16), 16000)
    ours = mfcc(torch.from_numpy(sound)[None])[0].numpy().T
    assert ours.shape == theirs.shape == (mfcc_frames(samples), 13)
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_equals_the_package_on_recorded_speech(shared):
    package = pytest.importorskip("python_speech_features")
    sound = load_audio(shared / "data/speech/jfk_16k_mono.wav")
    theirs = package.mfcc((sound.astype(np.float64) * 32768).astype(np.int16), 16000)
    ours = mfcc(torch.from_numpy(sound)[None])[0].numpy().T
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("samples", LENGTHS)
def test_equals_the_definition_written_out(samples):
    sound = speechlike(samples)
    ours = mfcc(torch.from_numpy(sound)[None])[0].numpy().T
    np.testing.assert_allclose(ours, plain(sound * 32768), atol=1e-8)


GOLDEN = [[20.49497, 18.80600, 1.71236, -14.18030], [20.49964, 26.04359, 9.43264, -7.56286]]


def test_golden_values():
    """What the package gave for a tone of 440 Hz, columns 0 and 3."""
    tone = np.rint(0.5 * np.sin(2 * np.pi * 440 * np.arange(1200) / 16000) * 32768) / 32768
    ours = mfcc(torch.from_numpy(tone)[None])[0, :4, [0, 3]].T
    np.testing.assert_allclose(ours, GOLDEN, atol=1e-4)


def test_silence_is_finite_and_rows_do_not_mix():
    sounds = torch.stack([torch.from_numpy(speechlike(3200, seed)).float() for seed in (0, 1)])
    both = mfcc(torch.cat([sounds, torch.zeros(1, 3200)]))
    assert both.isfinite().all()
    assert both.dtype == torch.float32
    assert both.shape == (3, 13, 19)
    torch.testing.assert_close(both[1:2], mfcc(sounds[1:]))


def test_values_between_the_steps_are_rounded_and_overshoot_is_clipped():
    sound = torch.from_numpy(speechlike(2000)).float()[None]
    torch.testing.assert_close(mfcc(sound + 0.4 / 32768), mfcc(sound), atol=0, rtol=0)
    loud = torch.full((1, 800), 1.5)
    assert torch.equal(mfcc(loud), mfcc(loud.clamp(max=32767 / 32768)))


@pytest.mark.parametrize("shape", [(5,), (1, 0), (1, 1, 5)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="waveform"):
        mfcc(torch.zeros(shape))
