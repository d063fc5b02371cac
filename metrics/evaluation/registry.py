"""Every measure by one entry: what it is called, what it says, what computes it and what its number hangs on.

A new measure is a function and a metric beside the others and one entry here: it then stands in results, in the report, in
the self-test's table and at hand for callbacks, and changes the hash of no other measure.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from metrics.evaluation.reading import short_hash

if TYPE_CHECKING:
    from metrics.evaluation.judges import Judges
    from metrics.evaluation.protocol import Protocol

Family = Literal["reconstruction", "generation", "identity", "sync", "motion", "model"]
Better = Literal["higher", "lower", "real", "none"]
Kind = Literal[
    "frames",
    "aligned",
    "free",
    "takes",
    "sound",
    "lips",
    "phones",
    "truth",
    "motion",
    "pictures",
    "windows",
    "fact",
]


@dataclass(frozen=True)
class Measure:
    """What a number in a result is, and how it comes about.

    Attributes:
        name: In results; rows but the method's own have a suffix (``csim_real``).
        title: For people.
        unit: What it is counted in; ``%``: a share, shown times 100.
        better: ``higher`` or ``lower``; ``real``: nearest to the real row's value; ``none``: a fact, no merit.
        family: ``reconstruction`` compares frame with frame and never judges free generation, where it would reward
            stillness; ``generation`` compares distributions or what a free head doesn't change; ``identity``, ``sync`` and
            ``motion`` hold for both; ``model``: only known where a model is asked.
        kind: What ``function`` is given and gives. ``frames`` (every row), ``aligned`` (against the real frames, the source
            left out), ``free`` (against the real clip): `FrameContext` -> a value, or several by name. ``takes``: the list
            of contexts of several takes -> likewise. ``sound``: none, the judge ``sync`` itself gives them. ``lips``,
            ``phones``, ``truth``: `SpeechContext` -> values. ``motion``: `FrameContext` -> rows ``(N, D)`` of a
            distribution. ``pictures``, ``windows``: none, the features of the judge. ``fact``: none, known otherwise.
        meaning: One sentence or two for the reader of a report.
        function: See ``kind``; of `metrics.evaluation.functions`, or as ``module:function``; empty: none.
        settings: Names of the fields of `Protocol` that the number hangs on.
        judges: Slots of `Judges` that it hangs on.
        metric: Of pictures or features, as ``module:Class``: made of the networks of its judges and of the settings of its
            own name. Values of clips are averaged by `metrics.base.ClipMean`.
        distance: Named likewise: for ``motion`` ``protocol -> metric`` over rows; for features ``(protocol, width) ->
            pooled distance``.
        unknown: Why it can be without a value although its judge is there.
        shared: Whether it is also given between the shuffled row and the real one.
        base: For floors and shares: the measure that they belong to.
    """

    name: str
    title: str
    unit: str
    better: Better
    family: Family
    kind: Kind
    meaning: str
    function: str = ""
    settings: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    metric: str = ""
    distance: str = ""
    unknown: str = "no clip has a value"
    shared: bool = False
    base: str = ""


CLIPS = ("intervals",)
FACES = (*CLIPS, "faceless")
POINTS = (*FACES, "landmarks")
LIPS = (*POINTS, "lip_range")
NO_FACE = "the video or the real clip shows no face"
RESTING = "the lips hardly move beside the real ones, or one of the two shows in too few frames"
TOO_FEW = "fewer than two frames on a side"
FLOOR_OF = "Between real clips and real clips of other people: below it nothing is told."
SHARE_OF = "0: like shuffled speech, 1: like real video."

_ENTRIES = (
    Measure("psnr", "PSNR", "dB", "higher", "reconstruction", "aligned", "How close the reconstruction comes to the real frames, squared error of all frames but the source, mean over clips. Higher is better.", "psnr", CLIPS, (), "metrics.reconstruction:PSNR", unknown="the frames equal the real ones, which has no finite value"),
    Measure("psnr_gain", "PSNR gain over the still source", "dB", "none", "model", "fact", "What the autoencoder adds to repeating the source frame.", settings=CLIPS),
    Measure("mouth_error_removed", "Mouth error removed", "%", "none", "model", "fact", "Share of the still source's squared error that the reconstruction removes in the mouth box.", "", CLIPS, ("truth",)),
    Measure("eye_error_removed", "Eye error removed", "%", "none", "model", "fact", "The same in the boxes of the eyes.", "", CLIPS, ("truth",)),
    Measure("ssim", "SSIM", "", "higher", "reconstruction", "aligned", "Structural similarity of the reconstruction to the real frames; 1 is equal.", "ssim", CLIPS, (), "metrics.reconstruction:SSIM"),
    Measure("l1", "L1", "%", "lower", "reconstruction", "aligned", "Mean absolute difference of the reconstruction, as a share of the 8-bit range. Lower is better.", "l1", CLIPS, (), "metrics.reconstruction:L1"),
    Measure("lpips", "LPIPS", "", "lower", "reconstruction", "aligned", "Perceptual distance of the reconstruction (AlexNet, v0.1). Lower is better.", "lpips", CLIPS, ("lpips",), "metrics.lpips:LPIPS"),
    Measure("akd", "AKD", "pixels", "lower", "reconstruction", "aligned", "Mean distance of the face's landmarks from the real ones, in a picture of 256 pixels. Lower is better.", "akd", (*POINTS, "keypoints"), ("landmarks",)),
    Measure("aed", "AED", "", "lower", "reconstruction", "aligned", "Distance of the face embeddings of reconstructed and real frames, 0 to 2. Lower is better.", "aed", (*FACES, "alignment"), ("landmarks", "embedder"), unknown="one of the two shows no face"),
    Measure("lmd", "LMD", "eye distances", "lower", "reconstruction", "aligned", "Mean distance of the landmarks from the real ones, over the distance of the eyes. Lower is better.", "lmd", POINTS, ("landmarks",)),
    Measure("lip_corr", "Lip correlation, best lag", "", "none", "model", "truth", "Correlation of generated with true lip opening, each clip at its best lag within 10 frames either way; above 0 by chance even for foreign speech.", "true_lips", (*POINTS, "lags"), ("motion", "truth")),
    Measure("lip_corr_zero", "Lip correlation, lag 0", "", "none", "model", "truth", "The same without any shift: lips must move at the right moment. Real motion through the autoencoder is the ceiling, foreign speech the floor, about 0.", "true_lips", (*POINTS, "lags"), ("motion", "truth")),
    Measure("lip_lag", "Lip lag", "frames", "none", "model", "truth", "Median of the best lags; positive: the generated lips come late.", "true_lips", (*POINTS, "lags"), ("motion", "truth")),
    Measure("lse_d", "LSE-D", "", "lower", "sync", "sound", "Distance of lips and sound as a SyncNet sees them, at the clip's best offset. Lower is better. Only results of one SyncNet compare.", "", (*CLIPS, "sync", "face_crops"), ("sync",), shared=True),
    Measure("lse_c", "LSE-C", "", "higher", "sync", "sound", "How much nearer lips and sound are at the best offset than at the median one; above 0 by chance even for foreign speech. Higher is better.", "", (*CLIPS, "sync", "face_crops"), ("sync",), shared=True),
    Measure("av_offset", "Sync offset", "frames", "real", "sync", "sound", "Median of the SyncNet's best offsets; positive: the sound comes late.", "", (*CLIPS, "sync", "face_crops"), ("sync",)),
    Measure("av_corr", "Speech-to-lip correlation, best lag", "", "higher", "sync", "lips", "Lips of the video against those that a regression fitted on other faces and voices expects from the speech. Higher is better.", "speech_scores", (*LIPS, "regression", "av"), ("motion",), unknown=RESTING, shared=True),
    Measure("av_corr_zero", "Speech-to-lip correlation, lag 0", "", "higher", "sync", "lips", "The same without any shift.", "speech_scores", (*LIPS, "regression", "av"), ("motion",), unknown=RESTING),
    Measure("av_lag", "Speech-to-lip lag", "frames", "real", "sync", "lips", "Median of the best lags; positive: the sound comes late.", "speech_scores", (*LIPS, "regression", "av"), ("motion",), unknown=RESTING),
    Measure("av_retrieval", "Speech retrieval", "", "higher", "sync", "lips", "How often the lips go better with their own speech than with that of another voice; 0.5 by chance. Higher is better.", "speech_scores", (*LIPS, "regression", "av", "retrieval"), ("motion",), unknown=f"{RESTING}; or fewer than 2 s of overlap at the best lag, or no other voice"),
    Measure("lip_closure", "Lip closure", "%", "higher", "sync", "phones", "Share of p, b and m on which the lips close. Higher is better.", "lip_closure", (*LIPS, "closure"), ("motion", "phones"), shared=True),
    Measure("fid", "FID", "", "lower", "generation", "pictures", "Fréchet distance of the Inception features of all generated and all real frames. Lower is better; under 2048 frames it is too few.", "", (*CLIPS, "pool"), ("inception",), "metrics.fid:FrechetInceptionDistance", "fid_pool", TOO_FEW),
    Measure("kid", "KID", "", "lower", "generation", "pictures", "Kernel distance of the same features, without the bias of few frames. Lower is better.", "", (*CLIPS, "pool", "kid"), ("inception",), "metrics.fid:KernelInceptionDistance", "kid_pool", TOO_FEW),
    Measure("fvd", "FVD", "", "lower", "generation", "windows", "Fréchet distance of the I3D features of windows of 16 frames. Lower is better.", "", (*CLIPS, "pool", "fvd"), ("i3d",), "metrics.fvd:FrechetVideoDistance", "fid_pool", "fewer than two windows on a side"),
    Measure("csim", "CSIM", "", "higher", "identity", "frames", "Cosine of the face embeddings of the source and each frame. Higher is better, up to the real row's.", "csim", (*FACES, "alignment"), ("landmarks", "embedder"), unknown="the source frame or the video shows no face"),
    Measure("mouth_lmd", "Mouth LMD", "eye distances", "lower", "generation", "free", "Distance of the mouth's landmarks from the real ones with the head's pose taken out. Lower is better; a mouth at rest is nearer than one that moves wrongly.", "mouth_lmd", POINTS, ("landmarks",), unknown=NO_FACE),
    Measure("mouth_lmd_best", "Mouth LMD, best seed", "eye distances", "lower", "generation", "takes", "The same of the best of the sampling seeds, named with their number: more seeds have a better one.", "best_mouth_lmd", POINTS, ("landmarks",), unknown=NO_FACE),
    Measure("mouth_diversity", "Diversity of mouths", "eye distances", "none", "generation", "takes", "Mean distance between the mouths of every two sampling seeds.", "mouth_diversity", POINTS, ("landmarks",), unknown=NO_FACE),
    Measure("head_motion", "Head motion", "°", "real", "motion", "frames", "Standard deviation of head rotation over a clip, RMS of yaw, pitch and roll. It should be as on real video.", "head_motion", FACES, ("motion",)),
    Measure("mouth_motion", "Mouth motion", "eye distances", "real", "motion", "frames", "Standard deviation of lip opening over a clip. It should be as on real video.", "mouth_motion", POINTS, ("motion",)),
    Measure("blink_rate", "Blinks", "/min", "real", "motion", "frames", "Times a minute that the lids stay closed for two frames or more. It should be as on real video.", "blink_rate", (*FACES, "blinks"), ("motion",)),
    Measure("jitter", "Jitter", "°", "lower", "motion", "frames", "Trembling above 6 Hz: of the rotation of drawn heads, where the judge's own noise is included; of eye corners and nose bridge of real faces, in eye distances. Lower is better.", "jitter", (*POINTS, "jitter", "jitter_floor"), ("motion",)),
    Measure("motion_frechet", "Motion Fréchet distance", "", "lower", "motion", "motion", "Distance of the distributions of generated and real motion, in variances of the real one. Lower is better.", "motion_features", (*POINTS, "motion_features"), ("landmarks",), "", "motion_frechet", "fewer than two frames with a face on a side, or a real face that rests"),
    Measure("head_velocity_distance", "Head speed, distance", "°/s", "lower", "motion", "motion", "Between the distributions of the generated and the real head's speed. Lower is better.", "head_speed", (*FACES, "head_speed"), ("motion",), "", "head_velocity"),
    Measure("head_spectrum_distance", "Head spectrum, distance", "dB", "lower", "motion", "motion", "Between the spectra of generated and real head motion. Lower is better.", "head_spectrum", (*FACES, "head_spectrum"), ("motion",), "", "spectrum_distance", "no clip lasts 3 s"),
    Measure("blink_interval_distance", "Blink intervals, distance", "s", "lower", "motion", "motion", "Between the distributions of the time from blink to blink. Lower is better.", "blink_intervals", (*FACES, "blinks", "blink_intervals"), ("motion",), "", "interval_distance", "too few intervals between blinks on a side"),
    Measure("sharpness_mouth", "Sharpness of the mouth", "%", "real", "generation", "free", "Detail of the mouth as a share of the real clip's; 100 % is as sharp as real.", "face_sharpness", (*POINTS, "still_face", "sharpness"), ("landmarks",), unknown=NO_FACE),
    Measure("sharpness_eyes", "Sharpness of the eyes", "%", "real", "generation", "free", "The same of the eyes.", "face_sharpness", (*POINTS, "still_face", "sharpness"), ("landmarks",), unknown=NO_FACE),
    Measure("sharpness", "Sharpness", "%", "real", "generation", "free", "Detail of the whole frame as a share of the real clip's; 100 % is as sharp as real.", "sharpness", CLIPS, ()),
    Measure("flicker", "Flicker", "grey levels", "real", "generation", "frames", "Change of brightness from frame to frame once the face is held still. It should be as on real video.", "flicker", (*POINTS, "still_face"), ("landmarks",)),
    Measure("fps", "Speed", "frames/s", "none", "model", "fact", "Frames made a second from speech to picture, on the machine that results.json names; without reading and writing files."),
)  # fmt: skip


def _derived() -> dict[str, Measure]:
    """The entries by name, floors of distances and shares behind the measures that they belong to."""
    found = {}
    for one in _ENTRIES:
        found[one.name] = one
        if one.kind in ("pictures", "windows"):
            floor = Measure(
                f"{one.name}_floor", f"{one.title}, floor", one.unit, "none", one.family, "fact", FLOOR_OF
            )
            found[floor.name] = replace(
                floor, settings=one.settings, judges=one.judges, base=one.name, unknown=one.unknown
            )
        if one.shared:
            share = Measure(
                f"{one.name}_share",
                f"{one.title} between floor and real",
                "",
                "higher",
                one.family,
                "fact",
                SHARE_OF,
            )
            found[share.name] = replace(
                share, settings=(*one.settings, "shares"), judges=one.judges, base=one.name
            )
    return found


MEASURES = _derived()
"""Every measure by its name in results (``mouth_lmd_best``: ``mouth_lmd_best_of_K`` for K seeds)."""


def measure_of(name: str) -> Measure | None:
    """The measure that a name in results is of, whatever row's (``csim_real``: ``csim``); None where it is of none."""
    known = [measure for measure in MEASURES if name == measure or name.startswith(f"{measure}_")]
    return MEASURES[max(known, key=len)] if known else None


