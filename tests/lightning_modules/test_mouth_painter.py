"""The painter of the mouth's inside: where it paints, what it may learn, and that it opens a mouth no flow can open."""

import pytest
import torch

from lightning_modules.losses.face import centre_l1
from lightning_modules.networks.mouth_painter import (
    MouthPainter,
    cut_window,
    paste_window,
    window_side,
)
from lightning_modules.networks.windows import fading

SIZE = 64
SIDE = window_side(SIZE)
REACH = 0.22
"""How far the mouths of these tests stray: more than half a window."""


def painter() -> MouthPainter:
    torch.manual_seed(0)
    return MouthPainter(motion_dim=4, width=16, style_dim=16)


def inputs(count: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(1)
    frame = torch.rand(count, 3, SIZE, SIZE) * 2 - 1
    motion = torch.rand(2, count, 4) * 2 - 1
    return [frame, frame.clone(), torch.zeros(count, 2, SIZE, SIZE), *motion]


def test_an_untrained_painter_leaves_the_frame_as_it_is():
    frame, *rest = inputs()
    assert torch.equal(painter()(frame, *rest), frame)


def test_paint_lies_in_a_window_around_the_place_that_motion_says():
    model = painter()
    torch.nn.init.ones_(model.paint.bias)
    torch.nn.init.zeros_(model.paint.weight)
    with torch.no_grad():
        model.place.weight[0, 0] = 0.2
        frame, warped, flow, source, _ = inputs()
        driving = torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
        paint = (model(frame, warped, flow, source, driving) - frame).mean(1)  # (2, S, S)
    for one, x in zip(paint, (0.3, 0.7), strict=True):
        rows, columns = (one.amax(d) > 1e-3 for d in (1, 0))
        for line, middle in ((rows, 0.7), (columns, x)):
            where = line.nonzero().flatten().float() + 0.5
            assert where.mean() == pytest.approx(middle * SIZE, abs=0.6)
            assert SIDE - 4 <= len(where) <= SIDE + 1
        assert one.max() == pytest.approx(1.0, abs=1e-3)


def test_a_window_that_is_cut_out_and_put_back_is_in_its_place():
    picture = inputs()[0]
    centre = torch.tensor([[0.5, 0.5], [30 / SIZE, 40 / SIZE]])  # on pixel edges: no resampling
    back = paste_window(cut_window(picture, centre, SIDE), centre, SIZE)
    for one, original, (x, y) in zip(back, picture, ((32, 32), (30, 40)), strict=True):
        half = SIDE // 2
        box = (slice(None), slice(y - half, y + half), slice(x - half, x + half))
        assert torch.allclose(one[box], original[box], atol=1e-4)
        outside = one.clone()
        outside[box] = 0
        assert outside.abs().max() < 1e-4


def test_the_place_is_not_learned_from_pixels():
    model = painter()
    torch.nn.init.normal_(model.paint.weight)
    frame, *rest = inputs()
    model(frame, *rest).square().mean().backward()
    assert model.place.weight.grad is None
    assert model.plate.weight.grad.abs().sum() > 0


def test_the_place_is_exact_under_autocast():
    model = painter()
    torch.nn.init.normal_(model.place.weight)
    motion = inputs()[-1]
    with torch.autocast("cpu", torch.bfloat16):
        found = model.centre(motion)
        painted = model(*inputs())
    assert torch.equal(found, model.centre(motion))
    assert painted.dtype == torch.float32


@pytest.mark.parametrize(("size", "side"), [(16, 8), (32, 12), (64, 24), (128, 48), (512, 192)])
def test_the_window_has_a_fixed_share_of_the_picture_and_fades_towards_its_edges(size: int, side: int):
    assert window_side(size) == side
    weight = fading((side, side))
    assert weight[side // 2, side // 2] == 1
    assert weight[0].max() <= 0.5
    assert torch.allclose(weight, weight.flip(0))


@pytest.mark.parametrize("width", [-8, 12])
def test_a_width_that_has_no_groups_is_refused(width: int):
    with pytest.raises(ValueError, match="positive multiple of 8"):
        MouthPainter(4, width)


def mouths(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Grey pictures with a shut mouth, the same with an open one, and the motion that says where and how far."""
    motion = torch.rand(count, 4, generator=generator) * 2 - 1
    pixels = (torch.arange(SIZE) + 0.5) / SIZE
    x, y = 0.5 + REACH * motion[:, 0], 0.6 + REACH * motion[:, 1]
    opening = 0.01 + 0.05 * (motion[:, 2] + 1)
    across = (pixels[None, None, :] - x[:, None, None]) / 0.12
    along = (pixels[None, :, None] - y[:, None, None]) / opening[:, None, None]
    dark = (across.square() + along.square() < 1).float()[:, None]
    shut = torch.full((count, 3, SIZE, SIZE), 0.4)
    return shut, shut - 1.2 * dark, motion


def test_a_painter_opens_mouths_it_has_not_seen_as_far_as_motion_says():
    generator = torch.Generator().manual_seed(0)
    model = painter()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rest = torch.zeros(16, 4)
    for _ in range(150):
        shut, opened, motion = mouths(16, generator)
        frame = model(shut, shut, torch.zeros(16, 2, SIZE, SIZE), rest, motion)
        centre = torch.stack([0.5 + REACH * motion[:, 0], 0.6 + REACH * motion[:, 1]], dim=1)
        boxes = torch.cat([centre - 0.1, centre + 0.1], dim=1)
        loss = (frame - opened).abs().mean() + centre_l1(model.centre(motion), boxes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shut, opened, motion = mouths(16, generator)
    with torch.no_grad():
        frame = model(shut, shut, torch.zeros(16, 2, SIZE, SIZE), rest, motion)
    assert (frame - opened).abs().mean() < 0.35 * (shut - opened).abs().mean()
    painted, true = ((0.4 - f).mean((1, 2, 3)) for f in (frame, opened))
    assert torch.corrcoef(torch.stack([painted, true]))[0, 1] > 0.97
