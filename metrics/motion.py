"""Motion of a clip's head, mouth and eyes, of curves that a judge measured on rendered frames; how curves correlate.

A judge looks at frames and nothing else: `measure_motion(frames, judge)`. Every function below takes its curves.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from datamodules.batches import FPS, window_starts


@dataclass(frozen=True)
class BlinkSettings:
    """When eyes blink."""

    threshold: float = 0.5  # above it the eyes are closed
    minimum_frames: int = 2  # frames that a blink lasts at least


@dataclass(frozen=True)
class JitterSettings:
    """What counts as trembling."""

    cutoff_hz: float = 6.0  # no head moves faster
    shortest: int = 8  # frames with a face that it needs


@dataclass(frozen=True)
class EdgeSettings:
    """Where what is generated in windows may jerk."""

    window: int = 64  # frames of a window
    overlap: bool = True  # the last window ends with the clip, and may begin within the one before
    still: float = 1e-6  # degrees a frame below which a head doesn't move


@dataclass(frozen=True)
class LagSettings:
    """How curves are correlated."""

    reach: int = 10  # frames on either side that the best lag is looked for in
    shortest: int = 8  # frames known in both curves that a correlation needs
    still: float = 1e-6  # standard deviation below which a curve is constant but for rounding


BLINK, JITTER, EDGE, LAG = BlinkSettings(), JitterSettings(), EdgeSettings(), LagSettings()


@dataclass(frozen=True)
class MotionCurves:
    """What a judge saw on the frames of one clip; NaN on frames where it found no face."""

    rotation: np.ndarray  # (T, 3) yaw, pitch, roll of the head in degrees
    lip_opening: np.ndarray  # (T,) inner-lip gap over the distance of the outer eye corners
    blink: np.ndarray  # (T,) 0 open .. 1 closed

    def __len__(self) -> int:
        return len(self.lip_opening)


class MotionJudge(Protocol):
    """Measures motion on frames."""

    name: str  # that results carry

    @property
    def sha256(self) -> str:
        """Hash of the weights, part of the protocol hash."""

    def measure(self, frames: np.ndarray) -> MotionCurves:
        """Curves of the frames ``(T, H, W, 3)`` uint8 RGB of one clip."""


def measure_motion(frames: np.ndarray, judge: MotionJudge) -> MotionCurves:
    """Measure the motion seen on the frames of one clip.

    Args:
        frames: ``(T, H, W, 3)`` uint8 RGB.
        judge: A fitted FrameRegressor or a LandmarkJudge.

    Raises:
        ValueError: The frames have another shape or type.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    return judge.measure(frames)


def head_motion(rotation: np.ndarray) -> float:
    """RMS over yaw, pitch and roll, ``(T, 3)`` in degrees, of their standard deviation over time."""
    known = rotation[np.isfinite(rotation).all(axis=1)]
    return float(np.sqrt(known.var(axis=0).mean())) if len(known) > 1 else float("nan")


def edge_steps(rotation: np.ndarray, settings: EdgeSettings = EDGE) -> float:
    """Mean step of the head from one window of frames to the next, over the clip's median step.

    A step is the norm of the change of yaw, pitch and roll, ``(T, 3)`` in degrees, from one frame to the next. NaN for clips
    of a single window, and for heads that don't move.
    """
    steps, edges = _steps(rotation, settings)
    return _ratio(steps[edges], float(np.nanmedian(steps)) if np.isfinite(steps).any() else 0.0, settings)


def edge_step_ratio(rotation: np.ndarray, settings: EdgeSettings = EDGE) -> float:
    """Mean step of the head from window to window over that inside of windows, see `edge_steps`; about 1 without seams."""
    steps, edges = _steps(rotation, settings)
    inside = steps[~edges]
    return _ratio(steps[edges], float(np.nanmean(inside)) if np.isfinite(inside).any() else 0.0, settings)


