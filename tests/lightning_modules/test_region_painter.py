"""The painters of mouth and eyes: their windows, what they move and paint there, and what the trunk leaves to them."""

import pytest
import torch

from lightning_modules.networks.layers import warp_by_centres
from lightning_modules.networks.region_painter import Patch, region_corners
from lightning_modules.networks.windows import cut_windows, paste_windows, warp_windows, window_corners
from tests.lightning_modules.small_warp import lively, pictures, small


def test_windows_lie_in_the_picture_and_come_back_where_they_were():
    image = pictures(2)
    centres = torch.tensor([[[0.5, 0.25], [-3.0, 9.0]], [[1.0, 0.0], [torch.nan, 0.5]]])
    corners = window_corners(centres, (8, 16), 64)
    assert corners[0].tolist() == [[12, 24], [56, 0]]
    assert ((corners >= 0) & (corners <= 64 - torch.tensor([8, 16]))).all()
    windows = cut_windows(image, corners, (8, 16))
    torch.testing.assert_close(windows[0, 0], image[0, :, 12:20, 24:40])
    painted = paste_windows(image, -windows, corners)
    torch.testing.assert_close(cut_windows(painted, corners, (8, 16)), -windows)
    changed = (painted != image).any(dim=1)
    assert changed.sum() <= 4 * 8 * 16
    assert changed.any()


def test_two_windows_may_overlap():
    """Where they do, what both add is there: no edge of one cuts the other."""
    corners, paint = torch.tensor([[[10, 10], [10, 18]]]), torch.zeros(1, 3, 64, 64)
    both = Patch(corners, torch.ones(1, 2, 4, 16, 32), torch.ones(1, 2, 2, 8, 16), 2)
    for at, added, *_ in both.at(1):
        paint = paste_windows(paint, cut_windows(paint, at, (8, 16)) + added, at)
    torch.testing.assert_close(
        paint[0, 0, 14, 8:36], torch.tensor([0.0] * 2 + [1] * 8 + [2] * 8 + [1] * 8 + [0] * 2)
    )
    large = [(at.tolist(), colours.shape[-2:]) for at, colours, *_ in both.at(2)]
    assert large == [([[[20, 20]]], (16, 32)), ([[[20, 36]]], (16, 32))]


def test_windows_are_moved_as_the_whole_is():
    image, flow = pictures(2), 0.3 * torch.randn(2, 2, 64, 64, generator=torch.Generator().manual_seed(3))
    corners = torch.tensor([[[0, 8], [20, 30]], [[56, 48], [1, 2]]])
    whole = warp_by_centres(image, flow, "bicubic")
    found = warp_windows(image, cut_windows(flow, corners, (8, 16)), corners)
    torch.testing.assert_close(found, cut_windows(whole, corners, (8, 16)), atol=1e-5, rtol=0)


def test_paint_fades_to_nothing_at_the_windows_edges():
    model = lively(small()).eval()
    bare = lively(small()).eval()
    with torch.no_grad():
        for one, colour, share in ((model, 3.0, 30.0), (bare, 0.0, 0.0)):
            one.flow.out.bias[2] = -30  # all is hidden: on what can be seen nothing is painted
            for painter in one.painters.values():
                painter.paint.weight.zero_()
                painter.sway[-1].bias.zero_()
                painter.sway[-1].weight.zero_()
                painter.paint.bias[:4] = torch.tensor([colour] * 3 + [share])
    found, without = model(pictures(1), pictures(1)), bare(pictures(1), pictures(1))
    change = (found.frame - without.frame).abs().amax(dim=1)[0]
    height, width = 16, 24  # of the mouth's window
    row, column = window_corners(found.places[:, :1], (height, width), 64)[0, 0].tolist()
    mouth = change[row : row + height, column : column + width]
    edge = torch.cat([mouth[0], mouth[-1], mouth[:, 0], mouth[:, -1]])
    assert edge.mean() < 0.4 * mouth[4:-4, 4:-4].mean()
    assert change[row + height :].max() == 0  # below the mouth nothing is painted


