import functools
import itertools

import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.guidance import CFGDenoiser
from lightning_modules.learning_rate import warmup_cosine
from lightning_modules.motion_diffusion import (
    MOST_OF_EVENTS,
    MotionDiffusionModule,
    dropout_probabilities,
    encode_window,
    random_keep,
)
from lightning_modules.networks.audio_encoder import FeatureProjection
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_basis import MotionBasis
from lightning_modules.networks.motion_conditions import CONDITION_TOKENS, KeepMask
from lightning_modules.networks.statistics_estimator import window_statistics

M, D = 6, 10


def build_network(awake=True, **options):
    """A tiny transformer; ``awake`` fills the zero-initialised layers so that everything has an effect."""
    torch.manual_seed(0)
    settings = {"motion_dim": M, "width": 32, "depth": 2, "heads": 2}
    network = DiffusionTransformer(FeatureProjection(D, 16), **settings | options).eval()
    if awake:
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return network


def inputs(batch=2, frames=64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(batch, *shape, generator=generator)

    return {
        "noisy": draw(frames, M),
        "t": torch.full((batch,), 0.4),
        "audio": draw(2 * frames, D),
        "hint": draw(M),
        "mean": draw(M),
        "std": draw(M).abs(),
    }


@pytest.fixture
def windows(motion_windows):
    """Eight windows of motion that follows the audio, so that there is something to learn."""
    audio = torch.randn(8, 128, D, generator=torch.Generator().manual_seed(0))
    audio = torch.nn.functional.avg_pool1d(audio.transpose(1, 2), 9, 1, 4).transpose(1, 2) * 3
    frames = audio.unflatten(1, (64, 2)).mean(2)[..., :M]
    return motion_windows(torch.cat([frames[:, :1], frames], 1), audio)


def build_module(diffusion=None, awake=False, network=None, **options):
    diffusion = diffusion or GaussianDiffusion()
    network = build_network(awake, learned_variance=diffusion.learned_variance, **network or {})
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    scheduler = functools.partial(warmup_cosine, warmup_steps=5)
    return MotionDiffusionModule(network, MotionBasis(M), diffusion, optimizer, scheduler, **options)


def test_starts_as_zero():
    assert not build_network(awake=False)(**inputs()).any()


def test_audio_modulation_is_framewise():
    """Without attention a frame's output depends on that frame's two audio vectors alone."""
    network = build_network()
    for block in network.blocks:
        torch.nn.init.zeros_(block.out.weight)
    values = inputs(batch=1)
    values["audio"].requires_grad_()
    network(**values)[0, 20].square().sum().backward()
    touched = values["audio"].grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert touched == [40, 41]


def test_both_audio_paths_are_used():
    values = inputs()
    for branch in ("modulation_audio", "joined_audio", "joined_motion"):
        network = build_network()
        keep = KeepMask.all(2)
        dropped = keep._replace(**{branch: torch.zeros(2, dtype=torch.bool)})
        assert not torch.allclose(network(**values, keep=keep), network(**values, keep=dropped)), branch


def test_dropping_is_per_sample():
    network = build_network()
    values = inputs()
    half = KeepMask(*(torch.tensor([True, False]) for _ in KeepMask._fields))
    out = network(**values, keep=half)
    torch.testing.assert_close(out[0], network(**values)[0])
    nothing = KeepMask(*(torch.zeros(2, dtype=torch.bool) for _ in KeepMask._fields))
    torch.testing.assert_close(out[1], network(**values, keep=nothing)[1])


def test_std_zero_is_continuous_and_only_with_mask_differs_from_dropped():
    values = inputs()
    zero = values | {"std": torch.zeros(2, M)}
    dropped = KeepMask.all(2)._replace(std=torch.zeros(2, dtype=torch.bool))
    for null in ("mask", "zero"):
        network = build_network(null_condition=null)
        near = [network(**values | {"std": torch.full((2, M), small)}) for small in (1e-3, 1e-4)]
        gaps = [float((out - network(**zero)).detach().abs().max()) for out in near]
        assert gaps[1] < 0.2 * gaps[0] < 0.01
        assert torch.allclose(network(**zero), network(**zero, keep=dropped), atol=1e-6) == (null == "zero")


def test_statistic_tokens_get_no_time():
    network = build_network(depth=1)
    seen = []
    network.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    values = inputs()
    for t in (0.1, 0.9):
        network(**values | {"t": torch.full((2,), t)})
    assert torch.equal(seen[0][:, :3], seen[1][:, :3])
    assert not torch.allclose(seen[0][:, 3:], seen[1][:, 3:])


@pytest.mark.parametrize(
    "tokens", [t for count in range(4) for t in itertools.combinations(CONDITION_TOKENS, count)]
)
@pytest.mark.parametrize("null", ["mask", "zero"])
def test_conditions_that_the_network_has_matter_until_they_are_dropped(tokens, null):
    network = build_network(null_condition=null, tokens=tokens[::-1])
    values, nothing = inputs(), torch.zeros(2, dtype=torch.bool)
    output = network(**values)
    for name in (*CONDITION_TOKENS, "audio"):
        keep = KeepMask.all(2)
        keep = keep.without_audio() if name == "audio" else keep._replace(**{name: nothing})
        other = values | {name: values[name] + 1}
        for changed in (network(**other), network(**values, keep=keep)):
            assert torch.equal(output, changed) == (name not in (*tokens, "audio"))
        assert torch.equal(network(**values, keep=keep), network(**other, keep=keep))
    parameters = dict(network.named_parameters())
    assert all(value.numel() for value in parameters.values())
    assert ("condition_control" in parameters) == bool(tokens)


@pytest.mark.parametrize("audio_dropout", ["joint", "paper"])
def test_random_keep(audio_dropout):
    chosen = {"hint": 0.3, "mean": 0.3, "std": 0.6, "audio": 0.1}
    keep = random_keep(4000, chosen, audio_dropout, torch.Generator().manual_seed(0))
    dropped = [float((~mask).float().mean()) for mask in keep]
    assert dropped[:5] == pytest.approx([0.3, 0.3, 0.6, 0.1, 0.1], abs=0.03)
    both = (~keep.hint & ~keep.mean).float().mean()
    assert float(both) == pytest.approx(0.09, abs=0.02)  # each by itself
    assert torch.equal(keep.modulation_audio, keep.joined_audio) == (audio_dropout == "joint")
    assert bool(keep.joined_motion.all()) == (audio_dropout == "joint")


def test_every_parameter_learns():
    network = build_network(learned_variance=True)
    keep = KeepMask(*(torch.tensor([True, False]) for _ in KeepMask._fields))
    network(**inputs(), keep=keep).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_statistics_skip_invalid_frames():
    motion = torch.randn(3, 65, M)
    valid = torch.arange(64).expand(3, 64) < 20
    mean, std = window_statistics(motion, valid)
    torch.testing.assert_close(mean, motion[:, :21].mean(1))
    torch.testing.assert_close(std, motion[:, :21].std(1))
    torch.testing.assert_close(window_statistics(motion, torch.ones_like(valid))[1], motion.std(1))


def test_loss_ignores_invalid_frames_and_uses_the_basis(windows):
    module = build_module(awake=True, velocity_weight=1.0)
    valid = torch.arange(64).expand(8, 64) < 30
    window = encode_window(windows._replace(valid=valid), module.basis)
    t, noise = torch.full((8,), 0.5), torch.randn_like(window.x0)
    changed = window._replace(x0=window.x0.clone())
    changed.x0[:, 30:] += 5
    # Attention still sees invalid frames; with the same noisy input the loss must not.
    add_noise = module.diffusion.add_noise
    module.diffusion.add_noise = lambda x0, *rest: add_noise(window.x0, *rest)
    first, second = (module.losses(w, t, noise, None)["loss"] for w in (window, changed))
    torch.testing.assert_close(first, second)
    module.basis.mean.fill_(3.0)
    torch.testing.assert_close(encode_window(windows, module.basis).x0, windows.motion[:, 1:] - 3)


def test_loss_options_matter(windows):
    window = encode_window(windows, MotionBasis(M))
    t, noise = torch.linspace(0.1, 0.9, 8), torch.randn(8, 64, M)

    def loss(diffusion=None, **options):
        module = build_module(diffusion, awake=True, **options)
        return float(module.losses(window, t, noise, None)["loss"].detach())

    base = loss()
    assert loss(velocity_weight=1.0) > base
    assert loss(GaussianDiffusion(weighting="min_snr")) != base
    assert loss(GaussianDiffusion(target="v")) != base
    learned = GaussianDiffusion("linear", "epsilon", sampler="ancestral", learned_variance=True)
    assert loss(learned) > loss(learned, variational_weight=0.0)


def test_speech_that_is_read_teaches_the_audio_encoder_from_the_first_step(windows):
    """The last layer starts as zero, so that nothing else does."""

    def taught(**options):
        module = build_module(**options)
        window = module.encode(windows)
        noise = torch.randn(window.x0.shape, generator=torch.Generator().manual_seed(0))
        terms = module.losses(window, torch.full((len(noise),), 0.5), noise, None)
        terms["loss"].backward()
        gradients = [p.grad for p in module.network.audio_encoder.parameters() if p.grad is not None]
        return terms, max((float(one.abs().max()) for one in gradients), default=0.0)

    assert taught()[1] == 0
    terms, most = taught(speech_weight=2.0)
    assert most > 0
    torch.testing.assert_close(terms["loss"], terms["output"] + 2 * terms["speech"])


def with_blocks(module):
    """A basis of two coordinates of the head, one each of mouth and eyes, two of the rest."""
    module.basis.sizes.copy_(torch.tensor([2, 1, 1]))
    return module


def test_blocks_and_events_weigh_what_they_are_told_to(windows):
    window = encode_window(windows, MotionBasis(M))
    plain = with_blocks(build_module()).weights(window)
    assert plain == 1.0
    weighted = with_blocks(build_module(block_weights={"rest": 0.25, "mouth": 3.0})).weights(window)
    torch.testing.assert_close(weighted.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weighted / weighted[0], torch.tensor([1.0, 1.0, 3.0, 1.0, 0.25, 0.25]))
    lids = torch.zeros(8, 64, M)
    lids[:, 10, 3] = 1.5  # a blink, for one frame
    mean, std = torch.zeros(8, M), torch.ones(8, M)
    events = with_blocks(build_module(event_gains={"eyes": 2.0})).weights(
        window._replace(x0=lids, mean=mean, std=std)
    )
    assert events[0, 10, 3] == 1 + 2 * 1.5**2
    assert events.sum() == events.numel() + 8 * 2 * 1.5**2
    far = window._replace(x0=100 * lids, mean=mean, std=std)
    assert with_blocks(build_module(event_gains={"eyes": 2.0})).weights(far).max() == 1 + 2 * MOST_OF_EVENTS
    without = build_module(block_weights={"rest": 0.25}, event_gains={"eyes": 1.0})  # a basis without blocks
    assert without.weights(window) == 1.0


@pytest.mark.parametrize("values", [{"gaze": 1.0}, {"rest": -1.0}, {"rest": float("inf")}])
@pytest.mark.parametrize("setting", ["block_weights", "event_gains"])
def test_weights_of_unknown_blocks_or_below_zero_are_refused(setting, values):
    with pytest.raises(UserError, match=rf"{setting} (names 'gaze'|of rest is)"):
        build_module(**{setting: values})


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["velocity_weight", "speech_weight", "variational_weight"])
def test_weights_of_terms_below_zero_are_refused(name, weight):
    with pytest.raises(UserError, match=f"{name} is .*: use a number of at least 0"):
        build_module(**{name: weight})


