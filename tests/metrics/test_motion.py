import numpy as np
import pytest

from metrics.distributions import blink_intervals
from metrics.motion import (
    MotionCurves,
    blink_rate,
    blink_starts,
    blinks_followed,
    edge_step_ratio,
    edge_steps,
    head_motion,
    jitter,
    lagged_correlation,
    measure_motion,
    mouth_motion,
    shared_motion,
)


def _speechlike(frames: int = 200, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=frames)
    return np.convolve(noise, np.hanning(7), "same")


@pytest.mark.parametrize("late", [-4, -1, 0, 3, 10])
def test_lag_is_found_with_its_sign(late):
    """A curve that comes ``late`` frames after the truth has that positive lag."""
    truth = _speechlike()
    found = lagged_correlation(np.roll(truth, late) * 3 + 1, truth)
    assert found.lag == late
    assert found.best == pytest.approx(1)
    assert found.at_zero == pytest.approx(found.curve[10])
    assert (late == 0) == (found.at_zero > 0.999)


def test_unrelated_and_constant_curves():
    pairs = ((_speechlike(seed=2 * i), _speechlike(seed=2 * i + 1)) for i in range(30))
    at_zero = [lagged_correlation(*pair).at_zero for pair in pairs]
    assert abs(np.mean(at_zero)) < 0.08
    still = lagged_correlation(np.full(200, 0.2), _speechlike())
    assert np.isnan([still.best, still.at_zero, still.lag]).all()
    with pytest.raises(ValueError, match="cannot be correlated"):
        lagged_correlation(np.zeros(5), np.zeros(6))


def test_frames_without_a_face_are_left_out():
    truth = _speechlike()
    seen = truth.copy()
    seen[50:60] = np.nan
    assert lagged_correlation(seen, truth).at_zero == pytest.approx(1)
    rotation = np.random.default_rng(0).normal(size=(200, 3))
    kept = head_motion(np.vstack([rotation, np.full((5, 3), np.nan)]))
    assert kept == pytest.approx(head_motion(rotation))


def test_head_motion_is_the_rms_of_the_three_deviations():
    rotation = np.zeros((100, 3))
    rotation[:, 0] = np.where(np.arange(100) % 2, 3.0, -3.0) + 20
    assert head_motion(rotation) == pytest.approx(np.sqrt(9 / 3))
    assert head_motion(2 * rotation) == pytest.approx(2 * head_motion(rotation))
    assert mouth_motion(np.array([0.0, 0.2] * 10)) == pytest.approx(0.1)


def test_a_blink_lasts_two_frames():
    blink = np.zeros(250)  # 10 s
    blink[[10, 11, 12]] = 1
    blink[50] = 1  # too short
    blink[248:] = 0.6  # open end counts
    assert blink_rate(blink) == pytest.approx(12)
    assert blink_starts(blink).tolist() == [10, 248]


@pytest.mark.parametrize("unseen", [0, 3])
def test_a_blink_begins_within_the_clip(unseen):
    """A still picture of shut eyes blinks at no time; nor do eyes that are shut when the face comes into view."""
    shut = np.full(250, 0.9)
    shut[:unseen] = np.nan
    assert blink_rate(shut) == 0
    assert not len(blink_intervals(shut))
    shut[20:40] = 0.1
    shut[[60, 61, 80, 81]] = 0.1
    assert blink_starts(shut).tolist() == [40, 62, 82]
    assert blink_rate(shut) == pytest.approx(18)
    assert blink_intervals(shut) == pytest.approx([22 / 25, 20 / 25])
    opened = shut.copy()
    opened[unseen] = 0.1  # one open frame is enough to see them close
    assert blink_starts(opened).tolist() == [unseen + 1, 40, 62, 82]


def test_a_clip_without_a_face_has_no_blink_rate():
    assert np.isnan(blink_rate(np.full(50, np.nan)))
    assert np.isnan(blink_rate(np.empty(0)))


def test_a_jerk_counts_where_windows_meet_alone():
    walk = np.zeros((192, 3))
    walk[:, 0] = np.arange(192) * 0.5  # half a degree from each frame to the next
    assert edge_steps(walk) == pytest.approx(1.0)
    assert edge_step_ratio(walk) == pytest.approx(1.0)
    seams = walk.copy()
    seams[64:, 1] += 2.0  # between the first and the second window
    seams[128:, 2] -= 2.0
    expected = np.hypot(0.5, 2.0) / 0.5
    assert edge_steps(seams) == pytest.approx(expected)
    assert edge_step_ratio(seams) == pytest.approx(expected)
    inside = walk.copy()
    inside[30:, 1] += 2.0
    assert edge_steps(inside) == pytest.approx(1.0)
    assert edge_step_ratio(inside) < 1.0
    lost = seams.copy()
    lost[100:105] = np.nan  # no face
    assert edge_steps(lost) == pytest.approx(expected)
    assert edge_steps(seams[28:]) == pytest.approx(
        np.hypot(0.5, 2.0) / 0.5 / 2 + 0.5
    )  # 164 frames: edges at 64 and 100


