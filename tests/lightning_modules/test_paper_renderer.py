"""The paper's renderer: its layers, its options, and models lifted to twice the size."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_modules.networks.base_renderer import SourceEncoding
from lightning_modules.networks.layers import ModulatedConv, blur_pool, identity_grid, warp
from lightning_modules.networks.motion_templates import MotionTemplates
from lightning_modules.networks.paper_renderer import PaperRenderer
from lightning_modules.networks.progressive_growing import grow

CHANNELS = {4: 16, 8: 16, 16: 12, 32: 8}


def small(**options) -> PaperRenderer:
    torch.manual_seed(0)
    return PaperRenderer(32, CHANNELS, latent_dim=32, motion_dim=6, **options)


def pictures(count: int = 2, size: int = 32) -> torch.Tensor:
    """Smooth random pictures in [-1, 1]."""
    torch.manual_seed(1)
    return F.interpolate(torch.rand(count, 3, 8, 8) * 2 - 1, size=size, mode="bicubic").clamp(-1, 1)


def test_templates_are_orthonormal_and_their_span_is_the_parameters():
    templates = MotionTemplates(64, 20)
    directions = templates.directions()
    assert torch.allclose(directions.t() @ directions, torch.eye(20), atol=1e-5)
    projected = directions @ directions.t() @ templates.weight
    assert torch.allclose(projected, templates.weight, atol=1e-4)
    with torch.no_grad():
        templates.weight += 1e-4 * torch.randn_like(templates.weight)
    assert (directions * templates.directions()).sum(0).min() > 0.99  # no sign flips between two uses


def test_warp_by_zero_is_the_identity_and_by_a_pixel_is_a_shift():
    grid = identity_grid(3, 5)
    assert [grid[0, 0, 0].tolist(), grid[0, -1, -1].tolist()] == [[-1, -1], [1, 1]]
    x = pictures()
    assert torch.allclose(warp(x, torch.zeros(2, 2, 32, 32)), x, atol=1e-5)
    flow = torch.zeros(2, 2, 32, 32)
    flow[:, 0] = 2 / 31  # corner-aligned: the width 2 spans 31 pixel steps
    assert torch.allclose(warp(x, flow)[..., :-1], x[..., 1:], atol=1e-4)


def test_a_flow_that_is_nan_ends_no_process_and_shows_in_the_gradients(monkeypatch: pytest.MonkeyPatch):
    sample = F.grid_sample

    def checked(x: torch.Tensor, grid: torch.Tensor, **options):
        assert grid.isfinite().all()  # else the backward pass writes anywhere
        return sample(x, grid, **options)

    monkeypatch.setattr(F, "grid_sample", checked)
    model, frames = small(source_skip=True), pictures(4)
    for scale in (model.scales[0], model.scales[-1]):
        kept = scale.to_flow.weight.data.clone()
        scale.to_flow.weight.data[0] = torch.nan  # the mask stays finite
        decoded = model(frames[:2], frames[2:])
        decoded.frame.square().mean().backward()
        assert decoded.flow.isnan().any()
        assert scale.to_flow.weight.grad.isnan().any()
        scale.to_flow.weight.data = kept


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
    encoded = model.encode(frames[:1])
    start = model.decode(encoded, model.motion(frames[1:]))
    assert torch.allclose(start.frame, frames[:1], atol=1e-5)
    nn.init.normal_(model.coarse.layers[-1].weight, std=0.5)
    nn.init.normal_(model.scales[-1].to_rgb.weight, std=0.1)
    calm, lively = (model.decode(encoded, encoded.motion + shift) for shift in (0.0, 0.5))
    assert (lively.flow - calm.flow).abs().max() > 1e-3
    assert ((lively.frame - lively.warped) - (calm.frame - calm.warped)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "learns"),
    [
        ({}, "motion_head.4.weight"),
        ({"rgb_input": "blend"}, "templates.weight"),
        ({"source_skip": True}, "templates.weight"),
        ({"mouth_painter": 8}, "mouth_painter.paint.weight"),
        ({"refine_channels": 8}, "refine.net.6.weight"),
        ({"published": True}, "scales.2.to_rgb.conv.weight"),
        ({"published": True, "bounded_flow": False}, "scales.2.to_flow.weight"),
        ({"face_views": 4}, "motion_head.head.2.weight"),
        ({"face_views": 4, "norm": "group"}, "motion_head.towers.0.1.weight"),
    ],
)
def test_every_option_gives_a_frame_that_depends_on_driving_and_trains(options, learns):
    model = small(**options)
    frames = pictures(4)
    if options and learns == "templates.weight":
        assert not torch.allclose(model(frames[:2], frames[2:]).frame, small()(frames[:2], frames[2:]).frame)
    for parameter in model.scales[-1].to_rgb.parameters():  # starts at zero behind the pixel skip
        nn.init.normal_(parameter)
    decoded = model(frames[:2], frames[2:])
    assert decoded.frame.shape == (2, 3, 32, 32)
    assert (decoded.places is None) == ("mouth_painter" not in options)
    decoded.frame.square().mean().backward()
    for name in ("templates.weight", learns):
        assert model.get_parameter(name).grad.abs().sum() > 0


def test_decoding_an_encoded_source_equals_the_whole_pass():
    model = small(source_skip=True).eval()
    with torch.no_grad():
        model.scales[-1].to_flow.weight.normal_()
        frames = pictures(4)
        encoded = model.encode(frames[:1])
        motion = model.motion(frames[1:])
        batched = model.decode(encoded.expand(3), motion).frame
        one_by_one = torch.cat([model(frames[:1], frames[i : i + 1]).frame for i in (1, 2, 3)])
    assert torch.allclose(batched, one_by_one, atol=1e-5)


def test_motion_is_bounded_and_its_head_is_linear_before_tanh():
    model = small()
    motion = model.motion(pictures(3))
    assert motion.shape == (3, 6)
    assert motion.abs().max() < 1
    latent = torch.randn(2, 32)
    latents = latent.sum(0), torch.zeros(32), *latent
    both, nothing, *each = (model.motion_head(value) for value in latents)
    assert torch.allclose(both + nothing, sum(each), atol=1e-5)
    assert model.motion_head[-1].bias is None


def test_group_norm_sees_each_picture_by_itself():
    frames = pictures(4)
    for norm, alone in (("group", True), ("batch", False)):
        model = small(face_views=8, norm=norm).train()
        assert torch.allclose(model.motion(frames)[:2], model.motion(frames[:2]), atol=1e-6) == alone
    assert small(face_views=8).motion_head.norm == "batch"  # what old model folders, which don't say it, mean
    with pytest.raises(ValueError, match="norm is one of batch, group"):
        small(face_views=8, norm="layer")


@pytest.mark.parametrize("face_views", [0, 4])
def test_an_encoded_source_moves_as_its_picture_does(face_views):
    model = small(face_views=face_views).eval()
    frames = pictures(2)
    assert torch.allclose(model.encode(frames).motion, model.motion(frames), atol=1e-6)


def test_a_source_is_repeated_whatever_a_renderer_keeps_of_it():
    source = SourceEncoding(*torch.rand(3, 1, 4), (torch.rand(1, 4), (torch.rand(1, 2, 2),)))
    repeated = source.expand(3)
    assert [len(value) for value in repeated[:3]] == [3, 3, 3]
    assert repeated.features[1][0].shape == (3, 2, 2)
    assert torch.equal(repeated.features[0][2], source.features[0][0])


def test_a_lifted_model_renders_what_the_small_one_does():
    torch.manual_seed(3)
    small_model = small(source_skip=True, rgb_input="blend").eval()
    with torch.no_grad():
        for scale in small_model.scales:
            scale.to_flow.weight.normal_(std=0.3)
    large = PaperRenderer(64, CHANNELS | {64: 6}, 32, 6, source_skip=True, rgb_input="blend").eval()
    grow(small_model, large)
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
    grow(small_model, large)
    motion = torch.rand(3, 6)
    assert torch.equal(large.mouth_painter.centre(motion), small_model.mouth_painter.centre(motion))
    assert (large.mouth_painter.paint.weight == 0).all()


def test_models_that_do_not_fit_are_not_lifted():
    with pytest.raises(ValueError, match="64 px"):
        grow(small(), small())
    with pytest.raises(ValueError, match="differ inside"):
        grow(small(), PaperRenderer(64, dict.fromkeys((4, 8, 16, 32, 64), 8), 32, 6))


def published_frame(model: PaperRenderer, source: SourceEncoding, motion: torch.Tensor) -> torch.Tensor:
    """What the authors' files compute of one source, kernel by kernel: StyleGAN2's equations 1-3, one kernel a sample."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = 4 * torch.outer(taps, taps) / 64

    def convolved(
        layer: ModulatedConv, x: torch.Tensor, latent: torch.Tensor, demodulate: bool
    ) -> torch.Tensor:
        style = F.linear(latent, layer.style.weight / latent.shape[1] ** 0.5, layer.style.bias)
        weight = layer.weight / layer.weight[0].numel() ** 0.5 * style[0][None, :, None, None]
        if demodulate:
            weight = weight / torch.sqrt(weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if layer.doubles:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            filtered = F.conv2d(x.transpose(0, 1), kernel[None, None], padding=1)
            return filtered.transpose(0, 1)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    def leaky(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return 2**0.5 * F.leaky_relu(x + bias[:, None, None], 0.2)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    latent = source.latent + motion @ model.templates.directions().t()
    first = model.first.conv2
    x = leaky(convolved(first, model.constant, latent, True), first.bias)
    logits, rgb = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    for scale, features in zip(model.scales, source.features, strict=True):
        for layer in (scale.styled.conv1, scale.styled.conv2):
            x = leaky(convolved(layer, x, latent, True), layer.bias)
        logits = doubled(logits) + convolved(scale.to_flow, x, latent, False)
        logits = logits + scale.to_flow.bias[:, None, None]
        side = x.shape[-1]
        lines = torch.linspace(-1, 1, side)
        grid = torch.stack(torch.meshgrid(lines, lines, indexing="xy"), dim=-1)
        grid = grid + torch.tanh(logits[:, :2]).permute(0, 2, 3, 1)
        mask = torch.sigmoid(logits[:, 2:])
        warped = mask * F.grid_sample(features, grid, align_corners=True, padding_mode="border")
        x = warped + (1 - mask) * convolved(scale.generate, x, latent, False)
        head = scale.to_rgb
        colours = F.conv2d(warped, head.conv.weight / warped.shape[1] ** 0.5)
        rgb = doubled(rgb) + leaky(colours, head.conv.bias) + head.bias[:, None, None]
    return rgb


def test_the_published_form_is_that_of_the_authors_files():
    model = small(published=True).eval()
    with torch.no_grad():
        for name, parameter in model.scales.named_parameters():
            if "bias" in name or "to_flow" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
        frames = pictures(2)
        source, motion = model.encode(frames[:1]), model.motion(frames[1:])
        found = model.decode(source, motion).frame
        torch.testing.assert_close(found, published_frame(model, source, motion), atol=1e-4, rtol=1e-4)
    assert found.std() > 0.1
    assert model.first_rgb is None


def test_the_published_size_has_the_published_layers():
    """Weights of the decoder at 512 px, counted by hand from the channels of the authors' files."""
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32}
    with torch.device("meta"):
        model = PaperRenderer(512, channels, published=True, refine_channels=512)
    styled = lambda inputs, outputs: 9 * inputs * outputs + 513 * inputs + outputs  # noqa: E731
    expected = 512 * 16 + styled(512, 512)
    for side in (8, 16, 32, 64, 128, 256, 512):
        one, two = channels[side // 2], channels[side]
        expected += styled(one, two) + styled(two, two)
        expected += 3 * two + 513 * two + 3  # flow and mask
        expected += two * two + 513 * two  # generated branch
        expected += 3 * two + 3 + 3  # colours
    refine = 3 * 512 * 9 + 512 + 2 * (512 * 512 * 9 + 512) + 512 * 3 * 9 + 3
    decoder = [model.constant, *model.first.parameters(), *model.scales.parameters()]
    assert sum(one.numel() for one in decoder) == expected
    assert sum(one.numel() for one in model.refine.parameters()) == refine


def test_an_unbounded_flow_reaches_further_than_half_the_picture():
    bounded, free = small(), small(bounded_flow=False)
    for model in (bounded, free):
        with torch.no_grad():
            model.scales[0].to_flow.bias[:2] = 3.0
    frames = pictures(2)
    found = [model(frames[:1], frames[1:]).flow.abs().max() for model in (bounded, free)]
    assert found[0] < 1 < 2.5 < found[1]


@pytest.mark.parametrize("published", [False, True])
def test_what_a_lifted_model_starts_without_it_learns(published):
    """The new finest scale adds nothing, and gradients reach its colours and flow all the same."""
    torch.manual_seed(0)
    options = {"latent_dim": 32, "motion_dim": 6, "published": published}
    trained = PaperRenderer(16, {k: v for k, v in CHANNELS.items() if k <= 16}, **options)
    large = PaperRenderer(32, CHANNELS, **options)
    grow(trained, large)
    frames = pictures(2)
    large(frames[:1], frames[1:]).frame.square().mean().backward()
    finest = large.scales[-1]
    colours = finest.to_rgb.conv if published else finest.to_rgb
    assert not colours.weight.any()
    assert colours.weight.grad.any()
    assert not finest.to_flow.weight.any()
    assert finest.to_flow.style.weight.any()
