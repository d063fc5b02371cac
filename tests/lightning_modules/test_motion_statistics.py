import functools
import math

import pytest
import torch

from lightning_modules.learning_rate import warmup_cosine
from lightning_modules.motion_statistics import MotionStatisticsModule, pit_error
from lightning_modules.networks.audio_encoder import MelEncoder
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.statistics_estimator import (
    StatisticsEstimator,
    StatisticsMixture,
    statistics_target,
    target_statistics,
)

M, D = 4, 6


def build_estimator(**options):
    torch.manual_seed(0)
    encoder = MelEncoder(D, 16, 16)
    return StatisticsEstimator(encoder, motion_dim=M, appearance_dim=8, width=24, components=3, **options)


@pytest.fixture
def windows(motion_windows):
    """Makes windows: the std of the motion follows the loudness of the speech, the mean the source's posture."""
    return functools.partial(make_windows, motion_windows)


def make_windows(motion_windows, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(count, 1, 1, generator=generator) * 2
    audio = loudness + 0.1 * torch.randn(count, 128, D, generator=generator)
    source = torch.randn(count, M, generator=generator)
    motion = (0.1 + loudness) * torch.randn(count, 65, M, generator=generator)
    motion = motion + source.unsqueeze(1) * 0.5
    return motion_windows(motion, audio, appearance_dim=8, source_motion=source)


def mixture(correlated=False):
    torch.manual_seed(0)
    factor = torch.tril(torch.randn(5, 5), -1) + torch.diag(0.5 + torch.rand(5)) if correlated else None
    torch.manual_seed(0)
    return StatisticsMixture(torch.randn(3, 3), 2 * torch.randn(3, 3, 5), 0.3 + torch.rand(3, 3, 5), factor)


@pytest.mark.parametrize("correlated", [False, True])
def test_log_prob_agrees_with_torch(correlated):
    model = mixture(correlated)
    target = torch.randn(3, 5)
    if correlated:
        triangle = model.factor * model.scales.unsqueeze(-2)
        components = torch.distributions.MultivariateNormal(model.means, scale_tril=triangle)
    else:
        components = torch.distributions.Independent(torch.distributions.Normal(model.means, model.scales), 1)
    weights = torch.distributions.Categorical(logits=model.logits)
    reference = torch.distributions.MixtureSameFamily(weights, components)
    torch.testing.assert_close(model.log_prob(target), reference.log_prob(target))


@pytest.mark.parametrize("correlated", [False, True])
def test_samples_follow_the_mixture(correlated):
    one = mixture(correlated)
    model = StatisticsMixture(one.logits[:1], one.means[:1], one.scales[:1], one.factor).expand(20_000)
    draws = model.sample(torch.Generator().manual_seed(1))
    mean = torch.softmax(model.logits[0], 0) @ model.means[0]
    torch.testing.assert_close(draws.mean(0), mean, atol=0.1 if correlated else 0.06, rtol=0)
    torch.testing.assert_close(model.mean()[0], mean)
    assert float(pit_error(model.cdf(draws))) < 0.01  # PIT of own samples is uniform
    assert torch.equal(draws, model.sample(torch.Generator().manual_seed(1)))
    assert float(pit_error(model.cdf(draws + 2))) > 0.1


def test_what_goes_together_in_the_training_windows_is_drawn_together():
    """A third of the dimensions follow another: independent draws would part them."""
    torch.manual_seed(0)
    lead = torch.randn(4000, M)
    mean = torch.cat([lead[:, : M - 1], 0.9 * lead[:, :1] + 0.1 * lead[:, -1:]], dim=1)
    std, frames = torch.rand(4000, M) + 0.1, torch.zeros(4000, M)
    estimators = [build_estimator(hint=True, correlated=one).eval() for one in (False, True)]
    found = []
    for estimator in estimators:
        estimator.fit(mean, std, frames, frames)
        drawn = estimator.unconditional().expand(4000).sample(torch.Generator().manual_seed(0))
        found.append(float(torch.corrcoef(drawn[:, [0, M - 1]].t())[0, 1]))
    assert abs(found[0]) < 0.1
    assert found[1] > 0.8
    target = estimators[1].target(mean, std, frames, frames)
    likelihoods = [float(e.unconditional().expand(4000).log_prob(target).mean()) for e in estimators]
    assert likelihoods[1] > likelihoods[0] + 0.5
    assert float(pit_error(estimators[1].unconditional().expand(4000).cdf(target))) < 0.05


def test_crps_of_a_gaussian_is_the_closed_form():
    model = StatisticsMixture(torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    for value in (0.0, 1.0):
        density = math.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)
        below = 0.5 * (1 + math.erf(value / math.sqrt(2)))
        exact = value * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi)
        estimate = model.crps(torch.full((1, 1), value), 4000, torch.Generator().manual_seed(0))
        assert float(estimate) == pytest.approx(exact, abs=0.03)


