"""What clips give together: means with bootstrap intervals by identity, and distances over all frames at once."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.video_closure import closures
from experiments.video_judges import Judges
from experiments.video_measures import MotionSample
from experiments.video_pairs import Missing, VideoPair, entry
from experiments.video_rows import Judged
from metrics.av_correlation import AVSettings
from metrics.bootstrap import Interval, cluster_bootstrap, cluster_jackknife, mean, median
from metrics.distributions import (
    FEW_FRAMES,
    BlinkIntervalDistance,
    BlinkIntervalSettings,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFrechetDistance,
)
from metrics.protocol import better_of, is_lag, measure_of

DISTANCES = {
    "motion_frechet": (MotionFrechetDistance, "features"),
    "head_velocity_distance": (HeadVelocityDistance, "speed"),
    "head_spectrum_distance": (HeadSpectrumDistance, "spectrum"),
    "blink_interval_distance": (BlinkIntervalDistance, "intervals"),
}
POOLED = ("fid", "kid", "fvd")
FLOORED = ("av_corr", "lse_d", "lse_c", "lip_closure")
"""Measures that are also given between the shuffled (0) and the real row (1)."""
FEWEST_IDENTITIES = 6
"""Of fewer, all may have the better real row by luck in more than one of forty cases."""
NOTHING = "no clip has a value"
STILL = (
    f"the lips hardly move beside the real ones, or one of the two shows in fewer than {AVSettings().fewest_frames} "
    "frames"
)
REASONS = {
    "psnr": "the frames equal the real ones, which has no finite value",
    "csim": "the source frame or the video shows no face",
    "mouth_lmd": "the video or the real clip shows no face",
    "sharpness_mouth": "the video or the real clip shows no face",
    "sharpness_eyes": "the video or the real clip shows no face",
    "aed": "one of the two shows no face",
    **dict.fromkeys(("av_corr", "av_corr_zero", "av_lag"), STILL),
    "av_retrieval": f"{STILL}; or fewer than 2 s of overlap at the best lag, or no other voice",
    "head_spectrum_distance": "no clip lasts 3 s",
    "blink_interval_distance": f"fewer than {BlinkIntervalSettings().fewest} intervals between blinks on a side",
    "motion_frechet": "fewer than two frames with a face on a side, or a real face that rests",
    "fid": "fewer than two frames on a side",
    "kid": "fewer than two frames on a side",
    "fvd": "fewer than two windows on a side",
}
"""Why a measure can be without a value although its judge is there."""
SEEN = ("yaw", "pitch", "roll", "lip_opening", "blink")
"""What measures of motion are made of, by the names that a fitted judge has for it."""
LOST = "the method's face is missing in more than a tenth of the frames"
WEAK = 0.5
"""Share of variance below which a fitted judge of motion is called weak."""
SHORT_SPEECH = 75
"""Frames below which the best of 31 lags is often no higher for a clip's own speech than for foreign speech."""
FEW_FITTED = 5
"""Clips below which a regression from speech to lips is called fitted on too few."""


def _pooled_motion(judged: Sequence[Judged], row: str) -> dict[str, Interval]:
    """Distances between the distributions of motion of a row and of the real clips that have it, each take by itself."""
    # A video whose face is not seen has no speed, and neither side may have clips that the other lacks.
    judged = [
        one
        for one in judged
        if row in one.motion and all(len(sample.speed) for sample in one.motion["real"] + one.motion[row])
    ]
    suffix = "" if row == "generated" else f"_{row}"
    if not judged:
        return {f"{name}{suffix}": Interval(None, None, None, 0) for name in DISTANCES}
    clusters = [one.pair.identity for one in judged]
    found = {}
    for name, (metric_class, part) in DISTANCES.items():

        def statistic(kept: Collection[int], metric_class: Any = metric_class, part: str = part) -> float:
            if not len(kept):
                return float("nan")
            motion = [judged[index].motion for index in kept]
            real = _rows_of([clip["real"][0] for clip in motion], part)
            distances = []
            for take in range(len(motion[0][row])):
                metric = metric_class()
                metric.update(real, real=True)
                metric.update(_rows_of([clip[row][take] for clip in motion], part), real=False)
                distances.append(float(metric.compute()))
            return float(np.mean(distances))

        found[f"{name}{suffix}"] = cluster_jackknife(statistic, clusters).not_below(0)
    return found


