"""The frozen evaluation protocols: what is measured, how, and the hash that says whether two results may be ranked.

A protocol is plain data. Whatever changes a number belongs into it; from the first release on, a change here is a new
protocol name.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datamodules.errors import UserError

Family = Literal["reconstruction", "generation", "identity", "sync", "motion"]
Better = Literal["higher", "lower", "real", "none"]


@dataclass(frozen=True)
class Measure:
    """What a number in a result is.

    Attributes:
        family: ``reconstruction`` compares frame with frame and never judges free generation, where it would reward
            stillness; ``generation`` compares distributions; ``identity``, ``sync`` and ``motion`` hold for both.
        better: ``higher`` or ``lower``; ``real``: nearest to the real row's value; ``none``: a fact, no merit.
        unit: What it is counted in.
        pooled: Over all clips at once, instead of a mean over clips.
    """

    family: Family
    better: Better
    unit: str
    pooled: bool = False


MEASURES = {
    "psnr": Measure("reconstruction", "higher", "dB"),
    "ssim": Measure("reconstruction", "higher", "-1..1"),
    "l1": Measure("reconstruction", "lower", "share of the 8-bit range"),
    "lpips": Measure("reconstruction", "lower", "AlexNet, v0.1"),
    "akd": Measure("reconstruction", "lower", "pixels at 256"),
    "aed": Measure("reconstruction", "lower", "0..2"),
    "lmd": Measure("reconstruction", "lower", "eye distances"),
    "fid": Measure("generation", "lower", "pytorch-fid Inception", pooled=True),
    "kid": Measure("generation", "lower", "pytorch-fid Inception", pooled=True),
    "fvd": Measure("generation", "lower", "I3D, 16 frames", pooled=True),
    "fid_floor": Measure("generation", "none", "FID of real clips against disjoint real clips", pooled=True),
    "kid_floor": Measure("generation", "none", "KID of real clips against disjoint real clips", pooled=True),
    "fvd_floor": Measure("generation", "none", "FVD of real clips against disjoint real clips", pooled=True),
    "mouth_lmd": Measure("generation", "lower", "eye distances"),
    "mouth_lmd_best": Measure(
        "generation", "lower", "eye distances, best of the seeds; named with their number"
    ),
    "mouth_diversity": Measure("generation", "none", "eye distances between seeds"),
    "sharpness_mouth": Measure("generation", "real", "share of the real clip's detail"),
    "sharpness_eyes": Measure("generation", "real", "share of the real clip's detail"),
    "flicker": Measure("generation", "real", "grey levels"),
    "csim": Measure("identity", "higher", "cosine"),
    "lse_c": Measure("sync", "higher", "SyncNet confidence"),
    "lse_d": Measure("sync", "lower", "SyncNet distance"),
    "av_offset": Measure("sync", "real", "frames, positive = sound late"),
    "av_corr": Measure("sync", "higher", "best correlation over lags"),
    "av_corr_zero": Measure("sync", "higher", "correlation without a shift"),
    "av_lag": Measure("sync", "real", "frames, positive = sound late"),
    "av_retrieval": Measure("sync", "higher", "share, 0.5 by chance"),
    "lip_closure": Measure("sync", "higher", "share of p, b, m with closed lips"),
    "head_motion": Measure("motion", "real", "degrees"),
    "mouth_motion": Measure("motion", "real", "eye distances"),
    "blink_rate": Measure("motion", "real", "per minute"),
    "jitter": Measure("motion", "lower", "eye distances; of drawn heads degrees of rotation"),
    "motion_frechet": Measure("motion", "lower", "unit variances of real motion", pooled=True),
    "head_velocity_distance": Measure("motion", "lower", "degrees per second", pooled=True),
    "head_spectrum_distance": Measure("motion", "lower", "dB", pooled=True),
    "blink_interval_distance": Measure("motion", "lower", "seconds", pooled=True),
}
"""Every measure by its name in results (``mouth_lmd_best``: ``mouth_lmd_best_of_K`` for K seeds). ``fps``, a fact of the
machine, is no part of a protocol."""

SYNTHETIC = "synthetic-v1"
TASKS = ("generation", "reconstruction")
JUDGE_FILE = "judge.json"
"""What the folder of a fitted judge of drawn heads' motion holds, beside its weights."""
CODEC_CRF = 18
"""Rate of the H.264 that the row ``codec`` went through."""
SHORTEST = 16
"""Frames that a clip must have to be judged."""
MOST_FACELESS = 0.1
"""Share of a clip's frames without a face beyond which its measures of faces have no value."""