def test_all_blocks_of_no_weight_are_refused():
    with pytest.raises(UserError, match="all block_weights are 0"):
        build_module(block_weights=dict.fromkeys(("head", "mouth", "eyes", "rest"), 0.0))


def test_a_block_of_no_weight_teaches_nothing(windows):
    module = with_blocks(build_module(awake=True, block_weights={"rest": 0.0}, velocity_weight=1.0))
    window = encode_window(windows, module.basis)
    t, noise = torch.full((8,), 0.5), torch.randn_like(window.x0)
    changed = window._replace(x0=window.x0.clone())
    changed.x0[..., 4:] += 5
    add_noise = module.diffusion.add_noise
    module.diffusion.add_noise = lambda x0, *rest: add_noise(window.x0, *rest)
    first, second = (module.losses(w, t, noise, None)["loss"] for w in (window, changed))
    torch.testing.assert_close(first, second)


def test_training_overfits_validates_and_reloads(trainer, loader, windows, tmp_path):
    from lightning.pytorch.callbacks import EMAWeightAveraging

    data = loader(type(windows)(*(value[:4] for value in windows)), 8, repeat=16)
    module = build_module(velocity_weight=0.5, condition_dropout=0.1)
    run = trainer(max_epochs=18, callbacks=[EMAWeightAveraging(decay=0.9, use_buffers=False)])
    before = run.validate(module, data, verbose=False)[0]
    again = run.validate(module, data, verbose=False)[0]
    assert before == again  # fixed times and noise
    run.fit(module, data)
    after = run.validate(module, data, verbose=False)[0]
    assert after["val/loss"] < 0.35 * before["val/loss"]
    assert after["val/sample_correlation_motion"] > 0.6
    assert after["val/sample_mse_motion"] < 0.5
    path = tmp_path / "module.ckpt"
    run.save_checkpoint(path)
    state = torch.load(path, weights_only=True)
    assert state["hyper_parameters"]["diffusion"] == module.diffusion.settings()
    assert state["hyper_parameters"]["condition_dropout"] == 0.1
    fresh = build_module()
    fresh.load_state_dict(state["state_dict"])
    torch.testing.assert_close(fresh.network(**inputs()), module.network(**inputs()))


