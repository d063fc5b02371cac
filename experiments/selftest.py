"""``ifmdm evaluate --selftest``: real clips made worse by degrees. A measure that means something answers in order.

Every corruption stands at four strengths, the first of which is none. A measure answers if its mean over the clips gets
worse at each step; corruptions that a measure is not made for are shown, and not counted.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.clips.phones import Phone
from datamodules.errors import UserError
from datamodules.files import require_output_folder
from experiments.corruptions import CORRUPTIONS, SIZE, corrupt
from experiments.evaluate_command import given_numbers
from experiments.judges import log_progress
from experiments.results import write_json, write_whole
from experiments.selftest_pictures import PictureFeatures, picture_distances, picture_features
from experiments.selftest_speech import Speech, learn_speech, measure_speech
from experiments.video_closure import NO_PHONES, known_phones
from experiments.video_judges import Judges, load_judges
from experiments.video_measures import (
    MotionSample,
    View,
    generation_measures,
    look,
    motion_sample,
    own_measures,
    reconstruction_measures,
)
from experiments.video_pairs import Missing, VideoPair, entry, load_pair, reference_clips
from experiments.video_summary import DISTANCES
from metrics.av_correlation import SpokenClip
from metrics.protocol import is_lag, protocol_settings

FRAMES = 125
MOST_CLIPS = 12
FEW_CLIPS, SHORT_CLIP = 5, 100
"""Clips and frames below which an order may be chance."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A real clip, looked at.

    Attributes:
        name: Of the clip.
        identity: Who is seen and heard.
        view: Its frames.
        waveform: ``(640 T,)``, or None without sound.
        phones: Spoken in it; empty where unknown.
    """

    name: str
    identity: str
    view: View
    waveform: np.ndarray | None
    phones: Sequence[Phone] = ()


def measure_view(view: View, real: View, judges: Judges) -> dict[str, float]:
    """All measures of a corrupted clip's frames against the clip as it was; frame by frame on every third frame."""
    source = None if real.embeddings is None else real.embeddings[0]
    values = {
        **own_measures(view, source),
        **generation_measures(view, real),
        **reconstruction_measures(_thinned(view), _thinned(real), judges),
    }
    # The same frames have no finite PSNR; the 8-bit limit lets a mean be taken.
    values["psnr"] = min(values["psnr"], 100.0)
    return values


def _thinned(view: View) -> View:
    part = slice(None, None, 3)
    points = None if view.points is None else view.points[part]
    embeddings = None if view.embeddings is None else view.embeddings[part]
    return View(view.frames[part], view.curves, points, embeddings, None, view.faceless)


@dataclass(frozen=True)
class Unharmed:
    """What is the same at every corruption.

    Attributes:
        values: Of each clip as it is.
        motion: What each clip adds to the distributions of real motion.
        speech: Of each clip; None without sound.
        pictures: What the judges of FID, KID and FVD see of each clip.
    """

    values: list[dict[str, float]]
    motion: list[MotionSample]
    speech: list[Speech | None]
    pictures: list[PictureFeatures]


def look_at_unharmed(samples: Sequence[Sample], judges: Judges) -> Unharmed:
    """Measure the clips as they are, and fit the regressions."""
    spoken = {
        one.name: SpokenClip(one.identity, one.identity, one.waveform, one.view.curves.lip_opening)
        for one in samples
        if one.waveform is not None
    }
    speech = {one.name: learn_speech(spoken, one.name, one.phones) for one in samples if one.name in spoken}
    return Unharmed(
        [measure_view(one.view, one.view, judges) for one in samples],
        [motion_sample(one.view) for one in samples],
        [speech.get(one.name) for one in samples],
        [picture_features(one.view.frames, judges) for one in samples],
    )


