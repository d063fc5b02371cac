"""Switches of the networks that ablations turn: off, what they name is gone, and nothing else."""

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.diffusion.guidance import CFGDenoiser
from lightning_modules.networks.audio_encoder import FeatureProjection
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.layers import upsample
from lightning_modules.networks.motion_basis import fit_raw_basis
from lightning_modules.networks.motion_conditions import KeepMask
from lightning_modules.networks.paper_renderer import PaperRenderer

T = 8


def transformer(**switches) -> DiffusionTransformer:
    torch.manual_seed(0)
    network = DiffusionTransformer(FeatureProjection(6, 4), 3, 16, 2, 2, window=T, **switches)
    for parameter in network.parameters():  # behind zeros nothing would be heard
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, T, 3), (2, 2 * T, 6), (2, 3), (2, 3), (2, 3))
    noisy, *rest = (torch.randn(shape, generator=generator) for shape in shapes)
    return noisy, torch.tensor([0.3, 0.7]), *rest


def test_without_framewise_audio_its_order_is_not_heard() -> None:
    noisy, t, audio, *conditions = inputs()
    for switches, hears in (
        ({}, True),
        ({"audio_conditioning": "mean"}, True),  # by the joined branch
        ({"joined_branch": False}, True),
        ({"audio_conditioning": "mean", "joined_branch": False}, False),
        ({"audio_conditioning": "cross_attention", "joined_branch": False}, True),
    ):
        network = transformer(**switches)
        out = network(noisy, t, audio, *conditions)
        turned = network(noisy, t, audio.flip(1), *conditions)
        assert torch.allclose(out, turned, atol=1e-5) is not hears
        assert not torch.allclose(out, network(noisy, t, audio + 1, *conditions), atol=1e-3)


@pytest.mark.parametrize("how", ["framewise", "mean", "cross_attention"])
def test_dropped_audio_is_not_heard_and_guidance_acts(how: str) -> None:
    noisy, t, audio, *conditions = inputs()
    network = transformer(audio_conditioning=how, joined_branch=False)
    keep = KeepMask.all(2).without_audio()
    out = [network(noisy, t, sound, *conditions, keep) for sound in (audio, audio.flip(0))]
    assert torch.equal(*out)
    plain, guided = (CFGDenoiser(network, audio, *conditions, audio_scale=s)(noisy, t) for s in (1.0, 2.0))
    assert torch.allclose(guided, 2 * plain - out[0], atol=1e-4)


def test_defaults_have_the_weights_of_before() -> None:
    names = set(transformer().state_dict())
    assert not any("listen" in name for name in names)
    gone = names - set(transformer(joined_branch=False).state_dict())
    assert {name.split(".")[0] for name in gone} == {"joined_motion_embedding", "joined_mlp"}
    assert set(transformer(audio_conditioning="mean").state_dict()) == names
    with pytest.raises(ValueError, match="no audio conditioning named 'loud'"):
        transformer(audio_conditioning="loud")


@pytest.mark.parametrize("null", ["mask", "zero"])
def test_joined_branch_with_an_encoder_of_its_own_hears_by_that_alone(null: str) -> None:
    noisy, t, audio, *conditions = inputs()
    network = transformer(own_joined_audio=True, null_condition=null)
    assert network.joined_audio_encoder is not None
    before = network.embed(audio, *conditions)
    torch.nn.init.normal_(network.joined_audio_encoder.projection.weight)
    after = network.embed(audio, *conditions)
    assert torch.equal(before.modulation, after.modulation)
    assert not torch.allclose(before.joined, after.joined, atol=1e-3)
    keep = KeepMask.all(2).without_audio()
    silent = [network(noisy, t, sound, *conditions, keep) for sound in (audio, audio.flip(0))]
    assert torch.equal(*silent)


@pytest.mark.parametrize("local", [True, False])
def test_without_local_flow_the_finest_flow_is_a_coarse_one(local: bool) -> None:
    torch.manual_seed(0)
    network = PaperRenderer(64, dict.fromkeys((4, 8, 16, 32, 64), 8), 32, 5, local_flow=local)
    for scale in network.scales:
        torch.nn.init.normal_(scale.to_flow.weight)
    source = network.encode(torch.rand(1, 3, 64, 64) * 2 - 1)
    out = network.decode(source, torch.rand(1, 5) - 0.5)
    coarse = F.avg_pool2d(torch.atanh(out.flow.double().clamp(-1 + 1e-9, 1 - 1e-9)), 4)
    error = (upsample(upsample(coarse.float())).tanh() - out.flow)[..., 8:-8, 8:-8].abs().mean()
    assert (error < 0.02) is not local
    assert out.mask.std() > 0


def test_the_raw_basis_is_standardised_and_keeps_the_coefficients_apart() -> None:
    motion = 0.1 * torch.randn(100, 4) @ torch.randn(4, 4) + 0.3
    basis = fit_raw_basis(motion)
    coordinates = basis.encode(motion)
    assert torch.allclose(coordinates.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(coordinates.std(0), torch.ones(4), atol=1e-5)
    assert torch.allclose(basis.decode(coordinates), motion, atol=1e-6)
    assert torch.equal(basis.matrix, torch.diag(basis.matrix.diagonal()))
    assert basis.blocks == {}
    with pytest.raises(ValueError, match="too few"):
        fit_raw_basis(torch.randn(15, 4))
