"""The self-test: real clips made worse by degrees. A measure that means something answers in order.

Every corruption stands at four strengths, the first of which is none. A measure answers if its mean over the clips gets
worse at each step; corruptions that a measure is not made for are shown, and not counted.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.batches import FPS, SAMPLES_PER_FRAME
from datamodules.clips.phones import Phone
from datamodules.errors import UserError
from metrics.av_correlation import LipRegressor, SpokenClip, fit_without
from metrics.evaluation.clips import CLIP_FAILURES, NO_PHONES, ClipFiles, Missing, entry
from metrics.evaluation.contexts import FrameContext, SpeechContext
from metrics.evaluation.corruptions import CORRUPTIONS, corrupt
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import load_clip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import is_lag, of_kind, values_of
from metrics.evaluation.views import View
from metrics.fid import extract_features

MOST_CLIPS = 12
FEW_CLIPS, SHORT_CLIP = 5, 100
"""Clips and frames below which an order may be chance."""
EVERY, WINDOWS = 5, 3
"""Of so many frames one is shown to the Inception; windows of a clip that I3D sees, one after the other from the start."""
BY_CHANCE = {"av_corr": 0.0, "av_corr_zero": 0.0, "av_retrieval": 0.5}
"""What lips that can't be told any more count as: they follow nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What is measured of a clip's frames."""

    values: dict[str, float]  # measures by name
    motion: dict[str, np.ndarray]  # what they add to the distributions of motion, by measure
    features: dict[str, Tensor]  # of pictures and windows, by kind of measure


@dataclass
class Sample:
    """A real clip, looked at, and what is the same at every corruption."""

    name: str  # of the clip
    identity: str  # who is seen and heard
    view: View  # its frames
    waveform: np.ndarray | None  # (640 T,), or None without sound
    phones: Sequence[Phone] = ()  # spoken in it; empty where unknown
    seen: Seen = Seen({}, {}, {})  # what is measured of its frames as they are
    regressor: LipRegressor | None = None  # fitted on the speech of others; None without others
    foreign: Sequence[np.ndarray] = ()  # speech of the others


def measure_frames(view: View, real: View, judges: Judges, features: dict[str, Tensor] | None = None) -> Seen:
    """All that a corrupted clip's frames say against the clip as it was; frame by frame on every third frame."""
    source = None if real.embeddings is None else real.embeddings[0]
    context = FrameContext(view.protocol, judges, view, real, source)
    values = values_of(of_kind("frames", judges) + of_kind("free", judges), context)
    values |= values_of(of_kind("aligned", judges), context.part(slice(3, None, 3)))
    # The same frames have no finite PSNR; the 8-bit limit lets a mean be taken.
    values["psnr"] = min(values["psnr"], 100.0)
    motion = {one.name: one.ask(context) for one in of_kind("motion", judges)}
    return Seen(values, motion, features or picture_features(view.frames, judges, view.protocol))


def picture_features(frames: Tensor, judges: Judges, protocol: Protocol) -> dict[str, Tensor]:
    """What the networks that are there see of the frames ``(T, 3, H, W)`` uint8 of one clip."""
    found, length = {}, protocol.fvd.length
    if judges.inception is not None:
        shown = frames[::EVERY].split(32)
        found["pictures"] = torch.cat([extract_features(judges.inception, part) for part in shown])
    starts = range(0, len(frames) - length + 1, length)[:WINDOWS]
    if judges.i3d is not None and starts:
        parts = [frames[None, start : start + length] for start in starts]
        found["windows"] = torch.cat([extract_features(judges.i3d, part) for part in parts])
    return found


def picture_distances(
    real: Sequence[dict[str, Tensor]],
    corrupted: Sequence[dict[str, Tensor]],
    judges: Judges,
    protocol: Protocol,
) -> dict[str, float]:
    """``fid``, ``kid`` and ``fvd`` between all clips as they were and as they are, as far as their judges are there.

    So few frames give distances that compare with each other and with nothing else.
    """
    values = {}
    for kind in ("pictures", "windows"):
        sides = [[one[kind] for one in side if kind in one] for side in (real, corrupted)]
        for measure in of_kind(kind, judges) if all(sides) else ():  # type: ignore[arg-type]
            pooled = measure.new_pool(protocol, sides[0][0].shape[1])
            for name, side in zip(("real", "corrupted"), sides, strict=True):
                for features in side:
                    pooled.add(features, name)
            if (value := pooled.interval(["corrupted"]).value) is not None:
                values[measure.name] = value
    return values