def run_corruption(
    name: str, samples: Sequence[Sample], unharmed: Unharmed, judges: Judges
) -> list[dict[str, float]]:
    """Mean of every measure over the clips, at each strength."""
    table = []
    first: list[dict[str, float]] = []
    for strength in CORRUPTIONS[name].strengths:
        log.info("%s %g", name, strength)
        found: list[dict[str, float]] = []
        pictures: list[PictureFeatures] = []
        metrics: dict[str, Any] = {key: metric_class() for key, (metric_class, _) in DISTANCES.items()}
        for place, sample in enumerate(samples):
            turn = [*samples[place + 1 :], *samples[:place]]
            other = next(one.view for one in turn if one.identity != sample.identity)
            view = corrupt(name, strength, sample.view, other, judges)
            same = view is sample.view
            values = unharmed.values[place]
            if not same:
                values = measure_view(view, sample.view.take(np.arange(len(view))), judges)
            if (speech := unharmed.speech[place]) is not None:
                late = int(strength) if name == "sound shift" else 0
                values = {**values, **measure_speech(view, sample.view, speech, late, judges)}
            found.append(values)
            changed = view.frames is not sample.view.frames
            pictures.append(picture_features(view.frames, judges) if changed else unharmed.pictures[place])
            motion = unharmed.motion[place] if same else motion_sample(view)
            for key, (_, part) in DISTANCES.items():
                metrics[key].update(torch.from_numpy(getattr(unharmed.motion[place], part)), real=True)
                metrics[key].update(torch.from_numpy(getattr(motion, part)), real=False)
        distances = {key: float(metric.compute()) for key, metric in metrics.items()}
        first = first or found
        table.append({**_means(found, first), **distances, **picture_distances(unharmed.pictures, pictures)})
    return table