def edge_frames(frames: int, settings: EdgeSettings = EDGE) -> list[int]:
    """First frames of all windows but the first, of a clip of so many frames."""
    starts = window_starts(frames, settings.window)
    return starts[1:] if settings.overlap else list(range(settings.window, frames, settings.window))


def _steps(rotation: np.ndarray, settings: EdgeSettings) -> tuple[np.ndarray, np.ndarray]:
    """Steps ``(T - 1,)`` of the head in degrees, and which of them lead from one window to the next."""
    steps = np.linalg.norm(np.diff(rotation, axis=0), axis=1)
    starts = edge_frames(len(rotation), settings)
    return steps, np.isin(np.arange(1, len(rotation)), starts)


def _ratio(edges: np.ndarray, usual: float, settings: EdgeSettings) -> float:
    known = edges[np.isfinite(edges)]
    return float(known.mean() / usual) if len(known) and usual > settings.still else float("nan")


def shared_motion(draws: np.ndarray) -> float:
    """Share of the variance of head rotation over a clip that several draws of it have in common: what its speech explains.

    The variance over time of the mean curve, less what of it is chance, over the whole, summed over yaw, pitch and roll
    (one-way analysis of variance, the moments of time as groups), of draws each about its own mean: the posture is no motion.
    About 0 for draws that nothing joins, so that a clip's may be below 0; 1 for equal ones.

    Args:
        draws: ``(D, T, 3)`` in degrees, at least two of them; moments at which one has no face don't count.
    """
    known = draws[:, np.isfinite(draws).all(axis=(0, 2))]
    if min(known.shape[:2]) < 2:
        return float("nan")
    known = known - known.mean(axis=1, keepdims=True)
    chance = known.var(axis=0, ddof=1).mean(axis=0)  # (3,) between draws, at one moment
    common = known.mean(axis=0).var(axis=0, ddof=1) - chance / len(known)
    whole = (common + chance).sum()
    return float(common.sum() / whole) if whole > EDGE.still**2 else float("nan")


def mouth_motion(lip_opening: np.ndarray) -> float:
    """Standard deviation over time of the lip opening ``(T,)``, in its own unit."""
    known = lip_opening[np.isfinite(lip_opening)]
    return float(known.std()) if len(known) > 1 else float("nan")


def blink_starts(blink: np.ndarray, settings: BlinkSettings = BLINK) -> np.ndarray:
    """Frames at which blinks begin: runs of closed eyes that begin within the clip.

    Eyes that are closed from the first frame with a face on have not been seen to close: a still picture of shut eyes
    blinks at no time. A blink that the clip's end cuts counts.

    ``(N,)`` indices; ``blink`` ``(T,)`` is 0 open .. 1 closed, and a frame without a face counts as open.
    """
    closed = np.concatenate([[False], np.nan_to_num(blink) > settings.threshold, [False]]).astype(np.int8)
    edges = np.diff(closed)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    seen = np.flatnonzero(np.isfinite(blink))[:1]
    return starts[(ends - starts >= settings.minimum_frames) & ~np.isin(starts, seen)]


def blink_rate(blink: np.ndarray, settings: BlinkSettings = BLINK) -> float:
    """Blinks per minute of ``blink`` ``(T,)``, see `blink_starts`; NaN where no frame has a face."""
    if not np.isfinite(blink).any():
        return float("nan")
    return float(len(blink_starts(blink, settings)) * 60 * FPS / len(blink))


def blinks_followed(
    blink: np.ndarray, real: np.ndarray, settings: BlinkSettings = BLINK, beside: int = 2
) -> float:
    """Share of the real blinks in which the lids shut, too: in one of its frames, or ``beside`` it.

    Of ``blink`` and ``real`` ``(T,)``, 0 open .. 1 closed, frame by frame; a frame without a face counts as open. NaN where
    the real lids never blink.
    """
    starts = blink_starts(real, settings)
    if not len(starts):
        return float("nan")
    shut, open_again = np.nan_to_num(blink) > settings.threshold, np.nan_to_num(real) <= settings.threshold
    followed = []
    for start in starts:
        end = start + np.argmax(np.append(open_again[start:], True))
        followed.append(shut[max(0, start - beside) : end + beside].any())
    return float(np.mean(followed))