def _rows_of(samples: Sequence[MotionSample], part: str) -> Tensor:
    """What clips add to one distribution, together."""
    return torch.from_numpy(np.concatenate([getattr(sample, part) for sample in samples]))


def _between(rows: np.ndarray) -> float:
    value, real, shuffled = rows.mean(axis=0)
    return float((value - shuffled) / (real - shuffled)) if real != shuffled else float("nan")


def share(rows: np.ndarray, clusters: Sequence[str], higher: bool = True) -> Interval:
    """Place of a measure between the shuffled and the real row, where the real one is better by more than chance.

    Args:
        rows: ``(N, 3)`` of clips: the method's value, the real and the shuffled one; NaN rows are left out.
        clusters: Identity of each clip; fewer than six can't tell chance, and there is no value.
        higher: Whether the higher value is the better.
    """
    better = (rows[:, 1] - rows[:, 2]) * (1 if higher else -1)
    ahead = cluster_bootstrap(better, clusters, mean)
    people = len({cluster for cluster, row in zip(clusters, rows, strict=True) if np.isfinite(row).all()})
    if people < FEWEST_IDENTITIES or ahead.low is None or ahead.low <= 0:
        return Interval(None, None, None, 0)
    return cluster_bootstrap(rows, clusters, _between)


def aggregate(judged: Sequence[Judged]) -> dict[str, Interval]:
    """Means over clips (medians of lags) with bootstrap intervals by identity, and distances of motion."""
    if not judged:
        return {}
    clusters = [one.pair.identity for one in judged]
    metrics = {}
    nothing = float("nan")
    for name in dict.fromkeys(name for one in judged for name in one.values):
        statistic = median if is_lag(name) else mean
        metrics[name] = cluster_bootstrap(
            [one.values.get(name, nothing) for one in judged], clusters, statistic
        )
    for name in FLOORED:
        names = (name, f"{name}_real", f"{name}_shuffled")
        rows = np.array([[one.values.get(key, nothing) for key in names] for one in judged])
        if np.isfinite(rows).all(axis=1).any():
            metrics[f"{name}_share"] = share(rows, clusters, better_of(name) == "higher")
    for row in dict.fromkeys(row for one in judged for row in one.motion if row != "real"):
        metrics.update(_pooled_motion(judged, row))
    return metrics


def summarise(
    judged: Sequence[Judged], judges: Judges, asked: Sequence[VideoPair], spares: Sequence[VideoPair] = ()
) -> tuple[dict[str, Interval], list[Missing], list[str]]:
    """Everything that clips give together.

    Args:
        judged: The clips; lip closure, which needs all of them, is added to the values of each.
        judges: That judged them.
        asked: The clips that were to be judged.
        spares: Real clips without a video.

    Returns:
        Measures by name, what is missing, and remarks on what the values stand on.
    """
    if not judged:
        return {}, [], []
    missing = _add_closures(judged, [*asked, *spares])
    metrics = aggregate(judged)
    notes = [*_remarks(judged, judges, len(asked)), *_add_pooled(metrics, judges)]
    return metrics, missing + _without_value(metrics, judges) + _clips_without_value(judged, metrics), notes