def _means(found: Sequence[dict[str, float]], unharmed: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over the clips that have a value at all; a lip sync that could be told before and can't be now is none."""
    means = {}
    for name in dict.fromkeys(name for one in found for name in one):
        known = [np.isfinite(one.get(name, np.nan)) for one in unharmed]
        values = np.array([one.get(name, np.nan) for one in found])[known]
        if name in ("av_corr", "av_corr_zero"):
            values = np.nan_to_num(values)  # lips that don't move follow nothing
        if name == "av_retrieval":
            values = np.nan_to_num(values, nan=0.5)
        if np.isfinite(values).any():
            means[name] = float(np.nanmedian(values) if is_lag(name) else np.nanmean(values))
    return means


def answers(values: Sequence[float], direction: int) -> bool:
    """Whether the values get worse at every step."""
    return bool((np.diff(values) * direction > 0).all())


def tabulate(tables: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """One row for each corruption and measure that unharmed clips have a value of.

    A row holds its values, and whether it answers, where it is made for the corruption.
    """
    rows = []
    for name, table in tables.items():
        corruption = CORRUPTIONS[name]
        for measure in dict.fromkeys(key for one in table for key in one):
            values = [one.get(measure, float("nan")) for one in table]
            if not np.isfinite(values[0]):
                continue  # nothing to get worse
            if measure == "blink_rate" and not values[0]:
                continue  # nobody blinks
            direction = corruption.answers.get(measure)
            verdict = None if direction is None else answers(values, direction)
            rows.append(
                {
                    "corruption": name,
                    "unit": corruption.unit,
                    "strengths": list(corruption.strengths),
                    "measure": measure,
                    "values": values,
                    "answers": verdict,
                }
            )
    return rows


def unasked(rows: Sequence[dict[str, Any]], judges: Judges) -> list[Missing]:
    """The measures that a corruption is made for and that have no row, although no judge is missing for them."""
    told = {name for what, _ in judges.missing for name in what.split(", ")}
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


def markdown(
    rows: Sequence[dict[str, Any]], clips: Sequence[str], missing: Sequence[Missing], note: str = ""
) -> str:
    """The table for people: measures made for a corruption first, then the ones that do not answer."""
    lines = [f"# Self-test of the measures on {len(clips)} clips", "", f"Clips: {', '.join(clips)}.", ""]
    for name, corruption in CORRUPTIONS.items():
        own = sorted(
            (row for row in rows if row["corruption"] == name), key=lambda row: row["answers"] is None
        )
        strengths = " | ".join(f"{strength:g}" for strength in corruption.strengths)
        lines += [f"## {name} ({corruption.unit})", "", f"| measure | {strengths} | answers in order |"]
        lines.append("|---" * (len(corruption.strengths) + 2) + "|")
        words = {None: "not made for it", True: "yes", False: "**no**"}
        for row in own:
            values = " | ".join(f"{value:.4g}" for value in row["values"])
            lines.append(f"| {row['measure']} | {values} | {words[row['answers']]} |")
        lines.append("")
    lines.append(f"{note}Do not answer in order: {', '.join(out_of_order(rows)) or 'none'}.")
    lines += [
        "",
        "Not judged:",
        "",
        *(f"- {one['clip']}: {one['what']}: {one['why']}" for one in missing),
        "",
    ]
    return "\n".join(lines)


def load_samples(
    clips: Mapping[str, VideoPair], settings: dict[str, Any], judges: Judges
) -> tuple[list[Sample], list[Missing]]:
    """Real clips with a face in at least nine of ten frames, at most twelve, and what is missing."""
    samples: list[Sample] = []
    missing: list[Missing] = []
    for name, pair in clips.items():
        if len(samples) == MOST_CLIPS:
            missing.append(entry(name, "all", f"{MOST_CLIPS} clips are enough"))
            continue
        try:
            clip = load_pair(pair, settings)
        except (UserError, OSError, ValueError) as error:
            missing.append(entry(name, "all", str(error)))
            continue
        view = look(clip.real, judges)
        if view.unseen:
            missing.append(entry(name, "all", f"no face in {view.faceless} of {len(view)} frames"))
            continue
        if clip.waveform is None:
            missing.append(entry(name, "lip sync", clip.silence))
        phones, why = known_phones(pair.phones)
        if why not in ("", NO_PHONES):
            missing.append(entry(name, "lip_closure", why))
        samples.append(Sample(name, pair.identity, view, clip.waveform, phones))
        log_progress(len(samples), min(len(clips), MOST_CLIPS), f"looking at {name}")
    return samples, missing


def self_test(samples: Sequence[Sample], judges: Judges) -> list[dict[str, Any]]:
    """Corrupt the clips in every way at every strength.

    Raises:
        UserError: Fewer than two people: there is nobody to swap with.
    """
    people = len({sample.identity for sample in samples})
    if people < 2:
        raise UserError(f"the self-test needs clips of two people with a face, found {people}")
    unharmed = look_at_unharmed(samples, judges)
    return tabulate({name: run_corruption(name, samples, unharmed, judges) for name in CORRUPTIONS})


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of the self-test.

    Raises:
        UserError: A number that makes no sense.
    """
    crop = "as given" if (args.reference / MANIFEST_NAME).is_file() else "face"
    numbers = {"size": SIZE, "max_frames": FRAMES, **given_numbers(args)}
    return protocol_settings("talking-head-v1", task="reconstruction", crop=crop, **numbers)


def run(args: argparse.Namespace) -> int:
    """Write ``selftest.md`` and ``selftest.json``.

    Raises:
        UserError: Wrong flags, or fewer than two clips of the reference can be judged.
    """
    settings = settings_of(args)
    output = require_output_folder(args.output or Path("results/selftest"))
    clips = reference_clips(args.reference, args.split)
    judges = load_judges(settings, None, ("reconstruction", "generation"))
    samples, missing = load_samples(clips, settings, judges)
    missing = [entry("*", what, why) for what, why in judges.missing] + missing
    rows = self_test(samples, judges)
    missing += unasked(rows, judges)
    names = [sample.name for sample in samples]
    write_json(
        output / "selftest.json", {"settings": settings, "clips": names, "rows": rows, "missing": missing}
    )
    note = caution(samples)
    path = write_whole(output / "selftest.md", markdown(rows, names, missing, note))
    log.info("%sDo not answer in order: %s", note, ", ".join(out_of_order(rows)) or "none")
    log.info("%d clips, %d rows: %s", len(samples), len(rows), path)
    return 0
