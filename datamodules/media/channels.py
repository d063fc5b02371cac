"""From many channels of sound to two and to one, with speech at its own level."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SURROUND = 0.5**0.5
"""Gain of what sounds from beside and behind (ITU-R BS.775)."""
_UNNAMED = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}
# Where a file does not name its channels: the order that WAVE_FORMAT_EXTENSIBLE and FFmpeg give them.
_MOST_CANCELLED = 0.1  # of the power of two channels, in their mean
_BLOCK, _FADED = (
    0.25,
    2,
)  # seconds that are judged at once; so many blocks round a cancelled one are treated as it is
_SILENT = 1e-6  # power, -60 dB
_log = logging.getLogger(__name__)


def fold_channels(waveform: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Sound ``(S, C)`` of more than two channels as ``(S, 2)``: the centre, where speech is, at full level on both sides.

    What is louder than 1 then is scaled down as a whole. Up to two channels, and more without names, stay as they are.
    """
    names = _UNNAMED.get(len(names), names) if set(names) == {"NONE"} else names
    gains = np.array([_gains(name) for name in names], dtype=np.float32)
    if len(names) <= 2 or not gains.any():
        return waveform
    folded = waveform @ gains
    return folded / max(1.0, float(np.abs(folded).max()))


def _gains(name: str) -> tuple[float, float]:
    """How loud a channel of this name sounds on the left and on the right."""
    if name.startswith("LFE") or name == "NONE":
        return 0.0, 0.0
    gain = 1.0 if name in ("FL", "FR", "FC") else SURROUND
    if "L" in name:
        return gain, 0.0
    if "R" in name:
        return 0.0, gain
    return (gain, gain) if name == "FC" else (gain / 2, gain / 2)


def mix_to_mono(waveform: np.ndarray, rate: int, path: Path | str) -> np.ndarray:
    """Mean ``(S,)`` of the channels ``(S, C)``; of two, the louder one alone, with a warning, where they would cancel.

    That is judged for each quarter of a second; the one is faded into the other where they still agree, half a second away.
    """
    mono = waveform.mean(axis=1)
    if waveform.shape[1] != 2:
        return mono
    starts = np.arange(0, len(mono), max(1, round(_BLOCK * rate)))

    def energies(channel: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.square(channel), starts, dtype=np.float64)

    power = np.stack([energies(waveform[:, 0]), energies(waveform[:, 1])], axis=1)
    left = energies(mono)
    lengths = np.diff(starts, append=len(mono))
    loud = power.mean(axis=1) > _SILENT * lengths
    cancelled = loud & (left < _MOST_CANCELLED * power.mean(axis=1))
    if not cancelled.any():
        return mono
    louder = int(power[cancelled].sum(axis=0).argmax())
    told = "%s: its two channels are in opposite phase in %.1f of %.1f s and would cancel; the %s one alone is used there"
    seconds = lengths[cancelled].sum() / rate, len(mono) / rate
    _log.warning(told, path, *seconds, ("left", "right")[louder])
    alone = np.convolve(np.pad(cancelled, _FADED), np.ones(2 * _FADED + 1), "valid") > 0
    share = np.interp(np.arange(len(mono)), starts + lengths / 2, alone).astype(np.float32)
    return mono + share * (waveform[:, louder] - mono)