@pytest.mark.parametrize("rotation", [np.zeros((200, 3)), np.random.rand(64, 3), np.full((200, 3), np.nan)])
def test_heads_that_stand_still_and_single_windows_have_no_edges(rotation):
    assert np.isnan(edge_steps(rotation))
    assert np.isnan(edge_step_ratio(rotation))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("draws", [2, 3, 6])
def test_what_draws_have_in_common_is_told_whatever_their_number(share, draws):
    random = np.random.default_rng(0)
    common, own = random.normal(size=(4000, 3)), random.normal(size=(draws, 4000, 3))
    curves = np.sqrt(share) * common + np.sqrt(1 - share) * own
    assert shared_motion(curves) == pytest.approx(share, abs=0.03)
    postures = 5 * random.normal(size=(draws, 1, 3))
    assert shared_motion(curves + postures) == pytest.approx(shared_motion(curves))


def test_draws_of_a_still_head_or_of_one_frame_have_no_share():
    assert np.isnan(shared_motion(np.zeros((3, 50, 3))))
    assert np.isnan(shared_motion(np.random.rand(1, 50, 3)))
    lost = np.random.rand(2, 50, 3)
    lost[0, :49] = np.nan
    assert np.isnan(shared_motion(lost))


def test_jitter_is_only_what_is_fast():
    times = np.arange(200) / 25
    slow = np.stack([10 * np.sin(2 * np.pi * 0.7 * times)] * 3, axis=1)
    fast = np.stack([np.sqrt(2) * np.sin(2 * np.pi * 9 * times)] * 3, axis=1)
    assert jitter(slow) < 0.02
    assert jitter(slow + fast) == pytest.approx(1, rel=0.05)
    assert jitter(slow + 100 * times[:, None]) < 0.02  # drift is not trembling
    for frames in (240, 241):  # of even and odd number: the highest frequency counts alike
        assert jitter((-1.0) ** np.arange(frames)[:, None]) == pytest.approx(1, rel=0.01)
        tone = np.sqrt(2) * np.sin(2 * np.pi * 0.4 * np.arange(frames))[:, None]
        assert jitter(tone) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("gaps", [[(100, 110)], [(50, 55), (100, 105), (180, 190)], [(0, 20), (230, 250)]])
def test_a_lost_face_is_no_jolt(gaps):
    """A moving head that is out of sight for a while: what remains of it must not be joined into one curve."""
    times, generator = np.arange(250) / 25, np.random.default_rng(0)
    head = np.stack([8 * np.sin(2 * np.pi * 0.4 * times + phase) for phase in range(3)], axis=1)
    for noise in (0.03, 1.0):
        curve = head + noise * generator.normal(size=head.shape)
        gappy = curve.copy()
        for start, stop in gaps:
            gappy[start:stop] = np.nan
        assert jitter(gappy) == pytest.approx(jitter(curve), rel=0.25)
    assert np.isnan(jitter(np.where(np.arange(250)[:, None] < 7, head, np.nan)))


def test_measure_refuses_what_is_no_clip():
    class Judge:
        name = sha256 = "none"

        def measure(self, frames: np.ndarray) -> MotionCurves:
            return MotionCurves(np.zeros((len(frames), 3)), np.zeros(len(frames)), np.zeros(len(frames)))

    assert len(measure_motion(np.zeros((4, 8, 8, 3), np.uint8), Judge())) == 4
    with pytest.raises(ValueError, match="uint8"):
        measure_motion(np.zeros((4, 8, 8, 3), np.float32), Judge())


def test_blinks_are_followed_where_lids_shut_in_them_or_beside_them():
    real = np.zeros(100)
    for start in (10, 30, 50, 70):
        real[start : start + 4] = 0.9
    real[90] = 0.9  # one frame is no blink
    made = np.zeros(100)
    made[12] = 0.6  # in the first
    made[35] = 0.6  # two frames after the second
    made[46] = 0.6  # four frames before the third
    assert blinks_followed(made, real) == 0.5
    assert blinks_followed(real, real) == 1
    assert blinks_followed(np.full(100, np.nan), real) == 0
    assert np.isnan(blinks_followed(made, np.zeros(100)))