def _remarks(judged: Sequence[Judged], judges: Judges, asked: int) -> list[str]:
    """What a reader must know before believing the values."""
    notes = []
    if len(judged) < asked:
        notes.append(f"{len(judged)} of {asked} clips judged: rank only beside results of the same clips")
    if len({one.pair.identity for one in judged}) == 1:
        notes.append("one identity: nothing is known of how far the values hold for other people")
    lost = [
        one.pair.name
        for one in judged
        if np.isfinite(one.values["mouth_motion_real"]) and not np.isfinite(one.values["mouth_motion"])
    ]
    unseen = [one.pair.name for one in judged if not np.isfinite(one.values["mouth_motion_real"])]
    if unseen:
        notes.append(
            f"the real face is missing in more than a tenth of the frames, in {', '.join(unseen)}: what the method is given "
            "of them has no real value beside it"
        )
    if lost and len(lost) + len(unseen) == len(judged):
        notes.append(f"{LOST}, in every clip: measures of faces have no value")
    elif lost:
        notes.append(
            f"{LOST}, in {', '.join(lost)}: measures of faces are of the other clips, which may be easier ones and fewer "
            "than those of the real row (see n); do not rank them beside results of all clips"
        )
    still = [one.pair.name for one in judged if one.fitted and _rests(one)]
    if still and len(still) == sum(bool(one.fitted) for one in judged):
        notes.append("the method's lips hardly move in any clip: av_* have no value")
    elif still:
        notes.append(
            f"the method's lips hardly move in {', '.join(still)}: av_* are of the other clips; do not rank them beside "
            "results of all clips"
        )
    few = sum(len(one.motion["generated"][0].features) for one in judged)
    if 0 < few < FEW_FRAMES:
        notes.append(f"motion_frechet: {few} frames, too few (under {FEW_FRAMES})")
    fitted = [one.fitted for one in judged if one.fitted]
    if fitted and min(fitted) < FEW_FITTED:
        notes.append(
            f"av_*: the regression was fitted on too few clips ({min(fitted)}, under {FEW_FITTED}); compare with av_*_real"
        )
    short = [
        one.pair.name for one in judged if one.fitted and len(one.heard.lips["generated"][0]) < SHORT_SPEECH
    ]
    if short:
        notes.append(
            f"av_corr, av_lag: {len(short)} of the clips last under {SHORT_SPEECH} frames, in which the best of 31 lags is "
            "high by chance too; take av_corr_zero"
        )
    scores = judges.motion.get("held_out_r2") or {}
    weak = [f"{name} {score:.2f}" for name, score in scores.items() if name in SEEN and score < WEAK]
    if weak:
        notes.append(
            f"the judge of motion is weak on people that it never saw (share of variance explained): {', '.join(weak)}"
        )
    return notes


def _rests(one: Judged) -> bool:
    """Whether the method's lips are seen and hardly move where the real ones speak."""
    seen = np.isfinite([one.values["mouth_motion"], one.values["av_corr_zero_real"]]).all()
    return bool(seen) and not np.isfinite(one.values["av_corr_zero"])


def _add_closures(judged: Sequence[Judged], clips: Sequence[VideoPair]) -> list[Missing]:
    """Add ``lip_closure`` to every judged clip whose phones are known; returns what is missing."""
    found, missing = closures([one.heard for one in judged], clips)
    for one, values in zip(judged, found, strict=True):
        one.values.update(values)
    return missing


def _add_pooled(metrics: dict[str, Interval], judges: Judges) -> list[str]:
    """Add what is judged over all frames at once; returns remarks on what it stands on."""
    notes: list[str] = []
    for pooled in (judges.images, judges.windows):
        if pooled is not None:
            values, remarks = pooled.compute()
            metrics.update(values)
            notes += remarks
    return notes


def _without_value(metrics: dict[str, Interval], judges: Judges) -> list[Missing]:
    """The measures that no clip has a value of although their judge was there, and why."""
    told = {name for what, _ in judges.missing for name in what.split(", ")}
    whys: dict[str, list[str]] = {}
    for name, one in metrics.items():
        measure = measure_of(name)
        if one.value is None and measure is not None and measure not in told:
            whys.setdefault(_why_unknown(name, measure), []).append(name)
    for name in FLOORED:
        if name in metrics and f"{name}_share" not in metrics:
            whys.setdefault("no clip has a value, the real one and the shuffled one", []).append(
                f"{name}_share"
            )
    return [entry("*", ", ".join(names), why) for why, names in whys.items()]


def _why_unknown(name: str, measure: str) -> str:
    """Why no clip has a value of a measure, in the row that its name tells."""
    if name == f"{measure}_share":
        return (
            f"fewer than {FEWEST_IDENTITIES} identities, or the real row is not better than the shuffled one by more than "
            "chance"
        )
    if name == f"{measure}_autoencoder" and measure in POOLED:
        return "some clips lack this row: they would be on the real side alone"
    return REASONS.get(measure, NOTHING)


def _clips_without_value(judged: Sequence[Judged], metrics: dict[str, Interval]) -> list[Missing]:
    """The measures that others have a value of and a clip has not, and why; a row without a face is told already."""
    missing = []
    for one in judged:
        absent: dict[str, list[str]] = {}
        for name, value in one.values.items():
            measure = measure_of(name)
            if measure is None or np.isfinite(value) or metrics[name].value is None:
                continue
            row = name.removeprefix(measure)
            if np.isfinite(one.values["mouth_motion" if row == "_shuffled" else f"mouth_motion{row}"]):
                absent.setdefault(REASONS.get(measure, "no value"), []).append(name)
        missing += [entry(one.pair.name, ", ".join(names), why) for why, names in absent.items()]
    return missing
