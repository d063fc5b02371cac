"""Distances between distributions of motion."""

import numpy as np
import pytest
import torch

from metrics.distributions import (
    BlinkIntervalDistance,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFeatureSettings,
    MotionFrechetDistance,
    blink_intervals,
    head_spectrum,
    head_speed,
    motion_features,
)

FRAMES, MOTION_DIM = 200, MotionFeatureSettings().width


def moving_face(seed: int = 0, frames: int = FRAMES, speech: float = 1.0, head: float = 1.0):
    """Landmarks ``(T, 478, 3)`` of a cloud that talks, blinks and turns, and its rotation ``(T, 3)``."""
    generator = np.random.default_rng(seed)
    rest = np.random.default_rng(99).uniform(-100, 100, (478, 3))
    rest[33], rest[263] = (-50, -20, 0), (50, -20, 0)
    smooth = np.hanning(9) / 4
    talk, turn = (np.convolve(generator.normal(size=frames), smooth, "same") for _ in range(2))
    points = np.repeat(rest[None], frames, axis=0)
    points[:, [14, 17, 152], 1] += 8 * speech * talk[:, None]
    rotation = np.stack([6 * head * turn, 0 * turn, 0 * turn], axis=1)
    angle = np.radians(rotation[:, 0])
    matrix = np.zeros((frames, 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 2] = np.cos(angle), np.sin(angle)
    matrix[:, 2, 0], matrix[:, 2, 2] = -np.sin(angle), np.cos(angle)
    matrix[:, 1, 1] = 1
    return np.einsum("tij,tkj->tki", matrix, points) + 256, rotation


def test_motion_features_split_head_from_face():
    points, rotation = moving_face()
    features = motion_features(points, rotation)
    assert features.shape == (FRAMES - 5, MOTION_DIM)
    still, face = motion_features(*moving_face(head=0)), [*range(8), *range(11, 19)]
    assert features[:, face] == pytest.approx(still[:, face], abs=1e-6)
    points[10] = np.nan
    assert len(motion_features(points, rotation)) == FRAMES - 5 - 3
    assert motion_features(np.full_like(points, np.nan), rotation).shape == (0, MOTION_DIM)


def test_motion_frechet_grows_with_the_difference():
    """The same motion drawn anew is near, half the speech further, a frozen face furthest."""
    values = []
    for speech, head in ((1.0, 1.0), (0.5, 1.0), (0.0, 0.0)):
        real = [motion_features(*moving_face(seed)) for seed in range(4)]
        made = [motion_features(*moving_face(seed + 9, speech=speech, head=head)) for seed in range(4)]
        values.append(frechet(np.concatenate(real), np.concatenate(made)))
    assert values[0] < 0.5 * values[1] < 0.5 * values[2]


def frechet(real: np.ndarray | torch.Tensor, made: np.ndarray | torch.Tensor) -> float:
    metric = MotionFrechetDistance()
    for part in torch.as_tensor(real).split(25):
        metric.update(part, real=True)
    metric.update(torch.as_tensor(made), real=False)
    return float(metric.compute())


def test_motion_frechet_agrees_with_the_matrix_root():
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 60, MOTION_DIM)) * generator.uniform(0.5, 3, (2, 1, MOTION_DIM)) + 0.2
    first, second = a / a.std(axis=0), b / a.std(axis=0)
    covariances = np.cov(first.T, bias=True), np.cov(second.T, bias=True)
    spread = np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet(a, b) == pytest.approx(((first.mean(0) - second.mean(0)) ** 2).sum() + spread)


def test_velocity_spectrum_and_blinks_compare_distributions():
    times = np.arange(FRAMES) / 25
    slow = np.stack([5 * np.sin(2 * np.pi * 0.5 * times), 0 * times, 0 * times], axis=1)
    assert head_speed(np.stack([times, 0 * times, 0 * times], axis=1)) == pytest.approx(1)
    for build, measure in ((HeadVelocityDistance, head_speed), (HeadSpectrumDistance, head_spectrum)):
        same, still = build(), build()
        for metric, made in ((same, slow), (still, 0 * slow)):
            metric.update(torch.from_numpy(measure(slow)), real=True)
            metric.update(torch.from_numpy(measure(made)), real=False)
        assert float(same.compute()) == pytest.approx(0)
        assert float(still.compute()) > 3
    # a head that moves with ten times the amplitude has 20 dB more in every octave
    assert head_spectrum(10 * slow)[0, 1] - head_spectrum(slow)[0, 1] == pytest.approx(20, abs=0.1)
    assert head_spectrum(slow[:50]).shape == (0, 5)

    blink = np.zeros(500)
    for start in (5, 80, 105, 205):
        blink[start : start + 4] = 1
    blink[300] = 1  # too short
    assert blink_intervals(blink) == pytest.approx([3, 1, 4])
    metric = BlinkIntervalDistance()
    metric.update(torch.tensor([1.0, 2, 3, 4, 5]), real=True)
    metric.update(torch.tensor([2.0, 3, 4, 5]), real=False)
    assert torch.isnan(metric.compute())
    metric.update(torch.tensor([6.0]), real=False)
    assert float(metric.compute()) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(8))
def test_equal_motion_is_at_no_distance(seed):
    """Rounding must not make it less than none; a feature that rests in the real motion gives no unit to count in."""
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(200, MOTION_DIM))).cumsum(dim=0)
    assert 0 <= frechet(features, features) < 1e-9
    resting, shift = features.clone(), torch.zeros(MOTION_DIM)
    resting[:, 3], shift[3] = 0.5, 1.0
    assert 0 <= frechet(resting, resting + shift) < 1e-9
