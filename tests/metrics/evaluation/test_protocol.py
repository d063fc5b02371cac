import inspect
import json
from collections.abc import Callable

import pytest

from datamodules.errors import UserError
from experiments.video_pairs import MOST_FITTED
from experiments.video_rows import FLOOR_FRAMES
from experiments.video_summary import FEWEST_IDENTITIES
from experiments.video_sync import MOST_FOREIGN
from metrics import (
    av_correlation,
    distributions,
    frechet,
    identity,
    landmarks,
    lip_closure,
    pooled,
    reconstruction,
    sharpness,
    sync,
)
from metrics.bootstrap import cluster_bootstrap
from metrics.distributions import FEWEST_INTERVALS, STEPS, blink_intervals
from metrics.judges import mfcc
from metrics.landmarks import OUTER_EYE_CORNERS, RIGID
from metrics.motion import blink_rate, jitter
from metrics.pooled import PooledKernel
from metrics.protocol import (
    MEASURES,
    PROTOCOLS,
    better_of,
    measures_of,
    protocol_hash,
    protocol_settings,
)
from metrics.sync import MINIMUM_FRAMES, REACH

SPLIT, JUDGES = {"a": "1" * 64, "b": "2" * 64}, {"mobilefacenet": "3" * 64}


def test_the_protocol_is_frozen():
    """From the first release on, whoever changes a setting gives the protocol another name."""
    assert protocol_hash(protocol_settings("talking-head-v1"), {}, {}) == "5ab8cf1202e9e5d2"
    assert protocol_hash(protocol_settings("synthetic-v1"), {}, {}) == "7845abab911fa605"


def test_the_hash_covers_settings_split_and_judges():
    settings = protocol_settings("talking-head-v1")
    base = protocol_hash(settings, SPLIT, JUDGES)
    assert len(base) == 16
    assert base == protocol_hash(dict(reversed(settings.items())), dict(reversed(SPLIT.items())), JUDGES)
    others = {
        protocol_hash(protocol_settings("talking-head-v1", size=256), SPLIT, JUDGES),
        protocol_hash(protocol_settings("talking-head-v1", task="reconstruction"), SPLIT, JUDGES),
        protocol_hash(settings, {**SPLIT, "b": "4" * 64}, JUDGES),
        protocol_hash(settings, SPLIT, {"mobilefacenet": "5" * 64}),
        protocol_hash(settings, SPLIT, {}),
    }
    assert len(others | {base}) == 6


def test_settings_are_plain_and_the_callers_own():
    settings = protocol_settings("talking-head-v1")
    assert json.loads(json.dumps(settings)) == settings
    settings["motion"]["jitter_cutoff_hz"] = 1
    assert PROTOCOLS["talking-head-v1"]["motion"]["jitter_cutoff_hz"] == 6
    assert settings["motion"]["rigid"] == list(RIGID)
    assert settings["av"]["max_lag"] == av_correlation.MAX_LAG
    assert settings["av"]["fewest_frames"] == av_correlation.FEWEST_FRAMES
    assert settings["av"]["still"] == lip_closure.STILL
    assert settings["share_identities"] == FEWEST_IDENTITIES
    assert settings["av"]["ridge"] == av_correlation.RIDGE
    assert settings["av"]["alignments"] == av_correlation.ALIGNMENTS
    assert settings["av"]["alignment_lag"] == av_correlation.FIT_LAG
    assert settings["av"]["alignment_correlation"] == av_correlation.FIT_CORRELATION
    assert settings["av"]["window"] == av_correlation.WINDOW
    assert settings["av"]["hop"] == av_correlation.HOP
    assert settings["av"]["window_lag"] == av_correlation.WINDOW_LAG
    assert settings["av"]["choice"] == MOST_FOREIGN
    assert settings["motion"]["jitter_floor_frames"] == FLOOR_FRAMES
    assert settings["motion_steps"] == list(STEPS)
    assert settings["fewest_blink_intervals"] == FEWEST_INTERVALS
    assert settings["lip_closure"]["closed"] == lip_closure.CLOSED
    assert settings["lip_closure"]["levels"] == [lip_closure.LOW, lip_closure.HIGH]
    assert settings["lip_closure"]["before"] == lip_closure.BEFORE
    assert settings["lip_closure"]["after"] == lip_closure.AFTER
    assert settings["lip_closure"]["still"] == lip_closure.STILL
    assert settings["kid"]["most"] == pooled.MOST_KEPT


def usual(function: Callable[..., object], *names: str) -> list[object]:
    """What arguments of a function are where they are not given."""
    parameters = inspect.signature(function).parameters
    return [parameters[name].default for name in names]