_INTERVAL = (
    "95 % cluster bootstrap by identity, 1000 resamples, seed 0; pooled distances: delete-one-identity jackknife; fid, "
    "kid and fvd: of more than 30 identities some are left out together"
)
_FLOOR = "real clips in two halves of disjoint identities, balanced by frames; clips in turn if there is one identity"
_SYNC = {
    "reach": 15,
    "mfcc": "13 coefficients of 26 bands, window 400 and hop 160 samples, 512 points, preemphasis 0.97, lifter 22",
}
_COMMON: dict[str, Any] = {
    "version": 1,
    "task": "generation",
    "source": "first frame of the clip",
    "driving": "the clip's own speech",
    "fps": 25,
    "length": "cut to the shorter; more than 2 frames apart is an error",
    "most_length_difference": 2,
    "max_frames": None,
    "aligned_frames": "all but the first, which is the source",
    "crop": "as given",
    "codec": "H.264, crf 18",
    "codec_crf": CODEC_CRF,
    "shortest": SHORTEST,
    "most_faceless": MOST_FACELESS,
    "takes": "each by itself, then their mean; the median of lags; the best is named with their number",
    "motion": {
        "landmarks": "MediaPipe Face Landmarker, image mode",
        "scale": "clip mean distance of landmarks 33 and 263",
        "lip_gap": [13, 14],
        "blink": "mean eyeBlink blendshape above 0.5 for at least 2 frames, begun within the clip",
        "jitter_cutoff_hz": 6,
        "jitter_gaps": "frames without a face bridged by straight lines",
        "jitter_floor": "the still source frame through the codec",
        "jitter_floor_frames": 50,
        "rigid": [33, 133, 362, 263, 168, 6, 197, 195],
    },
    "av": {
        "context_frames": 6,
        "bands": 8,
        "max_lag": 15,
        "fewest_frames": 40,
        "still": 0.1,
        "ridge": 0.3,
        "alignments": 2,
        "alignment_lag": 8,
        "alignment_correlation": 0.3,
        "window": 50,
        "hop": 25,
        "window_lag": 3,
        "choice": 20,
        "fitted": "on real clips of other faces and voices, put in sync twice; clips without a video help up to 20 in all",
    },
    "lip_closure": {
        "closed": 0.2,
        "levels": [5, 95],
        "of": "the real clip's lip opening",
        "before": 0.06,
        "after": 0.0,
        "still": 0.1,
        "phones": "p, b, m of STEM.TextGrid or STEM.phones.csv beside the real video, or of a synthetic clip's annotations",
    },
    "share": "between shuffled and real, where real is better by the bootstrap",
    "share_identities": 6,
    "shuffled": "the method's videos against the next clip's audible speech with another voice, of the judged clips and "
    "then of those that help the fit, in the order of their names; repeated or cut to the length, of phones what there is",
    "speech": "of the real clip; silence, or one that ends more than 2 frames before the pictures, is none",
    "motion_steps": [1, 5],
    "motion_pairs": [
        [13, 14],
        [61, 291],
        [0, 17],
        [152, 168],
        [105, 168],
        [334, 168],
        [159, 145],
        [386, 374],
    ],
    "head_speed_step": 5,
    "head_spectrum": "octaves from 0.25 to 8 Hz, Welch over at most 4 s, clips of 3 s or more, half with a face",
    "psnr": "of a clip's pooled squared error, peak 255",
    "ssim": "scikit-image's, mean over channels, uniform window of 7",
    "lpips": "AlexNet, v0.1",
    "reconstruction": {"akd_size": 256, "akd_landmarks": 468},
    "identity": {
        "aligned": "ArcFace's template of five points",
        "size": 112,
        "points": [[33, 133], [362, 263], [4], [61], [291]],
    },
    "sharpness": {
        "side": 192,
        "eyes_apart": 80,
        "mouth": [0.30, 0.62, 0.70, 0.88],
        "eyes": [0.22, 0.26, 0.78, 0.46],
        "smoothing": 9,
        "detail": "RMS of a 3x3 Laplacian of luma",
    },
    "fewest_blink_intervals": 5,
    "fid": {"frames": "all", "enough": 2048},
    "kid": {"subsets": 100, "size": 1000, "seed": 0, "most": 10000},
    "fvd": {"windows": 2048, "window": 16, "size": 224, "seed": 0},
    "floor": _FLOOR,
    "interval": _INTERVAL,
}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "talking-head-v1": {
        **_COMMON,
        "size": 512,
        "resize": "antialiased bicubic",
        "sync": {
            **_SYNC,
            "network": "syncnet_v2",
            "boxes": "face-landmarker",
            "minimum_frames": 100,
            "crop_scale": 0.4,
            "crop_median": 13,
            "crop_grey": 110,
            "most_unseen": 25,
        },
    },
    SYNTHETIC: {
        **_COMMON,
        "size": None,
        "resize": "antialiased bicubic to the reference's size",
        "motion": {
            "judge": "the dataset's frame regressor",
            "jitter_cutoff_hz": 6,
            "blink": "above 0.5 for at least 2 frames, begun within the clip",
        },
        "sync": {
            **_SYNC,
            "network": "the shipped expert, 112 px",
            "boxes": "whole frame",
            "minimum_frames": 50,
        },
    },
}