def test_unknown_and_disagreeing_settings_are_refused():
    with pytest.raises(ValueError, match="'gaze'"):
        build_network(tokens=["hint", "gaze"])
    other = GaussianDiffusion(learned_variance=True)
    with pytest.raises(UserError, match="learned_variance"):
        MotionDiffusionModule(build_network(), MotionBasis(M), other, torch.optim.AdamW)
    with pytest.raises(UserError, match="audio_dropout"):
        build_module(audio_dropout="none")
    for wrong in ({"hint": 0.1}, {"hint": 0, "mean": 0, "std": 0, "audio": 0, "gaze": 0}, 1.5, -0.1):
        with pytest.raises(UserError, match="condition_dropout"):
            build_module(condition_dropout=wrong)
    assert dropout_probabilities(0.2) == {"hint": 0.2, "mean": 0.2, "std": 0.2, "audio": 0.2}


@pytest.mark.parametrize(("audio_scale", "statistics_scale"), [(1, 1), (0, 1), (1, 3), (2, 1.5)])
def test_guided_denoiser_is_the_formula(audio_scale, statistics_scale):
    network = build_network(learned_variance=True)
    v, keep = inputs(), KeepMask.all(2)
    conditions = v["audio"], v["hint"], v["mean"], v["std"]
    out = CFGDenoiser(network, *conditions, audio_scale, statistics_scale)(v["noisy"], v["t"])
    full = network(**v)
    expected = full[..., :M].clone()
    for scale, mask in ((audio_scale, keep.without_audio()), (statistics_scale, keep.without_statistics())):
        expected += (scale - 1) * (full - network(**v, keep=mask))[..., :M]
    torch.testing.assert_close(out[..., :M], expected)
    torch.testing.assert_close(out[..., M:], full[..., M:])


