"""Stage 1: structure of the network, its losses, and how it trains."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from lightning_modules.losses.reconstruction import gradient_l1, landmark_flow_l1, pyramid_l1, region_weights
from lightning_modules.motion_autoencoder import MotionAutoencoderModule, trainable_parts
from lightning_modules.networks.discriminator import Discriminator
from lightning_modules.networks.layers import ModulatedConv, blur_pool, identity_grid, warp
from lightning_modules.networks.lifting import lift
from lightning_modules.networks.paper_renderer import (
    MotionTemplates,
    PaperRenderer,
    repeat_code,
    scale_list,
)

CHANNELS = {4: 16, 8: 16, 16: 12, 32: 8}


def small(**options) -> PaperRenderer:
    torch.manual_seed(0)
    return PaperRenderer(32, CHANNELS, latent_dim=32, motion_dim=6, **options)


def pictures(count: int = 2, size: int = 32) -> torch.Tensor:
    """Smooth random pictures in [-1, 1]."""
    torch.manual_seed(1)
    return F.interpolate(
        torch.rand(count, 3, 8, 8) * 2 - 1, size=size, mode="bicubic", align_corners=False
    ).clamp(-1, 1)


def test_templates_are_orthonormal_and_their_span_is_the_parameters():
    templates = MotionTemplates(64, 20)
    directions = templates.directions()
    assert torch.allclose(directions.t() @ directions, torch.eye(20), atol=1e-5)
    projected = directions @ directions.t() @ templates.weight
    assert torch.allclose(projected, templates.weight, atol=1e-4)


def test_template_signs_do_not_flip_between_uses():
    templates = MotionTemplates(32, 5)
    before = templates.directions().detach()
    with torch.no_grad():
        templates.weight += 1e-4 * torch.randn_like(templates.weight)
    assert (before * templates.directions()).sum(0).min() > 0.99


def test_warp_by_zero_is_the_identity_and_by_a_pixel_is_a_shift():
    x = pictures()
    assert torch.allclose(warp(x, torch.zeros(2, 2, 32, 32)), x, atol=1e-5)
    flow = torch.zeros(2, 2, 32, 32)
    flow[:, 0] = 2 / 31  # corner-aligned: the width 2 spans 31 pixel steps
    assert torch.allclose(warp(x, flow)[..., :-1], x[..., 1:], atol=1e-4)


def test_identity_grid_runs_from_corner_to_corner():
    grid = identity_grid(3, 5)
    assert grid[0, 0, 0].tolist() == [-1, -1]
    assert grid[0, -1, -1].tolist() == [1, 1]


def test_modulated_conv_equals_one_kernel_per_sample():
    torch.manual_seed(0)
    conv = ModulatedConv(5, 7, 3, 11)
    x, latent = torch.randn(2, 5, 8, 8), torch.randn(2, 11)
    style = conv.style(latent)
    for i in range(2):
        kernel = conv.weight * conv.scale * style[i][None, :, None, None]
        kernel = kernel * torch.rsqrt(kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        expected = F.conv2d(x[i : i + 1], kernel, conv.bias, padding=1)
        assert torch.allclose(conv(x, latent)[i : i + 1], expected, atol=1e-5)


def test_blur_pool_halves_and_keeps_constants_inside():
    halved = blur_pool(torch.full((1, 2, 8, 8), 3.0))
    assert halved.shape == (1, 2, 4, 4)
    assert torch.allclose(halved[..., 1:-1, 1:-1], torch.tensor(3.0))


def test_an_untrained_model_with_pixel_skip_copies_the_source():
    model = small(source_skip=True, rgb_input="blend")
    source, driving = pictures().split(1)
    decoded = model(source, driving)
    assert torch.allclose(decoded.warped, source, atol=1e-5)
    assert (decoded.flow == 0).all()
    assert torch.allclose(decoded.frame, source, atol=1e-5)


def test_the_coarse_grid_moves_pixels_and_paints_by_motion():
    model = small(source_skip=True, rgb_input="blend", coarse_flow=8)
    frames = pictures(2)
    code = model.encode(frames[:1])
    start = model.decode(code, model.motion(frames[1:]))
    assert torch.allclose(start.frame, frames[:1], atol=1e-5)
    nn.init.normal_(model.coarse.layers[-1].weight, std=0.5)
    nn.init.normal_(model.scales[-1].to_rgb.weight, std=0.1)
    calm, lively = (model.decode(code, code.motion + shift) for shift in (0.0, 0.5))
    assert (lively.flow - calm.flow).abs().max() > 1e-3
    assert ((lively.frame - lively.warped) - (calm.frame - calm.warped)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [{}, {"rgb_input": "blend"}, {"source_skip": True}, {"mouth_painter": 8}, {"refine_channels": 8}],
)
def test_every_option_gives_a_frame_that_depends_on_driving_and_trains(options):
    model = small(**options)
    nn.init.normal_(model.scales[-1].to_rgb.weight)  # starts at zero behind the pixel skip
    frames = pictures(4)
    decoded = model(frames[:2], frames[2:])
    assert decoded.frame.shape == (2, 3, 32, 32)
    decoded.frame.square().mean().backward()
    assert model.templates.weight.grad.abs().sum() > 0
    if "mouth_painter" in options:
        assert model.mouth_painter.paint.weight.grad.abs().sum() > 0
    if "refine_channels" in options:
        assert model.refine.net[-1].weight.grad.abs().sum() > 0


def test_options_change_the_output():
    frames = pictures(2)
    outputs = [
        small(**o)(frames[:1], frames[1:]).frame for o in ({}, {"rgb_input": "blend"}, {"source_skip": True})
    ]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_decoding_with_a_cached_code_equals_the_whole_pass():
    model = small(source_skip=True).eval()
    with torch.no_grad():
        model.scales[-1].to_flow.weight.normal_()
        frames = pictures(4)
        code = model.encode(frames[:1])
        motion = model.motion(frames[1:])
        batched = model.decode(repeat_code(code, 3), motion).frame
        one_by_one = torch.cat([model(frames[:1], frames[i : i + 1]).frame for i in (1, 2, 3)])
    assert torch.allclose(batched, one_by_one, atol=1e-5)


def test_motion_is_bounded_and_its_head_is_linear_before_tanh():
    model = small()
    motion = model.motion(pictures(3))
    assert motion.shape == (3, 6)
    assert motion.abs().max() < 1
    latent = torch.randn(2, 32)
    both = model.motion_head(latent.sum(0)) + model.motion_head(torch.zeros(32))
    assert torch.allclose(both, model.motion_head(latent[0]) + model.motion_head(latent[1]), atol=1e-5)
    assert model.motion_head[-1].bias is None


@pytest.mark.parametrize("size", [0, 8, 48, 100])
def test_sizes_other_than_powers_of_two_are_refused(size):
    with pytest.raises(ValueError, match="power of two"):
        scale_list(size)


def test_region_weights_lift_the_box_and_keep_the_mean():
    regions = torch.tensor([[[0.25, 0.5, 0.75, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    weights = region_weights(regions, 16, gain=7.0)
    assert torch.allclose(weights.mean((2, 3)), torch.ones(2, 1), atol=1e-6)
    assert weights[0, 0, 12, 8] / weights[0, 0, 0, 0] == pytest.approx(8.0)
    assert torch.allclose(weights[1], torch.ones(1, 16, 16))


def test_pyramid_of_one_level_is_plain_l1_and_losses_vanish_at_the_target():
    a, b = pictures(2).split(1)
    ones = torch.ones(1, 1, 32, 32)
    assert pyramid_l1(a, b, ones, 1) == pytest.approx(F.l1_loss(a, b).item(), rel=1e-5)
    assert pyramid_l1(a, a, ones) == 0
    assert gradient_l1(a, a + 0.3, ones) == pytest.approx(0, abs=1e-6)
    assert gradient_l1(a, b, ones) > 0


def test_landmark_flow_is_zero_for_the_true_flow_and_leads_there():
    source, driving = torch.rand(1, 1, 9, 2) * 0.5 + 0.25, torch.tensor([0.1, -0.05])
    landmarks = torch.cat([source, source + driving], dim=1)
    exact = (-driving * 2 * 32 / 31)[None, :, None, None].expand(1, 2, 32, 32).clone()
    assert landmark_flow_l1(exact, landmarks) < 1e-5
    flow = torch.zeros(1, 2, 32, 32, requires_grad=True)
    landmark_flow_l1(flow, landmarks).backward()
    assert flow.grad[:, 0].sum() > 0  # a step against the gradient moves towards ``exact``
    assert flow.grad[:, 1].sum() < 0


class FakeTrainer:
    """Just enough of Lightning to step a module by hand."""

    def __init__(self, module: MotionAutoencoderModule, monkeypatch) -> None:
        self.optimizers = module.configure_optimizers()
        monkeypatch.setattr(module, "optimizers", lambda: self.optimizers)
        monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
        monkeypatch.setattr(module, "log", lambda *a, **k: None)
        monkeypatch.setattr(module, "log_dict", lambda *a, **k: None)
        monkeypatch.setattr(module, "clip_gradients", lambda *a, **k: None)


def adam(lr: float = 1e-3):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.99))


def batch() -> FramePairBatch:
    frames = pictures(4)
    return FramePairBatch(
        frames[:2],
        frames[2:],
        torch.tensor([[[0.2, 0.5, 0.8, 0.9]] * 3] * 2),
        torch.zeros(2, 2, 0, 2),
        torch.zeros(2, 2, 0),
    )


def test_training_overfits_a_pair(monkeypatch):
    module = MotionAutoencoderModule(
        small(source_skip=True, rgb_input="blend"),
        adam(3e-3),
        gan_weight=0,
        warp_weight=0.5,
        gradient_weight=0.5,
    )
    FakeTrainer(module, monkeypatch)
    first = module.measure(batch())[1]["loss"].item()
    for _ in range(60):
        module.training_step(batch(), 0)
    assert module.measure(batch())[1]["loss"].item() < 0.7 * first
    assert int(module.steps) == 60


def with_painter(mouth_weight: float = 2.0) -> MotionAutoencoderModule:
    torch.manual_seed(0)
    return MotionAutoencoderModule(small(mouth_painter=8), adam(), gan_weight=0, mouth_weight=mouth_weight)


def test_the_mouth_weighs_by_its_own_box_and_places_the_painter():
    module, pair = with_painter(), batch()
    nn.init.constant_(module.network.mouth_painter.place.bias, 0.3)  # away from where the boxes are
    losses = module.measure(pair)[1]
    module.hparams["mouth_weight"] = 1.0
    lighter = module.measure(pair)[1]
    assert (losses["loss"] - lighter["loss"]).item() == pytest.approx(
        (losses["mouth"] + losses["place"]).item(), rel=1e-4
    )
    losses["loss"].backward()
    assert module.network.mouth_painter.place.weight.grad.abs().sum() > 0
    with torch.no_grad():
        module.network.mouth_painter.place.weight[:, 0] = 1.0
    found = module.network.mouth_painter.centre(module.network.motion(pair.driving))
    assert module.measure(pair)[1]["place"].item() == pytest.approx(
        (found - torch.tensor([0.5, 0.7])).abs().mean().item(), rel=1e-4
    )


def test_pictures_without_a_box_and_boxes_of_eyes_do_not_matter_to_the_mouth():
    module, pair = with_painter(), batch()
    losses = module.measure(pair)[1]
    boxless = module.measure(pair._replace(regions=torch.zeros(2, 3, 4)))[1]
    assert boxless["mouth"] == boxless["place"] == 0
    boxes = pair.regions.clone()
    boxes[:, 1:] = torch.tensor([0.0, 0.0, 0.1, 0.1])
    assert torch.equal(module.measure(pair._replace(regions=boxes))[1]["mouth"], losses["mouth"])
    one = pair.regions * torch.tensor([1.0, 0.0])[:, None, None]
    alone = type(pair)(*(field[:1] for field in pair))
    module.eval()  # without batch statistics a picture is rendered alike alone and among others
    assert module.measure(pair._replace(regions=one))[1]["mouth"].item() == pytest.approx(
        module.measure(alone)[1]["mouth"].item(), rel=1e-3
    )


def test_a_painter_that_would_never_find_the_mouth_is_refused():
    with pytest.raises(ValueError, match="mouth_weight"):
        with_painter(mouth_weight=0.0)


def test_gan_joins_at_its_step_and_trains_the_discriminator_alone_on_its_loss(monkeypatch):
    discriminator = Discriminator(32, CHANNELS)
    module = MotionAutoencoderModule(small(), adam(), discriminator, adam(), gan_start=1)
    FakeTrainer(module, monkeypatch)
    before = [p.clone() for p in discriminator.parameters()]
    module.training_step(batch(), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
    module.training_step(batch(), 1)
    assert not all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
    assert "adversarial" in module.measure(batch(), gan=True)[1]


@pytest.mark.parametrize("part", ["outer", "decoder", "refine"])
def test_partial_training_moves_only_that_part(part, monkeypatch):
    module = MotionAutoencoderModule(
        small(source_skip=True, mouth_painter=8, refine_channels=4),
        adam(),
        gan_weight=0,
        mouth_weight=1.0,
        trainable=part,
    )
    FakeTrainer(module, monkeypatch)
    wanted = {
        id(p)
        for m in trainable_parts(module.network, part)
        for p in (m.parameters() if isinstance(m, nn.Module) else [m])
    }
    before = {n: p.clone() for n, p in module.network.named_parameters()}
    assert (id(module.network.mouth_painter.paint.weight) in wanted) == (part != "refine")
    module.training_step(batch(), 0)
    for name, parameter in module.network.named_parameters():
        if id(parameter) not in wanted:
            assert torch.equal(before[name], parameter), name
    assert any(not torch.equal(before[n], p) for n, p in module.network.named_parameters())


def test_learning_rate_rises_then_falls():
    module = MotionAutoencoderModule(small(), adam(), warmup=10, total_steps=100)
    factors = [module.learning_rate_factor(s) for s in (0, 9, 10, 55, 100, 1000)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[1] == factors[2] == pytest.approx(1.0)
    assert factors[3] == pytest.approx(0.525, abs=0.01)
    assert factors[4] == factors[5] == pytest.approx(0.05)


def test_a_lifted_model_renders_what_the_small_one_does():
    torch.manual_seed(3)
    small_model = small(source_skip=True, rgb_input="blend").eval()
    with torch.no_grad():
        for scale in small_model.scales:
            scale.to_flow.weight.normal_(std=0.3)
    large = PaperRenderer(64, CHANNELS | {64: 6}, 32, 6, source_skip=True, rgb_input="blend").eval()
    lift(small_model, large)
    with torch.no_grad():
        frames = pictures(4, 64)
        reduced = blur_pool(frames)
        inside = large.encoder(frames)[1][-2], small_model.encoder(reduced)[1][-1]
        assert torch.allclose(inside[0][..., 2:-2, 2:-2], inside[1][..., 2:-2, 2:-2], atol=0.1)
        assert torch.allclose(large.motion(frames), small_model.motion(reduced), atol=0.1)
        flow = large(frames[:2], frames[2:]).flow
        expected = small_model(reduced[:2], reduced[2:]).flow
        assert torch.corrcoef(torch.stack([F.avg_pool2d(flow, 2).flatten(), expected.flatten()]))[0, 1] > 0.95


def test_a_lifted_painter_knows_its_place_and_paints_nothing_yet():
    small_model = small(mouth_painter=8)
    nn.init.normal_(small_model.mouth_painter.paint.weight)
    nn.init.normal_(small_model.mouth_painter.place.weight)
    large = PaperRenderer(64, CHANNELS | {64: 6}, 32, 6, mouth_painter=8)
    lift(small_model, large)
    motion = torch.rand(3, 6)
    assert torch.equal(large.mouth_painter.centre(motion), small_model.mouth_painter.centre(motion))
    assert (large.mouth_painter.paint.weight == 0).all()


def test_models_that_do_not_fit_are_not_lifted():
    with pytest.raises(ValueError, match="64 px"):
        lift(small(), small())
    with pytest.raises(ValueError, match="differ inside"):
        lift(small(), PaperRenderer(64, dict.fromkeys((4, 8, 16, 32, 64), 8), 32, 6))