def measure_speech(
    view: View, sample: Sample, late: int, judges: Judges, protocol: Protocol
) -> dict[str, float]:
    """Lip sync of a clip's frames, perhaps corrupted, with its speech that comes so many frames late."""
    if sample.waveform is None:
        return {}
    silence = np.zeros(SAMPLES_PER_FRAME * late, np.float32)
    waveform = np.concatenate([silence, sample.waveform])[: SAMPLES_PER_FRAME * len(view)]
    phones = [Phone(one.label, one.start + late / FPS, one.end + late / FPS) for one in sample.phones]
    real = sample.view.curves.lip_opening
    context = SpeechContext(
        protocol, view.curves.lip_opening, real, waveform, sample.regressor, sample.foreign, phones
    )
    values = values_of(of_kind("lips", judges), context) if sample.regressor is not None else {}
    values |= values_of(of_kind("phones", judges), context) if phones else {}
    if judges.sync is not None:
        try:
            values |= judges.sync(view.frames, view.points, [waveform], protocol)[0]
        except ValueError as error:
            log.info("lip sync: %s", error)
    return values


def run_corruption(
    name: str, samples: Sequence[Sample], judges: Judges, protocol: Protocol
) -> list[dict[str, float]]:
    """Mean of every measure over the clips, at each strength."""
    table: list[dict[str, float]] = []
    first: list[dict[str, float]] = []
    for strength in CORRUPTIONS[name].strengths:
        log.info("%s %g", name, strength)
        found, features = [], []
        metrics = {one.name: one.new_metric(protocol, judges) for one in of_kind("motion", judges)}
        for place, sample in enumerate(samples):
            turn = [*samples[place + 1 :], *samples[:place]]
            other = next(one.view for one in turn if one.identity != sample.identity)
            view, seen = corrupt(name, strength, sample.view, other, judges), sample.seen
            if view is not sample.view:
                real = sample.view.take(np.arange(len(view)))
                same_pictures = view.frames is sample.view.frames
                seen = measure_frames(view, real, judges, seen.features if same_pictures else None)
            late = int(strength) if name == "sound shift" else 0
            found.append({**seen.values, **measure_speech(view, sample, late, judges, protocol)})
            features.append(seen.features)
            for key, metric in metrics.items():
                metric.update(torch.from_numpy(sample.seen.motion[key]), real=True)
                metric.update(torch.from_numpy(seen.motion[key]), real=False)
        distances = {key: float(metric.compute()) for key, metric in metrics.items()}
        distances |= picture_distances([one.seen.features for one in samples], features, judges, protocol)
        first = first or found
        table.append({**_means(found, first), **distances})
    return table


