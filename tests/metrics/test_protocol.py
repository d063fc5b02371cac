import json

import pytest

from datamodules.errors import UserError
from metrics import av_correlation, lip_closure, pooled
from metrics.landmarks import RIGID
from metrics.protocol import (
    MEASURES,
    PROTOCOLS,
    better_of,
    measures_of,
    protocol_hash,
    protocol_settings,
)

SPLIT, JUDGES = {"a": "1" * 64, "b": "2" * 64}, {"mobilefacenet": "3" * 64}


def test_the_protocol_is_frozen():
    """Whoever changes a setting gives the protocol another name; this number must not be edited alone."""
    assert protocol_hash(protocol_settings("talking-head-v1"), {}, {}) == "03dd9aeaf8bd2c23"
    assert protocol_hash(protocol_settings("synthetic-v1"), {}, {}) == "79c17c87fbebe9c1"


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
    assert settings["av"]["ridge"] == av_correlation.RIDGE
    assert settings["av"]["window"] == av_correlation.WINDOW
    assert settings["lip_closure"]["closed"] == lip_closure.CLOSED
    assert settings["lip_closure"]["levels"] == [lip_closure.LOW, lip_closure.HIGH]
    assert settings["lip_closure"]["before"] == lip_closure.BEFORE
    assert settings["lip_closure"]["after"] == lip_closure.AFTER
    assert settings["lip_closure"]["still"] == lip_closure.STILL
    assert settings["kid"]["most"] == pooled.MOST_KEPT


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
    assert better_of("mouth_lmd_best") == "lower"
    assert better_of("head_motion_real") == "real"
    assert better_of("fps") == "none"
