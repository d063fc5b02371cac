"""What a reader must know of an evaluation: what has no value and why, and what speaks against the values that there are."""

from collections.abc import Sequence

import numpy as np

from metrics.distributions import FEW_FRAMES
from metrics.evaluation.clip_results import ClipResult
from metrics.evaluation.clips import ClipSet, Missing, by_reason
from metrics.evaluation.intervals import Interval
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.protocol_names import FREE, SYNTHETIC, TALKING_HEAD
from metrics.evaluation.registry import MEASURES, measure_of, measures_of

SEEN = ("yaw", "pitch", "roll", "lip_opening", "blink")
"""What measures of motion are made of, by the names that a fitted judge has for it."""
LOST = "the method's face is missing in more than a tenth of the frames"
WEAK = 0.5
"""Share of variance below which a fitted judge of motion is called weak."""
SHORT_SPEECH = 75
"""Frames below which the best of 31 lags is often no higher for a clip's own speech than for foreign speech."""
FEW_FITTED = 5
"""Clips below which a regression from speech to lips is called fitted on too few."""
DRAWN = f"some of the real clips are synthetic heads, which judges of real faces do not know: take --protocol {SYNTHETIC}"
RECORDED = (
    f"the real clips are no synthetic heads of this project, which the judge of lip sync of {SYNTHETIC} was trained on: take "
    f"--protocol {TALKING_HEAD} for real faces"
)


def absent_judges(judges: Judges, task: str = "generation") -> list[Missing]:
    """The measures whose judge is not there, and why."""
    whys = {}
    for one in measures_of(task) if task == FREE else MEASURES.values():
        slot = next((slot for slot in one.slots(task) if slot in judges.absent), None)
        if slot is not None and not one.base:
            whys[one.name] = judges.absent[slot]
    return by_reason("*", whys)


def without_value(metrics: dict[str, Interval], protocol: Protocol) -> list[Missing]:
    """The measures that no clip has a value of although their judge was there, and why."""
    whys: dict[str, str] = {}
    for name, one in metrics.items():
        measure = measure_of(name)
        if one.value is None and measure is not None and measure.family != "model":
            whys[name] = measure.unknown
            if name.endswith("_share"):
                whys[name] = (
                    f"fewer than {protocol.shares.fewest_identities} identities, or the real row is not better than the "
                    "shuffled one by more than chance"
                )
            elif name == f"{measure.name}_autoencoder" and measure.pool:
                whys[name] = "some clips lack this row: they would be on the real side alone"
    shared = [] if protocol.task == FREE else [one.name for one in MEASURES.values() if one.shared]
    for name in (f"{one}_share" for one in shared if one in metrics):
        if name not in metrics:
            whys[name] = "no clip has a value, the real one and the shuffled one"
    return by_reason("*", whys)


def clips_without_value(results: Sequence[ClipResult], metrics: dict[str, Interval]) -> list[Missing]:
    """The measures that others have a value of and a clip has not, and why; a row without a face is told already."""
    missing = []
    for one in results:
        whys = {}
        for name, value in one.values.items():
            measure = measure_of(name)
            if measure is None or measure.family == "model":
                continue
            row = name.removeprefix(measure.name)  # shuffled, or the best of some seeds: the method's own
            seen = np.isfinite(one.values.get(f"mouth_motion{row}", one.values["mouth_motion"]))
            if seen and not np.isfinite(value) and metrics[name].value is not None:
                whys[name] = measure.unknown
        missing += by_reason(one.files.name, whys)
    return missing


def out_of_field(protocol: Protocol, data: ClipSet) -> list[str]:
    """What speaks against the protocol, if its judges are out of their field on these clips."""
    drawn = any(clip.drawn for clip in data.judged)
    return [] if drawn == (protocol.name == SYNTHETIC) else [DRAWN if drawn else RECORDED]


def notes_of(results: Sequence[ClipResult], judges: Judges, asked: int) -> list[str]:
    """What a reader must know before believing the values."""
    notes = [
        f"resized from {sizes}: {', '.join(one.files.name for one in results if one.resized == sizes)}"
        for sizes in dict.fromkeys(one.resized for one in results if one.resized)
    ]
    if len(results) < asked:
        notes.append(f"{len(results)} of {asked} clips judged: rank only beside results of the same clips")
    if len({one.files.identity for one in results}) == 1:
        notes.append("one identity: nothing is known of how far the values hold for other people")
    notes += _face_remarks(results) + _speech_remarks(results)
    few = sum(len(one.distributions["generated"][0].get("motion_frechet", ())) for one in results)
    if 0 < few < FEW_FRAMES:
        notes.append(f"motion_frechet: {few} frames, too few (under {FEW_FRAMES})")
    scores = judges.facts.get("held_out_r2") or {}
    weak = [f"{name} {score:.2f}" for name, score in scores.items() if name in SEEN and score < WEAK]
    if weak:
        notes.append(
            f"the judge of motion is weak on people that it never saw (share of variance explained): {', '.join(weak)}"
        )
    return notes


def _face_remarks(results: Sequence[ClipResult]) -> list[str]:
    """Where faces are not seen."""
    notes, lost, unseen = [], [], []
    for one in results:
        if not np.isfinite(one.values.get("mouth_motion_real", 0.0)):
            unseen.append(one.files.name)
        elif not np.isfinite(one.values["mouth_motion"]):
            lost.append(one.files.name)
    if unseen:
        notes.append(
            f"the real face is missing in more than a tenth of the frames, in {', '.join(unseen)}: what the method is given "
            "of them has no real value beside it"
        )
    if lost and len(lost) + len(unseen) == len(results):
        notes.append(f"{LOST}, in every clip: measures of faces have no value")
    elif lost:
        notes.append(
            f"{LOST}, in {', '.join(lost)}: measures of faces are of the other clips, which may be easier ones and fewer "
            "than those of the real row (see n); do not rank them beside results of all clips"
        )
    return notes


def _speech_remarks(results: Sequence[ClipResult]) -> list[str]:
    """How far the regression from speech to lips can be trusted."""
    fitted = [one for one in results if one.fitted]
    still = [  # seen, and hardly moving where the real lips speak
        one.files.name
        for one in fitted
        if np.isfinite([one.values["mouth_motion"], one.values.get("av_corr_zero_real", 0.0)]).all()
        and not np.isfinite(one.values["av_corr_zero"])
    ]
    notes = []
    if still and len(still) == len(fitted):
        notes.append("the method's lips hardly move in any clip: av_* have no value")
    elif still:
        notes.append(
            f"the method's lips hardly move in {', '.join(still)}: av_* are of the other clips; do not rank them beside "
            "results of all clips"
        )
    least = min([one.fitted for one in fitted], default=FEW_FITTED)
    if least < FEW_FITTED:
        notes.append(
            f"av_*: the regression was fitted on too few clips ({least}, under {FEW_FITTED}); compare with av_*_real"
        )
    short = sum(len(one.lips["generated"][0]) < SHORT_SPEECH for one in fitted)
    if short:
        notes.append(
            f"av_corr, av_lag: {short} of the clips last under {SHORT_SPEECH} frames, in which the best of 31 lags is "
            "high by chance too; take av_corr_zero"
        )
    return notes
