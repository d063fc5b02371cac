import dataclasses

import numpy as np
import pytest

from metrics.bootstrap import cluster_bootstrap, cluster_jackknife, median


def test_clips_of_one_identity_are_drawn_together():
    """Repeating each clip of an identity must not narrow the interval, as a bootstrap over clips would."""
    generator = np.random.default_rng(0)
    per_identity = generator.normal(size=12)
    names = [f"id{i}" for i in range(12)]
    once = cluster_bootstrap(per_identity, names)
    often = cluster_bootstrap(np.repeat(per_identity, 20), np.repeat(names, 20).tolist())
    assert once.value == pytest.approx(often.value)
    assert (once.low, once.high) == pytest.approx((often.low, often.high))
    assert often.n == 240


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    names = [f"id{i}" for i in range(40)]
    intervals = [cluster_bootstrap(generator.normal(size=40), names, resamples=200) for _ in range(100)]
    covered = sum(one.low <= 0 <= one.high for one in intervals)
    assert 88 <= covered <= 99


def test_same_seed_same_interval_and_other_statistics():
    values, names = np.random.default_rng(0).normal(size=20), [f"id{i % 9}" for i in range(20)]
    assert cluster_bootstrap(values, names) == cluster_bootstrap(values, names)
    assert cluster_bootstrap(values, names, seed=1) != cluster_bootstrap(values, names)
    one_by_one = cluster_bootstrap(values, names, lambda rows: float(rows[:, 0].mean()))
    assert cluster_bootstrap(values, names).low == pytest.approx(one_by_one.low)
    assert cluster_bootstrap([1.0, 1, 9], ["a", "b", "c"], median).value == 1


def test_missing_values_and_few_identities():
    one = cluster_bootstrap([1.0, None, float("nan"), 3.0], ["a", "a", "b", "a"])
    assert (one.value, one.low, one.high, one.n) == (2.0, None, None, 2)
    assert cluster_bootstrap([float("nan")], ["a"]).value is None
    with pytest.raises(ValueError, match="cluster names"):
        cluster_bootstrap([1.0], ["a", "b"])


def test_jackknife_of_a_mean_is_its_standard_error():
    """With one clip an identity and the mean as statistic the textbook standard error comes out."""
    values = np.random.default_rng(0).normal(size=40)
    interval = cluster_jackknife(lambda kept: values[list(kept)].mean(), [str(i) for i in range(40)])
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.value == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(40))
    assert interval.n == 40


def test_an_interval_of_a_distance_ends_at_none():
    wide = cluster_jackknife(
        lambda kept: sum((0.1, 0.1, 3.0, 0.1)[i] for i in kept) / len(kept), list("abcd")
    )
    assert wide.low < 0
    assert wide.not_below(0) == dataclasses.replace(wide, low=0)
    assert wide.not_below(wide.low - 1) == wide
    few = cluster_jackknife(lambda kept: 1.0, ["a", "b"])
    assert few.not_below(0) == few


def test_jackknife_without_enough_identities_or_value():
    alone = cluster_jackknife(lambda kept: 1.0 * len(kept), ["a", "a", "b"])
    assert (alone.value, alone.low, alone.high) == (3, None, None)
    assert cluster_jackknife(lambda kept: float("nan"), ["a", "b", "c"]).value is None
