"""Lip sync by a regression, no download: how well lip openings follow what is expected from the speech.

The regression maps log-mel context, or what a network that knows speech hears (Whisper), to lip opening. It is fitted on
real clips of other people than the one that is judged, so it knows neither the face nor the voice nor the sentence.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datamodules.media.audio import MEL_BANDS, fit_length, log_mel
from metrics.lip_closure import LIP_RANGE, LipRangeSettings, hardly_move
from metrics.motion import LagCorrelation, LagSettings, correlation, lagged_correlation


@dataclass(frozen=True)
class RegressionSettings:
    """How the regression from speech to lips is fitted."""

    context: int = 6  # frames to either side whose sound it sees
    bands: int = 8  # mel bands that a frame is reduced to; a listener's vectors are kept whole
    ridge: float = (
        0.3  # weight of the ridge, as a share of the frames fitted on (the inputs have unit variance)
    )
    alignments: int = 2  # times that the clips fitted on are put in sync
    alignment_reach: int = 8  # frames that they are moved by, at most
    alignment_correlation: float = 0.3  # how well lips must correlate with what is expected for it


@dataclass(frozen=True)
class AVSettings:
    """How measured lips are correlated with expected ones."""

    reach: int = 15  # frames that lips and speech are shifted against each other by, as SyncNet's judge does
    fewest_frames: int = 40  # frames that must show lips: at every lag a second of them meets the speech


@dataclass(frozen=True)
class RetrievalSettings:
    """What retrieval chooses among."""

    window: int = 50  # frames of a window
    hop: int = 25  # frames from one window to the next
    reach: int = 3  # frames that a window may be shifted by beyond the clip's lag
    foreign: int = 20  # clips at most whose speech it chooses among: more cost time and change little


REGRESSION, AV, RETRIEVAL = RegressionSettings(), AVSettings(), RetrievalSettings()
BY_LISTENER = RegressionSettings(context=0)
"""A network's vector knows what was said before and after: a frame to either side adds 0.01 to 38 real clips' correlation."""
Listener = Callable[[Tensor], Tensor]
"""Makes two vectors a frame ``(B, 2T, D)`` of speech ``(B, 640 T)``."""


def speech_context(
    waveform: np.ndarray, settings: RegressionSettings = REGRESSION, listener: Listener | None = None
) -> np.ndarray:
    """What the regression sees of speech ``(640 T,)``, float in [-1, 1] at 16 kHz, at each frame.

    ``(T, 13 * 8)`` log-mel energy of the frame and of six frames to either side, 8 bands each, over the clip of zero mean
    and unit variance (loudness and microphone don't count); the ends are held. With a ``listener`` its two vectors of a
    frame, their mean, in place of the bands: ``(T, D)`` by `BY_LISTENER`.
    """
    speech, context = torch.from_numpy(np.asarray(waveform, dtype=np.float32))[None], settings.context
    if listener is None:
        grouped = log_mel(speech)[0].reshape(-1, 4, settings.bands, MEL_BANDS // settings.bands)
        bands = grouped.mean(dim=(1, 3)).double().numpy()  # (T, 8)
    else:
        bands = listener(speech)[0].unflatten(0, (-1, 2)).mean(dim=1).double().numpy()  # (T, D)
    bands = (bands - bands.mean(axis=0)) / (bands.std(axis=0) + 1e-3)
    padded = np.pad(bands, ((context, context), (0, 0)), mode="edge")
    return np.concatenate([padded[shift : shift + len(bands)] for shift in range(2 * context + 1)], axis=1)


def _standard(curve: np.ndarray) -> np.ndarray:
    """A curve ``(T,)`` of zero mean and unit deviation over its known frames."""
    deviation = np.nanstd(curve)
    return (curve - np.nanmean(curve)) / (deviation if deviation > 0 else 1.0)


@dataclass(frozen=True)
class SpokenClip:
    """A real clip that regressions are fitted on."""

    identity: str  # who is seen
    voice: str  # who is heard
    waveform: np.ndarray  # (640 T,) float in [-1, 1]
    lip_opening: np.ndarray  # (T,), any unit; NaN on frames without a face
    _contexts: dict[tuple[RegressionSettings, Listener | None], np.ndarray] = field(
        default_factory=dict, repr=False
    )

    def context(
        self, settings: RegressionSettings = REGRESSION, listener: Listener | None = None
    ) -> np.ndarray:
        """`speech_context` of the waveform; kept, as the clip helps many fits."""
        key = (settings, listener)
        if key not in self._contexts:
            self._contexts[key] = speech_context(self.waveform, *key)
        return self._contexts[key]


class LipRegressor:
    """Expects a lip opening from speech: ridge regression in closed form.

    Recordings are often out of sync by some frames, which would blur what is learnt: twice, each clip's lag is
    measured by a regression fitted on the others, and taken out.

    Raises:
        ValueError: No clip with a face to fit on.
    """

    def __init__(
        self,
        clips: Sequence[SpokenClip],
        settings: RegressionSettings = REGRESSION,
        listener: Listener | None = None,
    ) -> None:
        self.settings, self.listener = settings, listener
        seen = [clip for clip in clips if np.isfinite(clip.lip_opening).sum() > 1]
        if not seen:
            raise ValueError("no frame with a face and sound to fit the expected lip opening on")
        inputs = [clip.context(settings, listener) for clip in seen]
        lips = [_standard(clip.lip_opening) for clip in seen]
        self.lags = [0] * len(seen)
        for _ in range(settings.alignments if len(seen) > 1 else 0):
            others = (part.sum(axis=0) - part for part in _sums(inputs, lips, self.lags))
            fits = [_solve(sums, settings) for sums in zip(*others, strict=True)]
            self.lags = [
                _lag(x @ weights, y, settings) for x, y, weights in zip(inputs, lips, fits, strict=True)
            ]
        self.weights = _solve([part.sum(axis=0) for part in _sums(inputs, lips, self.lags)], settings)

    def expect(self, waveform: np.ndarray) -> np.ndarray:
        """Expected lip opening ``(T,)`` of speech ``(640 T,)``, up to scale and offset."""
        return speech_context(waveform, self.settings, self.listener) @ self.weights


def _sums(
    inputs: Iterable[np.ndarray], lips: Iterable[np.ndarray], lags: Iterable[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a fit needs of each of N clips: inputs times inputs ``(N, D, D)``, inputs times lips ``(N, D)``, frames."""
    covariances, products, frames = [], [], []
    for x, y, lag in zip(inputs, lips, lags, strict=True):
        moved = _earlier(y, lag)
        known = np.isfinite(moved)
        covariances.append(x[known].T @ x[known])
        products.append(x[known].T @ moved[known])
        frames.append(known.sum())
    return np.stack(covariances), np.stack(products), np.stack(frames)


def _solve(sums: Sequence[np.ndarray], settings: RegressionSettings) -> np.ndarray:
    covariance, product, frames = sums
    return np.linalg.solve(covariance + (settings.ridge * frames + 1e-9) * np.eye(len(product)), product)


def _lag(expected: np.ndarray, lips: np.ndarray, settings: RegressionSettings) -> int:
    """Frames that the lips come late by; 0 where they hardly follow the speech."""
    found = lagged_correlation(lips, expected, LagSettings(reach=settings.alignment_reach))
    return int(found.lag) if found.best > settings.alignment_correlation else 0


def _earlier(curve: np.ndarray, frames: int) -> np.ndarray:
    """The curve ``(T,)`` so many frames earlier, NaN where it ends."""
    moved = np.full_like(curve, np.nan)
    late, early = max(frames, 0), max(-frames, 0)
    moved[early : len(curve) - late] = curve[late : len(curve) - early]
    return moved


def fit_without(
    clips: Sequence[SpokenClip],
    identity: str,
    voice: str,
    settings: RegressionSettings = REGRESSION,
    listener: Listener | None = None,
) -> LipRegressor | None:
    """The regression fitted on all clips but those of one face or voice; None if nothing is left."""
    others = [clip for clip in clips if clip.identity != identity and clip.voice != voice]
    try:
        return LipRegressor(others, settings, listener)
    except ValueError:
        return None


def av_correlation(
    lip_opening: np.ndarray, expected: np.ndarray, settings: AVSettings = AV
) -> LagCorrelation:
    """Correlate measured lips ``(T,)`` with those expected from the speech ``(T,)``, NaN for lips that don't move.

    The highest correlation is positive also for lips that have nothing to do with the speech: compare with shuffled
    speech. The lag is negative where the sound comes late.

    Raises:
        ValueError: The lengths differ.
    """
    return lagged_correlation(lip_opening, expected, LagSettings(reach=settings.reach))


def _window_correlations(
    lips: np.ndarray, expected: np.ndarray, settings: RetrievalSettings, whole: AVSettings
) -> np.ndarray:
    """Correlation of each window of the lips with one speech, at the lag that fits the whole clip best, give or take 3."""
    found = -av_correlation(lips, expected, whole).lag
    lag, length = 0 if np.isnan(found) else int(found), settings.window
    best = []
    for start in range(0, len(lips) - length + 1, settings.hop):
        begins = [start + shift for shift in range(lag - settings.reach, lag + settings.reach + 1)]
        values = [
            correlation(lips[start : start + length], expected[begin : begin + length])
            for begin in begins
            if 0 <= begin <= len(expected) - length
        ]
        best.append(max((value for value in values if np.isfinite(value)), default=np.nan))
    return np.array(best)


def av_retrieval(
    lip_opening: np.ndarray,
    expected: np.ndarray,
    others: Sequence[np.ndarray],
    settings: RetrievalSettings = RETRIEVAL,
    whole: AVSettings = AV,
) -> float:
    """How often lips find their own speech among foreign speech: the share of foreign pieces that correlate worse.

    Windows of two seconds are compared at the same place of every speech, each at the lag that suits it best, so that
    lips which have nothing to do with their speech reach 0.5 on average.

    Args:
        lip_opening: ``(T,)`` measured.
        expected: ``(T,)`` from the clip's speech.
        others: What is expected from foreign speech, ``(T',)`` each, by the same regression; repeated or cut to T.
        settings: What it chooses among.
        whole: How whole clips are correlated, for their lag.

    Returns:
        In [0, 1]; NaN without foreign speech, for a clip shorter than two seconds, or for lips that don't move.
    """
    own = _window_correlations(lip_opening, expected, settings, whole)
    shares = []
    for other in others:
        resized = np.resize(other, len(lip_opening))
        foreign = _window_correlations(lip_opening, resized, settings, whole)
        known = np.isfinite(own) & np.isfinite(foreign)
        if known.any():
            worse = (foreign < own) + 0.5 * (foreign == own)
            shares.append(float(worse[known].mean()))
    return float(np.mean(shares)) if shares else float("nan")


def measure_sync(
    lip_opening: np.ndarray,
    waveform: np.ndarray,
    regressor: LipRegressor,
    others: Sequence[np.ndarray] = (),
    real: np.ndarray | None = None,
    settings: AVSettings = AV,
    retrieval: RetrievalSettings = RETRIEVAL,
    lip_range: LipRangeSettings = LIP_RANGE,
) -> dict[str, float]:
    """The measures ``av_corr``, ``av_corr_zero``, ``av_lag`` and ``av_retrieval`` of one clip.

    They are NaN for lips that are known in fewer than 40 frames, or that hardly move: what a codec does to a still
    picture would be told as speech.

    Args:
        lip_opening: ``(T,)`` measured on the clip's frames.
        waveform: ``(S,)`` the speech that belongs to them, cut or padded to T frames.
        regressor: Fitted on other people.
        others: Speech of other clips ``(640 T',)``, for retrieval.
        real: ``(T',)`` lips of the real clip, which says what hardly moves (`hardly_move`); None: only a constant does.
        settings: How lips are correlated with what is expected.
        retrieval: What retrieval chooses among.
        lip_range: When lips hardly move.
    """
    known = int(np.isfinite(lip_opening).sum())
    if known < settings.fewest_frames or (real is not None and hardly_move(lip_opening, real, lip_range)):
        return dict.fromkeys(("av_corr", "av_corr_zero", "av_lag", "av_retrieval"), float("nan"))
    expected = regressor.expect(fit_length(waveform, len(lip_opening)))
    found = av_correlation(lip_opening, expected, settings)
    foreign = [regressor.expect(other) for other in others]
    return {
        "av_corr": found.best,
        "av_corr_zero": found.at_zero,
        "av_lag": -found.lag,  # positive = the sound comes late, as SyncNet's offset is meant here
        "av_retrieval": av_retrieval(lip_opening, expected, foreign, retrieval, settings),
    }


def measure_heard_sync(
    lip_opening: np.ndarray,
    waveform: np.ndarray,
    regressor: LipRegressor,
    real: np.ndarray | None = None,
    settings: AVSettings = AV,
    lip_range: LipRangeSettings = LIP_RANGE,
) -> dict[str, float]:
    """`measure_sync` by a regression with a listener, without retrieval; names end in ``_whisper``."""
    found = measure_sync(lip_opening, waveform, regressor, (), real, settings, lip_range=lip_range)
    return {f"{name}_whisper": value for name, value in found.items() if name != "av_retrieval"}
