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


def mix_to_mono(waveform: np.ndarray, path: Path | str) -> np.ndarray:
    """Mean ``(S,)`` of the channels ``(S, C)``; of two in opposite phase, which cancel, the louder one, with a warning."""
    mono = waveform.mean(axis=1)
    if waveform.shape[1] != 2:
        return mono
    power = np.square(waveform, dtype=np.float64).mean(axis=0)
    if np.square(mono, dtype=np.float64).mean() < _MOST_CANCELLED * power.mean():
        louder = int(power.argmax())
        told = "%s: its two channels are in opposite phase and would cancel; the %s one alone is used"
        _log.warning(told, path, ("left", "right")[louder])
        return np.ascontiguousarray(waveform[:, louder])
    return mono
