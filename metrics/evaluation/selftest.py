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
from metrics.av_correlation import SpokenClip
from metrics.evaluation.clip_measures import each_clip
from metrics.evaluation.clips import NO_PHONES, ClipFiles, ClipSet, Missing, entry
from metrics.evaluation.corruptions import CORRUPTIONS, corrupt
from metrics.evaluation.detections import Detections
from metrics.evaluation.inputs import FrameInputs, SpeechInputs
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip, rendered_clips
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import Kind, is_lag, of_kind, values_of
from metrics.evaluation.speech import LipRegressors
from metrics.fid import extract_features

MOST_CLIPS = 12
FEW_CLIPS, SHORT_CLIP = 5, 100
"""Clips and frames below which an order may be chance."""
EVERY, WINDOWS = 5, 3
"""Of so many frames one is shown to the Inception; windows of a clip that I3D sees, one after the other from the start."""
BY_CHANCE = {
    "av_corr": 0.0,
    "av_corr_zero": 0.0,
    "av_corr_whisper": 0.0,
    "av_corr_zero_whisper": 0.0,
    "av_retrieval": 0.5,
}
"""What lips that can't be told any more count as: they follow nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameResults:
    """What is measured of a clip's frames."""

    values: dict[str, float]  # measures by name
    rows: dict[str, Tensor]  # (N, D) what they add to distributions and to pictures' features, by measure


@dataclass
class Sample:
    """A real clip, and what is the same at every corruption."""

    name: str  # of the clip
    identity: str  # who is seen and heard
    real: Detections
    waveform: np.ndarray | None  # (640 T,), or None without sound
    phones: Sequence[Phone] = ()  # spoken in it; empty where unknown
    unharmed: FrameResults = FrameResults({}, {})


def measure_frames(
    clip: Detections, real: Detections, judges: Judges, features: Mapping[str, Tensor] | None = None
) -> FrameResults:
    """All that a corrupted clip's frames say against the clip as it was; frame by frame on every third frame."""
    source = None if real.embeddings is None else real.embeddings[0]
    inputs = FrameInputs(clip.protocol, judges, clip, real, source)
    values = values_of(of_kind("row", judges) + of_kind("clip_pair", judges), inputs)
    values |= values_of(of_kind("frame_pairs", judges), inputs.part(slice(3, None, 3)))
    # The same frames have no finite PSNR; the 8-bit limit lets a mean be taken.
    values["psnr"] = min(values["psnr"], 100.0)
    motion = {one.name: torch.from_numpy(one.ask(inputs)) for one in of_kind("distribution", judges)}
    return FrameResults(
        values, {**(features or picture_features(clip.frames, judges, clip.protocol)), **motion}
    )


def picture_features(frames: Tensor, judges: Judges, protocol: Protocol) -> dict[str, Tensor]:
    """What the networks see of the frames ``(T, 3, H, W)`` uint8 of one clip, by measure; nothing of too few frames."""
    found: dict[str, Tensor] = {}
    length = protocol.fvd.length
    starts = range(0, len(frames) - length + 1, length)[:WINDOWS]
    shown: dict[Kind, Sequence[Tensor]] = {
        "pictures": frames[::EVERY].split(32),
        "windows": [frames[None, start : start + length] for start in starts],
    }
    for kind, parts in shown.items():
        by_slot: dict[str, Tensor] = {}
        for one in of_kind(kind, judges) if parts else ():
            slot = one.judges[0]
            if slot not in by_slot:
                by_slot[slot] = torch.cat([extract_features(getattr(judges, slot), part) for part in parts])
            found[one.name] = by_slot[slot]
    return found


def distances(
    real: Sequence[FrameResults], corrupted: Sequence[FrameResults], judges: Judges, protocol: Protocol
) -> dict[str, float]:
    """The measures over all clips between these as they were and as they are; no value where nothing was seen.

    So few pictures give distances that compare with each other and with nothing else.
    """
    values = {}
    kinds: tuple[Kind, ...] = ("distribution", "pictures", "windows")
    for measure in (one for kind in kinds for one in of_kind(kind, judges)):
        metric = measure.new_metric(protocol, judges)
        for side, is_real in ((real, True), (corrupted, False)):
            for rows in (one.rows[measure.name] for one in side if measure.name in one.rows):
                metric.update(rows, real=is_real)
        if any(measure.name in one.rows for one in corrupted):
            values[measure.name] = float(metric.compute())
    return values