def test_a_prefix_stands_in_front_of_the_window_and_what_is_not_known_of_it_counts_nothing():
    network = build_network(prefix=4, awake=True).eval()
    v = inputs(frames=64)
    audio = torch.randn(2, 2 * 72, D, generator=torch.Generator().manual_seed(1))
    prefix = torch.randn(2, 4, M, generator=torch.Generator().manual_seed(2))

    def out(hint, audio=audio, keep=None):
        return network(v["noisy"], v["t"], audio, hint, v["mean"], v["std"], keep)

    whole = out(prefix)
    assert whole.shape == (2, 64, M)
    for place in range(4):  # each of its frames is heard and seen
        moved, spoken = prefix.clone(), audio.clone()
        moved[:, place] += 1
        spoken[:, 2 * place] += 1
        assert not torch.allclose(out(moved), whole)
        assert not torch.allclose(out(prefix, spoken), whole)
    unknown, other = prefix.clone(), prefix.clone()
    unknown[:, :3], other[:, :3] = torch.nan, torch.nan
    other[:, 3] += 1
    assert out(unknown).isfinite().all()
    assert not torch.allclose(out(unknown), whole)
    assert not torch.allclose(out(unknown), out(other))
    dropped = KeepMask.all(2)._replace(hint=torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(out(prefix, keep=dropped), out(torch.full_like(prefix, torch.nan)))
    assert network.tokens == ("mean", "std")
    assert (
        build_network(tokens=["mean", "std"], prefix=4).prefix == 0
    )  # without a hint nothing is before the window


@pytest.mark.parametrize("standardised", [False, True])
def test_windows_with_a_prefix_train_and_know_what_was_before(windows, standardised):
    diffusion = GaussianDiffusion(standardised=standardised)
    module = build_module(diffusion, True, {"prefix": 4}, velocity_weight=1.0)
    window = module.encode(windows)
    assert window.audio.shape == (8, 2 * 72, D)
    torch.testing.assert_close(window.audio[:, 8:-8], windows.audio)
    known = window.hint.isfinite().all(dim=-1)
    assert known.tolist() == [[True] * 4, [False] * 3 + [True]] * 4
    module.losses(window, torch.full((8,), 0.5), torch.randn(8, 64, M), None)["loss"].backward()
    assert module.network.null_prefix.grad.any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.network.parameters())


def test_statistics_may_modulate_every_frame():
    network, v = build_network(statistics_modulation=True, tokens=["mean", "std"]), inputs()
    for block in network.blocks:  # frames don't hear tokens now
        torch.nn.init.zeros_(block.modulation.weight)
        torch.nn.init.zeros_(block.modulation.bias)
    base = network(**v)
    for name, mask in (("mean", "mean"), ("std", "std")):
        changed = network(**v | {name: v[name] + 1})
        assert (changed - base).abs().amax(dim=(0, 2)).min() > 1e-4
        keep = KeepMask.all(2)._replace(**{mask: torch.zeros(2, dtype=torch.bool)})
        assert torch.equal(network(**v, keep=keep), network(**v | {name: v[name] + 1}, keep=keep))
        alone = build_network(
            statistics_modulation=True, tokens=[one for one in ("mean", "std") if one != name]
        )
        assert torch.equal(
            alone(**v), alone(**v | {name: v[name] + 1})
        )  # it isn't told what it isn't asked for
