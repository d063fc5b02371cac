"""Following of statistics: answers that are known because the motion was made for them."""

import numpy as np
import pytest

from metrics.following import (
    block_std,
    cross_talk,
    fit_line,
    in_range,
    judged_windows,
    realised_std,
    saturation,
)


def test_std_of_windows_covers_the_frame_before_each():
    motion = np.random.default_rng(0).normal(size=(150, 3)) * [1.0, 2.0, 0.0]
    before = np.array([5.0, 0.0, 1.0])
    found = realised_std(motion, before)
    assert list(judged_windows(150)) == [0, 2]  # the last begins at 86, within the second
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[0], np.vstack([before, motion[:64]]).std(axis=0, ddof=1))
    np.testing.assert_allclose(found[1], motion[85:150].std(axis=0, ddof=1))
    assert judged_windows(192) == {0: 0, 1: 64, 2: 128}
    assert judged_windows(40) == judged_windows(64) == {0: 0}
    assert realised_std(motion[:20], before).shape == (0, 3)


def test_a_block_is_the_root_of_the_mean_square():
    std = np.array([[3.0, 4.0, 100.0], [1.0, 1.0, 100.0]])
    np.testing.assert_allclose(block_std(std, slice(0, 2)), [np.sqrt(12.5), 1.0])


def test_a_line_that_is_followed_by_half():
    requested = np.array([[0.5], [1.0], [2.0], [4.0]])
    line = fit_line(requested, 0.3 + 0.5 * requested)
    assert (line.slope, line.offset, line.r2) == pytest.approx((0.5, 0.3, 1.0))
    deaf = fit_line(requested, np.array([[1.0], [-1.0], [-1.0], [1.0]]))
    assert deaf.r2 < 0.4
    assert np.isnan(fit_line(np.ones((3, 1)), requested[:3]).slope)


def test_windows_that_move_more_by_themselves_follow_nothing():
    """Each window is asked for what it would do, times a factor; the model does what it would do, whatever the factor."""
    own = np.random.default_rng(0).uniform(0.5, 2.0, 40)
    requested = np.array([[0.5], [1.0], [2.0]]) * own
    noise = np.random.default_rng(1).normal(0, 0.01, requested.shape)
    assert fit_line(requested, own + noise).slope == pytest.approx(0, abs=0.01)
    assert fit_line(requested, 0.2 * own + 0.8 * requested).slope == pytest.approx(0.8)


@pytest.mark.parametrize("lost", [0.0, 0.5, 1.0])
def test_saturation_is_the_share_of_the_slope_that_is_lost(lost):
    factors = np.array([0.5, 1.0, 2.0])
    asked = factors[:, None]
    realised = np.where(asked > 1, 1 + (asked - 1) * (1 - lost), asked)
    assert saturation(factors, asked, realised) == pytest.approx(lost)
    assert np.isnan(saturation(factors, asked, -asked))  # small ones aren't followed either


def test_only_requests_about_the_estimated_one_make_the_line():
    assert in_range(np.array([0.0, 0.25, 1.0, 2.0, 3.0])).tolist() == [False, True, True, True, False]


def test_cross_talk_is_relative():
    one = {"mouth": np.array([1.0, 3.0]), "eyes": np.zeros(2)}
    found = cross_talk(one, {"mouth": np.array([1.0, 5.0]), "eyes": np.ones(2)})
    assert found["mouth"] == pytest.approx(0.5)
    assert np.isnan(found["eyes"])
