"""Mel-frequency cepstra as SyncNet hears them: `python_speech_features.mfcc` with its defaults, in torch, batched."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import SAMPLE_RATE

_FULL_SCALE = 32768


@dataclass(frozen=True)
class MfccSettings:
    """How cepstra are taken."""

    coefficients: int = 13  # number of them
    window: int = 400  # samples in a column: 25 ms, no window function
    hop: int = 160  # samples from one column to the next: 10 ms
    points: int = 512  # of the spectrum
    bands: int = 26  # triangles on the mel scale
    preemphasis: float = 0.97  # share of the sample before that is taken off each
    lifter: int = 22  # of the coefficients


MFCC = MfccSettings()
"""What SyncNet hears."""


def mfcc(waveform: Tensor, settings: MfccSettings = MFCC) -> Tensor:
    """Cepstra of speech, equal to what the package gives for the same sound as 16-bit samples.

    Pre-emphasis 0.97, rectangular 25 ms columns every 10 ms (the last one filled up with zeros), power spectrum of 512
    points, 26 triangles of unit peak, logarithm, orthonormal DCT-II, sine lifter of 22. The first coefficient is
    replaced by the logarithm of the column's energy. Zero energies count as the machine epsilon of float64.

    ``(B, 13, T)`` in the type of the input, computed in float64, of waveforms ``(B, S)`` in [-1, 1] at 16 kHz, rounded to
    16-bit steps, as the published SyncNet reads a file; T = 1 + ceil((S - 400) / 160), at least 1.

    Raises:
        ValueError: Not ``(B, S)`` with S > 0.

    Source: Davis and Mermelstein 1980; J. Lyons, python_speech_features 0.6.
    """
    if waveform.ndim != 2 or not waveform.shape[1]:
        raise ValueError(f"waveform must be (B, S) with S > 0, got {tuple(waveform.shape)}")
    samples = (waveform.double() * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1)
    emphasised = torch.cat([samples[:, :1], samples[:, 1:] - settings.preemphasis * samples[:, :-1]], dim=1)
    length = settings.window + (mfcc_frames(waveform.shape[1], settings) - 1) * settings.hop
    columns = F.pad(emphasised, (0, length - waveform.shape[1])).unfold(1, settings.window, settings.hop)
    spectrum = torch.fft.rfft(columns, n=settings.points)  # (B, T, 257)
    power = (spectrum.real.square() + spectrum.imag.square()) / settings.points
    bank, transform = _tables(waveform.device, settings)
    cepstra = _log(power @ bank) @ transform  # (B, T, 13)
    return torch.cat([_log(power.sum(-1, keepdim=True)), cepstra[..., 1:]], -1).mT.to(waveform.dtype)


def mfcc_frames(samples: int, settings: MfccSettings = MFCC) -> int:
    """Columns that `mfcc` makes of so many samples."""
    return 1 + max(0, math.ceil((samples - settings.window) / settings.hop))


def _log(energy: Tensor) -> Tensor:
    return torch.where(energy == 0, torch.finfo(torch.float64).eps, energy).log()


@lru_cache(maxsize=8)
def _tables(device: torch.device, settings: MfccSettings) -> tuple[Tensor, Tensor]:
    """Filterbank ``(257, 26)`` and DCT with lifter ``(26, 13)``, float64; ordinary tensors under inference mode too."""
    count = settings.bands
    orders, bands = np.arange(settings.coefficients), np.arange(count)
    cosines = np.cos(np.pi * orders * (2 * bands[:, None] + 1) / (2 * count)) * math.sqrt(2 / count)
    cosines[:, 0] /= math.sqrt(2)
    lifter = 1 + settings.lifter / 2 * np.sin(np.pi * orders / settings.lifter)
    with torch.inference_mode(False):
        bank, transform = torch.from_numpy(_filterbank(settings)), torch.from_numpy(cosines * lifter)
        return bank.to(device), transform.to(device)


def _filterbank(settings: MfccSettings) -> np.ndarray:
    """Triangles ``(257, 26)`` with corners at whole FFT bins, even on the mel scale 2595 log10(1 + f / 700)."""
    mels = np.linspace(0, 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700), settings.bands + 2)
    corners = np.floor((settings.points + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)
    lower, peak, upper = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(settings.points // 2 + 1)[:, None]
    return np.maximum(0, np.minimum((bins - lower) / (peak - lower), (upper - bins) / (upper - peak)))
