"""Intervals over training seeds and identities."""

import numpy as np
import pytest
from scipy import stats

from metrics.evaluation.comparison import crossed_interval, seed_interval
from metrics.evaluation.intervals import IntervalSettings


def _draws(
    generator: np.random.Generator, seed_spread: float, person_spread: float, seeds: int = 3
) -> tuple[np.ndarray, list[str]]:
    """Some seeds, twelve people with two clips each, mean 0."""
    people = [str(number) for number in range(12) for _ in range(2)]
    by_person = np.repeat(generator.normal(0, person_spread, 12), 2)
    values = generator.normal(0, seed_spread, (seeds, 1)) + by_person + generator.normal(0, 0.1, (seeds, 24))
    return values, people


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("seed_spread", "person_spread"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.2, 1.0), (0.0, 0.0)]
)
def test_the_interval_covers_the_mean_as_often_as_it_says(seed_spread, person_spread, seeds):
    generator = np.random.default_rng(3)
    settings = IntervalSettings(resamples=300)
    inside = 0
    for _ in range(300):
        values, people = _draws(generator, seed_spread, person_spread, seeds)
        found = crossed_interval(values, people, settings)
        inside += found.low <= 0 <= found.high
    # A spread over two seeds that came out small by luck makes it too narrow.
    assert inside / 300 > (0.86 if seeds == 2 else 0.91)


def test_seeds_count_as_a_source_of_chance():
    values, people = _draws(np.random.default_rng(0), 1.0, 0.0)
    crossed = crossed_interval(values, people)
    alone = crossed_interval(values.mean(axis=0, keepdims=True), people)
    assert crossed.high - crossed.low > 3 * (alone.high - alone.low)


def test_many_seeds_of_one_person_have_a_t_test_over_seeds():
    values = np.random.default_rng(2).normal(0, 1, (6, 1))
    found = crossed_interval(values, ["a"])
    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values[:, 0]))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_of_many_people_has_a_t_test_over_people():
    values = np.random.default_rng(2).normal(0, 1, (1, 200))
    found = crossed_interval(values, [str(number) for number in range(200)])
    low, high = stats.t.interval(0.95, 199, values.mean(), stats.sem(values[0]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_a_pair_of_equal_models_differs_by_nothing():
    values, people = _draws(np.random.default_rng(1), 1.0, 1.0)
    found = crossed_interval(values - values, people)
    assert (found.value, found.low, found.high, found.n) == (0, 0, 0, values.size)


def test_values_that_are_missing_are_left_out():
    values = np.array([[1.0, np.nan, 3.0, np.nan], [np.nan, 2.0, 6.0, np.nan]])
    found = crossed_interval(values, ["a", "b", "c", "of no value"])
    assert found.value == 3.0
    assert found.n == 4
    assert found == crossed_interval(values[:, :3], ["a", "b", "c"])


def test_lags_have_the_median_and_one_seed_of_one_person_no_interval():
    found = crossed_interval(np.array([[0.0, 0.0, 9.0]]), ["a", "b", "c"], median=True)
    assert found.value == 0
    assert found.low is not None
    alone = crossed_interval(np.array([[0.0, 1.0]]), ["a", "a"])
    assert alone.value == 0.5
    assert alone.low is None
    assert crossed_interval(np.array([[np.nan]]), ["a"]).value is None


def test_distances_have_the_interval_of_a_t_test_over_seeds():
    values = [1.0, 2.0, 4.0]
    found = seed_interval(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert seed_interval([1.0]).low is None
    assert seed_interval([]).value is None