def measure_speech(
    clip: Detections, sample: Sample, late: int, regressors: LipRegressors, judges: Judges, protocol: Protocol
) -> dict[str, float]:
    """Lip sync of a clip's frames, perhaps corrupted, with its speech that comes so many frames late."""
    if sample.waveform is None:
        return {}
    silence = np.zeros(SAMPLES_PER_FRAME * late, np.float32)
    waveform = np.concatenate([silence, sample.waveform])[: SAMPLES_PER_FRAME * len(clip)]
    phones = [Phone(one.label, one.start + late / FPS, one.end + late / FPS) for one in sample.phones]
    lips, real = clip.motion.lip_opening, sample.real.motion.lip_opening
    who = (sample.identity, sample.identity)
    regressor, by_listener = regressors.without(*who), regressors.listening_without(*who)
    foreign = regressors.choice({sample.identity}, MOST_CLIPS)
    inputs = SpeechInputs(protocol, lips, real, waveform, regressor, by_listener, foreign, phones)
    values = values_of(of_kind("speech", judges), inputs) if regressor is not None else {}
    values |= values_of(of_kind("phones", judges), inputs) if phones else {}
    if judges.sync is not None:
        try:
            values |= judges.sync(clip.frames, clip.landmarks, [waveform], protocol)[0]
        except ValueError as error:
            log.info("lip sync: %s", error)
    return values


def run_corruption(
    name: str, samples: Sequence[Sample], regressors: LipRegressors, judges: Judges, protocol: Protocol
) -> list[dict[str, float]]:
    """Mean of every measure over the clips, at each strength."""
    table: list[dict[str, float]] = []
    first: list[dict[str, float]] = []
    for strength in CORRUPTIONS[name].strengths:
        log.info("%s %g", name, strength)
        values, corrupted = [], []
        for place, sample in enumerate(samples):
            turn = [*samples[place + 1 :], *samples[:place]]
            other = next(one.real for one in turn if one.identity != sample.identity)
            clip, found = corrupt(name, strength, sample.real, other, judges), sample.unharmed
            if clip is not sample.real:
                known = found.rows if clip.frames is sample.real.frames else None
                found = measure_frames(clip, sample.real.first(len(clip)), judges, known)
            late = int(strength) if name == "sound shift" else 0
            spoken = measure_speech(clip, sample, late, regressors, judges, protocol)
            values.append({**found.values, **spoken})
            corrupted.append(found)
        first = first or values
        over_all = distances([one.unharmed for one in samples], corrupted, judges, protocol)
        table.append({**_means(values, first), **over_all})
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
        "blinks_followed": "nobody blinks",
    }
    return [entry("*", name, whys.get(name, "no clip has a value")) for name in names if name not in told]


def out_of_order(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The measures that a corruption is made for and that do not answer in order."""
    return [f"{row['measure']} under {row['corruption']}" for row in rows if row["answers"] is False]


def caution(samples: Sequence[Sample]) -> str:
    """What a reader must know of the clips before believing a verdict; empty where they are many and long."""
    shortest = min(len(sample.real) for sample in samples)
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

    def look(clip: RenderedClip) -> Detections:
        found = judges.detect(clip.real, protocol)
        if found.unseen:
            raise ValueError(f"no face in {found.faceless} of {len(found)} frames")
        return found

    rendered = rendered_clips(ClipSet(tuple(clips.values())), protocol.reading)
    for clip, found in each_clip(rendered, look, missing):
        name = clip.files.name
        if clip.waveform is None:
            missing.append(entry(name, "lip sync", clip.silence))
        phones, why = clip.files.known_phones()
        if why not in ("", NO_PHONES):
            missing.append(entry(name, "lip_closure", why))
        samples.append(Sample(name, clip.files.identity, found, clip.waveform, phones))
        if progress:
            progress(len(samples), min(len(clips), MOST_CLIPS), f"looking at {name}")
        if len(samples) == MOST_CLIPS:
            break
    known = {sample.name for sample in samples} | {one["clip"] for one in missing}
    missing += [entry(name, "all", f"{MOST_CLIPS} clips are enough") for name in clips if name not in known]
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
    spoken = {
        one.name: SpokenClip(one.identity, one.identity, one.waveform, one.real.motion.lip_opening)
        for one in samples
        if one.waveform is not None
    }
    regressors = LipRegressors.of(spoken, protocol, judges)
    for one in samples:
        one.unharmed = measure_frames(one.real, one.real, judges)
    tables = {name: run_corruption(name, samples, regressors, judges, protocol) for name in CORRUPTIONS}
    return [row for name, table in tables.items() for row in tabulate(name, table)]