def _means(found: Sequence[dict[str, float]], unharmed: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over the clips that have a value at all; a lip sync that could be told before and can't be now is none."""
    means = {}
    for name in dict.fromkeys(name for one in found for name in one):
        known = [np.isfinite(one.get(name, np.nan)) for one in unharmed]
        values = np.array([one.get(name, np.nan) for one in found])[known]
        if name in BY_CHANCE:
            values = np.nan_to_num(values, nan=BY_CHANCE[name])
        if np.isfinite(values).any():
            means[name] = float(np.nanmedian(values) if is_lag(name) else np.nanmean(values))
    return means


def answers(values: Sequence[float], direction: int) -> bool:
    """Whether the values get worse at every step."""
    return bool((np.diff(values) * direction > 0).all())


def tabulate(name: str, table: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """One row for each measure that unharmed clips have a value of; whether it answers, if the corruption is made for it."""
    rows, one = [], CORRUPTIONS[name]
    for measure in dict.fromkeys(key for means in table for key in means):
        values = [means.get(measure, float("nan")) for means in table]
        if not np.isfinite(values[0]) or (measure == "blink_rate" and not values[0]):
            continue  # nothing to get worse; nobody blinks
        verdict = answers(values, one.answers[measure]) if measure in one.answers else None
        row = {"corruption": name, "unit": one.unit, "strengths": list(one.strengths)}
        rows.append({**row, "measure": measure, "values": values, "answers": verdict})
    return rows


def unasked(rows: Sequence[dict[str, Any]], absent: Sequence[Missing]) -> list[Missing]:
    """The measures that a corruption is made for and that have no row, although no judge is missing for them."""
    told = {name for one in absent for name in one["what"].split(", ")}
    known = {(row["corruption"], row["measure"]) for row in rows}
    wanted = [(name, measure) for name, one in CORRUPTIONS.items() for measure in one.answers]
    names = dict.fromkeys(measure for name, measure in wanted if (name, measure) not in known)
    whys = {
        "lip_closure": NO_PHONES,
        "blink_interval_distance": "fewer than five intervals between blinks",
        "blink_rate": "nobody blinks",
    }
    return [entry("*", name, whys.get(name, "no clip has a value")) for name in names if name not in told]


def out_of_order(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The measures that a corruption is made for and that do not answer in order."""
    return [f"{row['measure']} under {row['corruption']}" for row in rows if row["answers"] is False]


def caution(samples: Sequence[Sample]) -> str:
    """What a reader must know of the clips before believing a verdict; empty where they are many and long."""
    shortest = min(len(sample.view) for sample in samples)
    if len(samples) >= FEW_CLIPS and shortest >= SHORT_CLIP:
        return ""
    return (
        f"{len(samples)} clips, the shortest of {shortest} frames: lip sync, blinks and distances of motion may be out of "
        f"order by chance with fewer than {FEW_CLIPS} clips of {SHORT_CLIP} frames. "
    )


def load_samples(
    clips: Mapping[str, ClipFiles], protocol: Protocol, judges: Judges, progress: Progress | None = None
) -> tuple[list[Sample], list[Missing]]:
    """Real clips with a face in at least nine of ten frames, at most twelve, and what is missing."""
    samples: list[Sample] = []
    missing: list[Missing] = []
    for name, files in clips.items():
        if len(samples) == MOST_CLIPS:
            missing.append(entry(name, "all", f"{MOST_CLIPS} clips are enough"))
            continue
        try:
            clip = load_clip(files, protocol.reading)
        except CLIP_FAILURES as error:
            missing.append(entry(name, "all", str(error)))
            continue
        view = judges.look(clip.real, protocol)
        if view.unseen:
            missing.append(entry(name, "all", f"no face in {view.faceless} of {len(view)} frames"))
            continue
        if clip.waveform is None:
            missing.append(entry(name, "lip sync", clip.silence))
        phones, why = files.known_phones()
        if why not in ("", NO_PHONES):
            missing.append(entry(name, "lip_closure", why))
        samples.append(Sample(name, files.identity, view, clip.waveform, phones))
        if progress:
            progress(len(samples), min(len(clips), MOST_CLIPS), f"looking at {name}")
    return samples, missing


def self_test(samples: Sequence[Sample], judges: Judges, protocol: Protocol) -> list[dict[str, Any]]:
    """Corrupt the clips in every way at every strength.

    Raises:
        UserError: Fewer than two people: there is nobody to swap with.
    """
    people = len({sample.identity for sample in samples})
    if people < 2:
        raise UserError(f"the self-test needs clips of two people with a face, found {people}")
    judges.hashes["phones"] = ""  # of each sample
    spoken = [
        SpokenClip(one.identity, one.identity, one.waveform, one.view.curves.lip_opening)
        for one in samples
        if one.waveform is not None
    ]
    for one in samples:
        one.seen = measure_frames(one.view, one.view, judges)
        one.regressor = fit_without(spoken, one.identity, one.identity, protocol.regression)
        one.foreign = [other.waveform for other in spoken if other.voice != one.identity]
    tables = {name: run_corruption(name, samples, judges, protocol) for name in CORRUPTIONS}
    return [row for name, table in tables.items() for row in tabulate(name, table)]
