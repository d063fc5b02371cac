"""Trade-offs: fronts, ranks and comparisons at equal motion whose answers are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from metrics.evaluation.intervals import IntervalSettings
from metrics.trade_off import MotionCurve, at_equal_motion, common_levels, pareto_front, rank_correlation


def test_ranks_are_spearmans():
    generator = np.random.default_rng(0)
    for size in (3, 8, 30):
        first, second = generator.integers(0, 5, (2, size)).astype(float)  # with ties
        assert rank_correlation(first, second) == pytest.approx(
            spearmanr(first, second).statistic, nan_ok=True
        )
    assert rank_correlation([0, 1, 2], [1, 4, 9]) == pytest.approx(1)
    assert np.isnan(rank_correlation([0, 1], [3, 3]))


def test_the_front_holds_what_nobody_beats():
    motion, quality = [1, 2, 3, 3, 2, np.nan], [0.9, 0.8, 0.5, 0.4, 0.85, 1.0]
    assert pareto_front(motion, quality) == [0, 4, 2]
    assert pareto_front(motion, [-q for q in quality], higher=False) == [0, 4, 2]
    assert pareto_front([1, 1], [2, 2]) == [0, 1]  # equals don't beat each other


def curves(gap: float, clips: int = 12) -> dict[str, MotionCurve]:
    """Two ways whose quality falls with motion, one better by ``gap``; clips differ in motion and in quality alike."""
    generator = np.random.default_rng(1)
    liveliness, looks = generator.normal(0, 0.1, clips), generator.normal(0, 0.3, clips)
    made = {}
    for name, values, offset in (("plain", (0, 1, 2, 4), 0.0), ("guided", (1, 2, 3), gap)):
        motion = np.array(values, float)[:, None] + liveliness
        made[name] = MotionCurve(motion, 5 - motion + looks + offset)
    return made


SETTINGS = IntervalSettings(resamples=200)
PEOPLE = [f"p{number % 6}" for number in range(12)]


@pytest.mark.parametrize(("gap", "best", "clear"), [(0.5, "guided", True), (-0.5, "plain", True)])
def test_at_equal_motion_the_better_way_wins_by_the_gap(gap, best, clear):
    both = curves(gap)
    levels = common_levels(both, 3)
    np.testing.assert_allclose(levels, both["guided"].motion.mean(axis=1)[1] + [-0.5, 0, 0.5])
    for level in at_equal_motion(both, PEOPLE, levels[1:2], settings=SETTINGS):
        assert (level.best, level.clear) == (best, clear)
        assert level.margin.value == pytest.approx(abs(gap))
        assert level.margin.low == pytest.approx(abs(gap))  # paired: what the clips have in common goes out
        one = level.quality["plain"]
        assert one.low < one.value < one.high


def test_noise_is_no_clear_winner_and_lower_can_be_better():
    both = curves(0.0)
    noise = np.random.default_rng(2).normal(0, 0.2, both["guided"].quality.shape)
    both["guided"] = MotionCurve(both["guided"].motion, both["guided"].quality + noise)
    [level] = at_equal_motion(both, PEOPLE, np.array([2.2]), settings=SETTINGS)
    assert not level.clear
    [other] = at_equal_motion(both, PEOPLE, np.array([2.2]), higher=False, settings=SETTINGS)
    assert {level.best, other.best} == set(both)
    assert other.best == level.second


def test_a_way_that_does_not_reach_a_level_is_not_there():
    both = curves(0.5)
    [low] = at_equal_motion(both, PEOPLE, np.array([0.5]), settings=SETTINGS)
    assert (set(low.quality), low.best, low.second, low.margin) == ({"plain"}, "plain", None, None)
    [alone] = at_equal_motion(both, ["p"] * 12, np.array([2.0]), settings=SETTINGS)
    assert alone.quality["plain"].low is None  # one person tells no interval
    assert not alone.clear
    still = {"rest": MotionCurve(np.zeros((2, 3)), np.ones((2, 3))), **curves(0.5, 3)}
    assert len(common_levels({"rest": still["rest"], "guided": still["guided"]})) == 0


def test_motion_that_turns_back_is_followed_from_setting_to_setting():
    """Between settings that are no neighbours nothing was measured."""
    curve = MotionCurve(np.array([[2.0], [2.4], [2.1]]), np.array([[0.9], [0.8], [0.5]]))
    found = curve.at(np.array([2.05, 2.2, 2.4, 2.5]))
    np.testing.assert_allclose(found, [0.8875, 0.85, 0.8, np.nan])


def test_ways_that_never_meet_are_not_compared():
    apart = curves(0.0)
    apart["guided"] = MotionCurve(apart["guided"].motion + 9, apart["guided"].quality)
    levels = common_levels(apart)
    assert at_equal_motion(apart, [f"p{k}" for k in range(12)], levels, settings=SETTINGS) == []