def test_target_inverts():
    mean, source = torch.randn(2, 7, M)
    std = torch.rand(7, M)
    std[0] = 0
    back = target_statistics(statistics_target(mean, std, source), source)
    torch.testing.assert_close(back[0], mean)
    torch.testing.assert_close(back[1], std, atol=1e-5, rtol=1e-4)
    assert statistics_target(mean, std, source).isfinite().all()


@pytest.mark.parametrize("hint", [False, True])
def test_every_input_matters_and_missing_history_is_ignored(windows, hint):
    estimator = build_estimator(hint=hint).eval()
    torch.nn.init.normal_(estimator.head.weight, std=0.3)
    batch = windows(4)
    previous = torch.rand(4, 2, M)
    values = [batch.audio, batch.appearance, batch.source_motion, batch.motion[:, 0], previous]
    has = torch.ones(4, dtype=torch.bool)
    base = estimator(*values, has).means
    for i in range(5):
        other = list(values)
        other[i] = other[i] + torch.linspace(0, 1, other[i].shape[-1])
        assert torch.allclose(estimator(*other, has).means, base) is (i == 3 and not hint)
    assert not torch.allclose(estimator(*values, ~has).means, base)
    later = [*values[:4], values[4] + 1]
    assert torch.equal(estimator(*later, ~has).means, estimator(*values, ~has).means)


def test_training_beats_the_unconditional_gaussian(trainer, loader, windows, tmp_path):
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    module = MotionStatisticsModule(build_estimator(), MotionBasis(M), optimizer, warmup_cosine)
    run = trainer(max_epochs=15)
    run.fit(module, loader(windows(256, 0), 32))
    figures = run.validate(module, loader(windows(128, 1), 32), verbose=False)[0]
    assert figures["val/nll"] < figures["val/nll_unconditional"] - 0.5
    assert figures["val/crps"] < 0.8 * figures["val/crps_unconditional"]
    assert figures["val/pit_error"] < 0.1
    # Louder speech, more motion.
    batch = windows(64, 2)
    with torch.no_grad():
        found = module.eval().predict(batch)
    likeliest = found.means[torch.arange(64), found.logits.argmax(dim=1)]
    estimate = target_statistics(likeliest, batch.source_motion)[1].mean(1)
    assert torch.corrcoef(torch.stack([estimate, batch.motion.std(1).mean(1)]))[0, 1] > 0.9
    path = tmp_path / "module.ckpt"
    run.save_checkpoint(path)
    fresh = MotionStatisticsModule(build_estimator(), MotionBasis(M), optimizer)
    fresh.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    assert torch.equal(fresh.network.target_mean, module.network.target_mean)


def test_with_a_hint_statistics_are_such_as_a_window_can_have():
    estimator, hint = build_estimator(hint=True), torch.zeros(3, M)
    stds = torch.linspace(0.1, 2, 1001)[:, None].expand(-1, M)
    estimator.fit(torch.randn(1001, M), stds, *torch.randn(2, 1001, M))
    possible = 0.3 * torch.ones(3, M), 0.5 * torch.ones(3, M)
    back = estimator.statistics(estimator.target(*possible, hint + 9, hint), hint + 9, hint)
    torch.testing.assert_close(back, possible)
    wild = torch.cat([torch.full((3, M), 50.0), torch.full((3, M), 5.0)], dim=1)
    mean, std = estimator.statistics(wild, hint + 9, hint)
    assert 1.9 < std.max() < 2
    assert 4.5 < mean.max() < 5.1
    assert estimator.statistics(-wild, hint + 9, hint)[1].min() > 0.1


def test_a_portrait_far_from_all_others_moves_no_more_than_they_do():
    """How much faces move here goes with where they are; only means are told on by that, or it would go on without end."""
    estimator, source = build_estimator(hint=True), torch.randn(1001, M)
    estimator.fit(0.8 * source, (0.2 * source).exp(), source, source)
    usual = estimator.target_mean[None].expand(2, -1)
    portraits = torch.stack([torch.zeros(M), 3 * torch.ones(M)])
    mean, std = estimator.statistics(usual, portraits, portraits)
    torch.testing.assert_close(std[0], std[1])
    assert (portraits - mean)[1].min() > 0.3  # back to where most are


def test_std_quantiles():
    estimator = build_estimator()
    std = torch.rand(1000, M)
    estimator.fit(torch.randn(1000, M), std, *torch.randn(2, 1000, M))
    torch.testing.assert_close(estimator.std_quantile(0.5), std.median(0).values, atol=0.01, rtol=0)
    torch.testing.assert_close(estimator.std_quantile(1.0), std.max(0).values)
    with pytest.raises(ValueError, match="outside"):
        estimator.std_quantile(1.5)