def jitter(curves: np.ndarray, settings: JitterSettings = JITTER) -> float:
    """RMS of what a rigid curve holds above 6 Hz, which no head does: trembling.

    Args:
        curves: ``(T, C)`` head rotation in degrees, or rigid landmark coordinates; the result has their unit. Frames with
            NaN are bridged by straight lines and don't count: joined ends of a gap would be a jolt that nobody saw.
        settings: What counts as trembling.
    """
    seen = np.isfinite(curves).all(axis=1)
    if seen.sum() < settings.shortest:
        return float("nan")
    frames = np.flatnonzero(seen)
    every = np.arange(frames[0], frames[-1] + 1)
    whole = np.stack([np.interp(every, frames, column[frames]) for column in curves.T], axis=1)
    steps = np.linspace(0, 1, len(whole))[:, None]
    # The spectrum of a cut-out piece leaks its trend into all frequencies: straight line out, Hann window on.
    detrended = whole - (whole[0] + steps * (whole[-1] - whole[0]))
    window = np.hanning(len(whole))[:, None]
    spectrum = np.fft.rfft((detrended - detrended.mean(axis=0)) * window, axis=0)
    frequencies = np.fft.rfftfreq(len(whole), 1 / FPS)
    fast = frequencies > settings.cutoff_hz
    # All but the highest stand for two frequencies.
    twice = np.where(frequencies[fast] == FPS / 2, 1, 2)[:, None]
    energy = twice * np.abs(spectrum[fast]) ** 2 / (len(whole) * (window[seen[every]] ** 2).sum())
    return float(np.sqrt(energy.sum(axis=0).mean()))


@dataclass(frozen=True)
class LagCorrelation:
    """Correlation of two curves at every lag."""

    best: float  # highest correlation over the lags
    lag: float  # lag of ``best`` in frames; positive = the measured curve comes late
    at_zero: float  # correlation without a shift
    curve: np.ndarray  # (2 reach + 1,) correlation at lags -reach .. reach


def correlation(first: np.ndarray, second: np.ndarray, settings: LagSettings = LAG) -> float:
    """Pearson correlation of two curves ``(T,)``; NaN frames are left out; NaN if one is constant."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < settings.shortest:
        return float("nan")
    a, b = first[known].astype(np.float64), second[known].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    # A still clip differs from a constant by rounding only: no correlation can be spoken of.
    if min(a.std(), b.std()) < settings.still or scale == 0:
        return float("nan")
    return float((a * b).sum() / scale)


def lagged_correlation(
    measured: np.ndarray, truth: np.ndarray, settings: LagSettings = LAG
) -> LagCorrelation:
    """Correlation of a measured curve ``(T,)`` with the true one at every lag within reach.

    Raises:
        ValueError: The lengths differ.
    """
    if measured.shape != truth.shape:
        raise ValueError(f"curves of {measured.shape} and {truth.shape} frames cannot be correlated")
    length, reach = len(truth), settings.reach
    curve = np.full(2 * reach + 1, np.nan)
    for lag in range(-reach, reach + 1):
        late, early = max(lag, 0), max(-lag, 0)
        if length - abs(lag) >= settings.shortest:
            pair = measured[late : length - early], truth[early : length - late]
            curve[lag + reach] = correlation(*pair, settings)
    if not np.isfinite(curve).any():
        return LagCorrelation(float("nan"), float("nan"), float("nan"), curve)
    best = int(np.nanargmax(curve))
    return LagCorrelation(float(curve[best]), float(best - reach), float(curve[reach]), curve)