@pytest.mark.parametrize("factor", [1, 2])
def test_lips_and_lids_are_moved_in_their_windows_alone(factor):
    model, bare = lively(small()).eval(), lively(small()).eval()
    source = pictures(1, 64 * factor)
    with torch.no_grad():
        for one, shift in ((model, 0.1), (bare, 0.0)):
            for painter in one.painters.values():
                for layer in (painter.sway[-1], painter.paint):
                    layer.weight.zero_()
                    layer.bias.zero_()
            one.painters["mouth"].sway[-1].bias.fill_(shift)
    found, without = model(source, pictures(2)[1:]), bare(source, pictures(2)[1:])
    moved = (found.flow - without.flow)[0]
    row, column = (factor * window_corners(found.places[:, :1], (16, 24), 64)[0, 0]).tolist()
    inside = moved[:, row : row + 16 * factor, column : column + 24 * factor]
    torch.testing.assert_close(
        inside[:, 6 * factor : -6 * factor, 6 * factor : -6 * factor].mean().item(), 0.1
    )
    torch.testing.assert_close(inside.sum(), moved.sum(), atol=0.2, rtol=0.01)
    torch.testing.assert_close(
        warp_by_centres(source, found.flow, "bicubic").clamp(-1, 1), found.warped, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("said", "low", "high"), [(-30, 0.99, 1.0), (30, 0.0, 0.01)])
def test_motion_alone_can_say_whether_mouth_and_eyes_are_painted(said, low, high):
    model = lively(small()).eval()
    with torch.no_grad():
        for painter in model.painters.values():
            painter.opening[-1].weight.zero_()
            painter.opening[-1].bias.fill_(said)
    found = model(pictures(1), pictures(2)[1:])
    corners = window_corners(found.places[:, :1], (16, 24), 64)
    inside = cut_windows(found.mask, corners, (16, 24))[..., 4:-4, 4:-4]
    assert low <= inside.min()
    assert inside.max() <= high


def test_what_is_shown_stays_as_it_is_where_painters_say_nothing():
    model = lively(small()).eval()
    with torch.no_grad():
        model.flow.out.bias[2] = 30  # nothing is hidden
        model.paint.weight.zero_()
        model.paint.bias.zero_()
        for painter in model.painters.values():
            for layer in (painter.opening[-1], painter.paint):
                layer.weight.zero_()
                layer.bias.zero_()
    assert model(pictures(1), pictures(2)[1:]).mask.min() == 1


def test_painters_learn_from_the_first_step():
    """What is painted gets the whole of the frame's error: nothing has to be worth looking at before it is looked at."""
    model = small()
    with torch.no_grad():
        model.flow.out.bias[2] = -30  # all is hidden
    image = pictures(2)
    (model(image[:1], image[1:]).frame - image[1:]).square().sum().backward()
    fine, coarse = model.painters["mouth"].paint.bias.grad[:3], model.paint.bias.grad[:3]
    window = 16 * 24 / 64**2
    assert fine.norm() > 0.2 * window * coarse.norm()
    assert model.painters["mouth"].paint.bias.grad[3].abs() > 0


def test_what_the_trunk_covers_it_covers_beside_eyes():
    """In the middle of an eye's window only the flow and the eyes' painter say what is shown; elsewhere the trunk, too."""
    model = lively(small()).eval()
    with torch.no_grad():
        model.flow.out.weight[2].zero_()
        model.flow.out.bias[2] = 30  # nothing is hidden
        model.paint.weight.zero_()
        model.paint.bias.zero_()
        model.paint.bias[model.detail**2 * 4 * 3 : model.detail**2 * 4 * 4] = -60  # the trunk covers it all
        for painter in model.painters.values():
            for layer in (painter.opening[-1], painter.paint):
                layer.weight.zero_()
                layer.bias.zero_()
    found = model(pictures(1), pictures(2)[1:])
    (_, _), (corners, sides) = region_corners(found.places, 64)
    eyes = cut_windows(found.mask, corners, sides)
    assert eyes[..., sides[0] // 2, sides[1] // 2].min() > 0.99
    outside = paste_windows(found.mask, torch.zeros_like(eyes), corners)
    assert outside.max() < 0.01
