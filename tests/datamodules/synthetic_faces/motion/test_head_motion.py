import dataclasses

import numpy as np
import pytest

from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.motion.curves import changing_level, lag_behind, random_events, smooth_noise
from datamodules.synthetic_faces.motion.head_motion import BUDGET, head_motion, look_round, move_head
from datamodules.synthetic_faces.motion.speech_drives import DRIVE_NAMES
from datamodules.synthetic_faces.motion.style import Style


def some_drives(frames: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([smooth_noise(frames, 1.0, rng) for _ in DRIVE_NAMES], axis=1)


def draw(drives: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    style = Style.sample(rng)
    return style, head_motion(drives, style, rng)


def test_parts_have_their_shares_of_the_variance_and_are_orthogonal() -> None:
    drives = some_drives()
    steady = 0
    for seed in range(12):
        _, motion = draw(drives, seed)
        if np.ptp(motion.intensity) > 1e-9:
            continue
        steady += 1
        total = motion.total.var(axis=0)
        for name, share in BUDGET.items():
            np.testing.assert_allclose(getattr(motion, name).var(axis=0) / total, share, atol=1e-3)
        assert total.mean() == pytest.approx(motion.intensity[0] ** 2, rel=1e-3)
    assert steady >= 4


@pytest.mark.parametrize("known", [False, True])
def test_what_is_known_explains_its_share_and_no_more(known: bool) -> None:
    """The mean over draws of one speech, of one style or all, is the ceiling of who hears it, and knows the style or not."""
    drives, turns = some_drives(), []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        style = Style.sample(np.random.default_rng(5) if known else rng)
        motion = head_motion(drives, style, rng)
        turns.append(motion.total / motion.intensity[:, None] / style.axis_shares)
    explained = np.var(np.mean(turns, axis=0), axis=0) / np.var(turns, axis=(0, 1))
    np.testing.assert_allclose(explained, BUDGET["speech"] + known * BUDGET["style"], atol=0.03)


def test_silence_moves_the_head_all_the_same() -> None:
    _, motion = draw(np.zeros((200, len(DRIVE_NAMES))), 1)
    assert np.isfinite(motion.total).all()
    assert not motion.speech.any()
    assert motion.free.std(axis=0).min() > 0.1


def test_head_stays_within_its_limits_and_moves_about_its_rest() -> None:
    rng = np.random.default_rng(0)
    style = Style.sample(rng)
    motion = head_motion(some_drives(2000), style, rng)
    controls = Controls.neutral(2000)
    move_head(controls, motion, style, rng)
    # Small turns pass as they are; no turn goes past what a neck does, not even one far too large.
    small = np.abs(motion.total[:, 0]) < 3
    np.testing.assert_allclose(controls["yaw"][small], (style.rest_yaw + motion.total[:, 0])[small], atol=0.6)
    wild = dataclasses.replace(motion, free=motion.free * 20)
    move_head(controls, wild, style, rng)
    assert np.abs(controls["yaw"]).max() <= 38
    move_head(controls, motion, style, rng)
    assert controls["yaw"].mean() == pytest.approx(style.rest_yaw, abs=0.3 * style.head_intensity + 0.5)


def test_levels_change_within_some_clips_only() -> None:
    rng = np.random.default_rng(0)
    levels = [changing_level(200, 3.0, 0.35, rng) for _ in range(300)]
    changing = np.mean([np.ptp(level) > 1e-6 for level in levels])
    assert changing == pytest.approx(0.35, abs=0.08)
    for level in levels:
        assert np.mean(level**2) == pytest.approx(1.0)
        assert level.max() / level.min() <= 3.0 + 1e-6


def test_events_have_rate_and_height() -> None:
    rng = np.random.default_rng(0)
    curve = random_events(25 * 600, 6, (0.2, 0.7), (0.1, 0.2), rng)
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:]) & (curve[1:-1] > 0.15))
    assert 30 < len(peaks) < 80
    assert 0 <= curve.min() <= curve.max() <= 0.7


def test_a_swinging_mass_lags_and_settles() -> None:
    step = np.repeat([0.0, 1.0], 100)
    lag = lag_behind(step, 1.5, 0.3)
    assert not np.abs(lag[:100]).max() > 1e-9
    assert lag[100] < -0.5
    assert lag[100:120].max() > 0.1  # it overshoots
    assert np.abs(lag[-10:]).max() < 0.02


def test_some_heads_look_round_and_the_budget_stays() -> None:
    drives = some_drives()
    frames = len(drives)
    assert not look_round(frames, 0.0, np.random.default_rng(0)).any()
    turns = [look_round(300, 0.5, np.random.default_rng(seed)) for seed in range(60)]
    turning = [one for one in turns if one.any()]
    assert 18 < len(turning) < 42
    assert np.median([np.ptp(one[:, 0]) for one in turning]) > 35  # degrees of yaw
    turn = look_round(frames, 1.0, np.random.default_rng(1))
    style = Style.sample(np.random.default_rng(2))
    plain, turned = (head_motion(drives, style, np.random.default_rng(3), one) for one in (None, turn))
    np.testing.assert_allclose(turned.total - plain.total, turn)
    np.testing.assert_array_equal(turned.speech, plain.speech)