def test_settings_are_what_the_code_does():
    settings, drawn = protocol_settings("talking-head-v1"), protocol_settings("synthetic-v1")
    kid, fvd, av, lips = settings["kid"], settings["fvd"], settings["av"], settings["sync"]
    assert [kid["subsets"], kid["size"], kid["seed"]] == usual(PooledKernel, "subsets", "size", "seed")
    assert settings["fid"]["enough"] == frechet.ENOUGH
    assert (fvd["window"], fvd["windows"]) == (frechet.WINDOW, frechet.ENOUGH)
    assert (av["context_frames"], av["bands"]) == (av_correlation.CONTEXT, av_correlation.BANDS)
    assert (lips["reach"], lips["minimum_frames"]) == (REACH, MINIMUM_FRAMES)
    assert drawn["sync"]["reach"] == REACH
    assert settings["motion"]["scale"].endswith("{} and {}".format(*OUTER_EYE_CORNERS))
    for one in (settings, drawn):
        assert [one["motion"]["jitter_cutoff_hz"]] == usual(jitter, "cutoff")
        assert (
            "above {} for at least {} frames".format(*usual(blink_rate, "threshold", "minimum"))
            in one["motion"]["blink"]
        )
        assert usual(blink_rate, "threshold", "minimum") == usual(blink_intervals, "threshold", "minimum")
        assert (
            "{} resamples, seed {}".format(*usual(cluster_bootstrap, "resamples", "seed")) in one["interval"]
        )
        assert f"of more than {pooled.MOST_CLUSTERS} identities" in one["interval"]
        assert f"crf {one['codec_crf']}" in one["codec"]
    assert f"up to {MOST_FITTED} in all" in av["fitted"]


def test_constants_of_the_judges_are_in_the_hash():
    """Who edits one of these gives results another hash."""
    settings, drawn = protocol_settings("talking-head-v1"), protocol_settings("synthetic-v1")
    crop, sharp = settings["sync"], settings["sharpness"]
    assert [crop[name] for name in ("crop_scale", "crop_median", "crop_grey", "most_unseen")] == [
        sync._CROP_SCALE,
        sync._MEDIAN,
        sync._GREY,
        sync._MOST_UNSEEN,
    ]
    assert crop["mfcc"] == drawn["sync"]["mfcc"]
    assert crop["mfcc"] == (
        f"{mfcc.COEFFICIENTS} coefficients of {mfcc._BANDS} bands, window {mfcc.MFCC_WINDOW} and hop {mfcc.MFCC_HOP} "
        f"samples, {mfcc._FFT} points, preemphasis {mfcc._PREEMPHASIS}, lifter {mfcc._LIFTER}"
    )
    assert [sharp["side"], sharp["eyes_apart"], sharp["smoothing"]] == [
        sharpness.FACE,
        sharpness._EYES_APART,
        sharpness._SMOOTHING,
    ]
    assert {name: tuple(sharp[name]) for name in sharpness._REGIONS} == sharpness._REGIONS
    assert settings["motion_pairs"] == [list(pair) for pair in distributions._SIGNALS]
    assert [settings["head_speed_step"]] == usual(distributions.head_speed, "step")
    assert settings["ssim"].endswith(f"window of {reconstruction._WINDOW}")
    assert settings["reconstruction"] == {
        "akd_size": landmarks.REFERENCE_SIZE,
        "akd_landmarks": landmarks.MESH,
    }
    assert settings["identity"]["size"] == identity.FACE_SIZE
    assert settings["identity"]["points"] == [list(points) for points in identity._FIVE]


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("v1", {}, "talking-head-v1"),
        ("talking-head-v1", {"sise": 3}, "no setting 'sise'"),
        ("talking-head-v1", {"task": "both"}, "generation or reconstruction"),
    ],
)
def test_what_does_not_exist_is_refused(name, changes, told):
    with pytest.raises(UserError, match=told):
        protocol_settings(name, **changes)


def test_the_families_never_mix():
    generation, reconstruction = measures_of("generation"), measures_of("reconstruction")
    assert {"psnr", "ssim", "l1", "lpips", "akd", "aed", "lmd"} <= set(reconstruction) - set(generation)
    assert {"fid", "kid", "fvd", "mouth_lmd"} <= set(generation) - set(reconstruction)
    assert {"csim", "lse_d", "av_corr", "head_motion"} <= set(generation) & set(reconstruction)
    assert set(generation) | set(reconstruction) == set(MEASURES)


def test_directions():
    assert better_of("csim") == "higher"
    assert better_of("lse_d_shuffled") == "lower"
    assert better_of("mouth_lmd_best_of_3") == "lower"
    assert better_of("head_motion_real") == "real"
    assert better_of("fps") == "none"