def protocol_settings(name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a protocol, as plain data of the caller's own.

    Args:
        name: ``talking-head-v1`` or ``synthetic-v1``.
        changes: Values for some of its keys, such as ``task`` or ``size``: another hash.

    Raises:
        UserError: No such protocol, key or task.
    """
    if name not in PROTOCOLS:
        raise UserError(f"{name}: no such protocol; the names are {', '.join(PROTOCOLS)}")
    settings = copy.deepcopy(PROTOCOLS[name])
    for key, value in changes.items():
        if key not in settings:
            raise UserError(f"protocol {name} has no setting '{key}'; it has {', '.join(settings)}")
        settings[key] = value
    if name == SYNTHETIC and settings["crop"] != _COMMON["crop"]:
        raise UserError(f"protocol {name} judges whole frames, as they are drawn; leave out the crop")
    if settings["task"] not in TASKS:
        raise UserError(f"task {settings['task']}: use {' or '.join(TASKS)}")
    return settings


def protocol_hash(settings: Mapping[str, Any], split: Mapping[str, Any], judges: Mapping[str, str]) -> str:
    """Hash of all that a ranking must share.

    Args:
        settings: As `protocol_settings` gives them.
        split: Which clips are judged: plain data, with the sha256 of every file.
        judges: Judge name -> sha256 of its weights.

    Returns:
        16 hexadecimal digits, independent of the order of keys.
    """
    content = {"settings": settings, "split": split, "judges": judges}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measures_of(task: str) -> tuple[str, ...]:
    """Names of the measures that a task is judged by: the two families never mix."""
    other = {"generation": "reconstruction", "reconstruction": "generation"}[task]
    return tuple(name for name, measure in MEASURES.items() if measure.family != other)


def is_lag(name: str) -> bool:
    """Whether a measure, of whatever row, is a lag in frames: of several the median is taken, never the mean."""
    return name.startswith(("av_lag", "av_offset", "lip_lag"))


def better_of(name: str) -> Better:
    """Which way a measure is better; a row's suffix (``csim_real``) is allowed, an unknown name is a fact."""
    measure = measure_of(name)
    return "none" if measure is None else MEASURES[measure].better


def measure_of(name: str) -> str | None:
    """The measure that a name in results is of, whatever row's (``csim_real``: ``csim``); None where it is of none."""
    known = [measure for measure in MEASURES if name == measure or name.startswith(f"{measure}_")]
    return max(known, key=len, default=None)
