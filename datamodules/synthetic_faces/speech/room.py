"""What a microphone adds to speech: the echo of a room and background noise."""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve, lfilter

from datamodules.batches import SAMPLE_RATE

RT60 = (0.15, 0.6)  # range of the time in seconds over which the echo falls by 60 dB
DIRECT_TO_ECHO = (6.0, 18.0)  # range of the energy of the direct sound over that of the echo, in dB
NOISE_KINDS = ("pink", "hum", "babble")

_EARLY = (0.003, 0.035)  # seconds in which single reflections arrive
_TAIL_START = 0.012
_EARLY_SHARE = (0.3, 0.6)  # of the energy of the echo


def room_response(rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a room, drawn at random.

    ``(K,)`` float64, up to 0.6 s at 16 kHz. Sample 0 is the direct sound with gain 1, so that convolution neither delays
    speech nor changes its level by more than the echo adds. Then come a few reflections and a tail of noise that decays
    exponentially: in a time of ``RT60``, with a ratio of direct sound to echo of ``DIRECT_TO_ECHO``.
    """
    decay = rng.uniform(*RT60)
    echo_energy = 10.0 ** (-rng.uniform(*DIRECT_TO_ECHO) / 10.0)
    share = rng.uniform(*_EARLY_SHARE)
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = 10.0 ** (-3.0 * time / decay)

    early = np.zeros(len(time))
    arrivals = np.round(rng.uniform(*_EARLY, size=int(rng.integers(4, 9))) * SAMPLE_RATE).astype(int)
    early[arrivals] = rng.choice((-1.0, 1.0), len(arrivals)) * rng.uniform(0.5, 1.0, len(arrivals))
    early *= envelope
    # Walls swallow high frequencies: a one-pole low-pass.
    pole = rng.uniform(0.3, 0.7)
    tail = lfilter([1.0 - pole], [1.0, -pole], rng.standard_normal(len(time))) * envelope
    tail *= time > _TAIL_START

    response = np.sqrt(share) * _unit_energy(early) + np.sqrt(1.0 - share) * _unit_energy(tail)
    response *= np.sqrt(echo_energy)
    response[0] = 1.0
    return response


def reverberate(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """16 kHz speech ``(S,)`` as it sounds in a room: float32, in sync with it; the echo after its end is cut."""
    return fftconvolve(waveform.astype(np.float64), response)[: len(waveform)].astype(np.float32)


def background_noise(rng: np.random.Generator, kind: str, samples: int) -> np.ndarray:
    """Noise of one of ``NOISE_KINDS`` at 16 kHz with a mean square of 1, ``(S,)`` float64.

    Pink: power that falls with the frequency; hum: that of the mains; babble: a murmur of many voices.
    """
    noise = {"pink": _pink, "hum": _hum, "babble": _babble}[kind](rng, samples)
    return noise / np.sqrt(np.mean(np.square(noise)) + 1e-12)


def _unit_energy(values: np.ndarray) -> np.ndarray:
    return values / np.sqrt(np.sum(np.square(values)) + 1e-12)


def _pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE), 60.0))
    return np.fft.irfft(spectrum, samples)


def _hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Harmonics of 50 or 60 Hz over a bed of pink noise."""
    time = np.arange(samples) / SAMPLE_RATE
    mains = float(rng.choice((50.0, 60.0)))
    hum = np.zeros(samples)
    for harmonic in range(1, 9):
        strength = rng.uniform(0.3, 1.0) / harmonic
        hum += strength * np.sin(2 * np.pi * (harmonic * mains * time + rng.random()))
    bed = _pink(rng, samples)
    return hum + 0.15 * bed / (bed.std() + 1e-12)


def _babble(rng: np.random.Generator, samples: int, voices: int = 5) -> np.ndarray:
    """Noise in the bands of formants, each band louder and quieter at the pace of syllables."""
    frequency = np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    sum_of_voices = np.zeros(samples)
    for _ in range(voices):
        for centre, width, strength in ((450.0, 0.4, 1.0), (1400.0, 0.3, 0.4), (2700.0, 0.25, 0.2)):
            centre *= float(np.exp(rng.normal(0.0, 0.12)))
            band = np.exp(-0.5 * np.square(np.log(np.maximum(frequency, 20.0) / centre) / width))
            noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * band, samples)
            sum_of_voices += strength * noise / (noise.std() + 1e-12) * _syllables(rng, samples)
    return sum_of_voices


def _syllables(rng: np.random.Generator, samples: int, hop: int = SAMPLE_RATE // 100) -> np.ndarray:
    """Envelope above 0 that rises and falls some four times a second, ``(S,)``."""
    slow = gaussian_filter1d(rng.standard_normal(samples // hop + 2), 0.05 * SAMPLE_RATE / hop, mode="wrap")
    slow /= slow.std() + 1e-12
    return np.interp(np.arange(samples), hop * np.arange(len(slow)), np.exp(0.8 * np.clip(slow, -2.5, 2.5)))