def is_lag(name: str) -> bool:
    """Whether a measure, of whatever row, is a lag in frames: of several the median is taken, never the mean."""
    return name.startswith(("av_lag", "av_offset", "lip_lag"))


def measures_of(task: str) -> list[Measure]:
    """The measures that a task is judged by: the two families never mix."""
    other = {"generation": "reconstruction", "reconstruction": "generation"}[task]
    return [one for one in MEASURES.values() if one.family not in (other, "model")]


def of_kind(kind: Kind, judges: "Judges") -> list[Measure]:
    """The measures of a kind whose judges are there."""
    return [
        one
        for one in MEASURES.values()
        if one.kind == kind and all(slot in judges.hashes for slot in one.judges)
    ]


def named(path: str) -> Callable[..., Any]:
    """A function of `metrics.evaluation.functions`, or of another module as ``module:function``."""
    module, _, name = path.rpartition(":")
    return getattr(importlib.import_module(module or "metrics.evaluation.functions"), name)


def values_of(measures: Sequence[Measure], context: Any) -> dict[str, float]:
    """What the functions of some measures say of a context, each asked once."""
    values: dict[str, float] = {}
    for function in dict.fromkeys(one.function for one in measures if one.function):
        found = named(function)(context)
        first = next(one.name for one in measures if one.function == function)
        values.update(found if isinstance(found, dict) else {first: found})
    return values


def measure_hash(measure: Measure, protocol: "Protocol", judges: Mapping[str, str]) -> str | None:
    """Hash of all that the number hangs on besides the data: 16 hexadecimal digits; None where a judge is not there.

    That is its name, exactly the settings that its entry names, its judges' weights and, where both tasks have it, the task.

    Args:
        measure: Which one.
        protocol: Settings.
        judges: Slot -> sha256.
    """
    if any(slot not in judges for slot in measure.judges):
        return None
    content = {
        "name": measure.name,
        "settings": {name: asdict(getattr(protocol, name)) for name in measure.settings},
        "judges": {slot: judges[slot] for slot in measure.judges},
        "task": protocol.task if measure.family in ("identity", "sync", "motion") else None,
    }
    return short_hash(content)


def measure_hashes(
    measures: Sequence[Measure], protocol: "Protocol", judges: Mapping[str, str]
) -> dict[str, str]:
    """Name -> `measure_hash` of the measures whose judges are there."""
    found = {one.name: measure_hash(one, protocol, judges) for one in measures}
    return {name: digest for name, digest in found.items() if digest is not None}
