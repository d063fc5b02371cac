"""Windows of mouth, eyes and half faces for a discriminator: they lie where the boxes say, and show what it must see."""

import functools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.networks.face_windows import KINDS, FaceWindows
from lightning_modules.networks.registry import build_network

MOUTH, LEFT, RIGHT = (0.4, 0.65, 0.6, 0.75), (0.55, 0.4, 0.65, 0.44), (0.35, 0.4, 0.45, 0.44)


def places(size: int = 128) -> Tensor:
    """A picture whose colours are x and y in [0, 1], and 0."""
    steps = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])[None]


def test_windows_lie_about_mouth_eyes_and_halves_of_the_face():
    frames = torch.cat([places(), 1 - places()])
    windows = FaceWindows(32)(frames, torch.tensor([[MOUTH, LEFT, RIGHT]] * 2))
    assert windows.shape == (10, FaceWindows.channels, 32, 32)
    assert windows[:, 3:].mean(dim=(2, 3)).argmax(dim=1).tolist() == 2 * list(range(len(KINDS)))
    middle = windows[:5, :2].mean(dim=(2, 3))
    torch.testing.assert_close(middle[:2], torch.tensor([[0.5, 0.7], [0.6, 0.42]]), atol=0.002, rtol=0)
    assert middle[3, 0] > 0.5 > middle[4, 0]  # the halves
    assert (middle[3:, 1] > 0.42).all()
    assert (middle[3:, 1] < 0.7).all()
    wide, high = (windows[:5, c].amax(dim=(1, 2)) - windows[:5, c].amin(dim=(1, 2)) for c in (0, 1))
    torch.testing.assert_close(
        wide[:3] * 32 / 31, torch.tensor([1.5 * 0.2, 1.8 * 0.1, 1.8 * 0.1]), atol=0.004, rtol=0
    )
    torch.testing.assert_close(wide, high)
    torch.testing.assert_close(windows[5:, :2], 1 - windows[:5, :2])  # the second frame


def test_some_kinds_of_windows_are_those_of_all_kinds():
    frames, boxes = torch.rand(2, 3, 64, 64), torch.tensor([[MOUTH, LEFT, RIGHT]] * 2)
    whole = FaceWindows(16)(frames, boxes).unflatten(0, (2, 5))
    some = FaceWindows(16, ["mouth", "right eye"])(frames, boxes)
    assert torch.equal(some, whole[:, [0, 2]].flatten(0, 1))
    with pytest.raises(ValueError, match="kinds must be some of"):
        FaceWindows(16, ["nose"])


def test_grey_windows_say_nothing_of_colour():
    torch.manual_seed(0)
    frames, boxes = torch.rand(2, 3, 64, 64), torch.tensor([[MOUTH, LEFT, RIGHT]] * 2)
    grey = FaceWindows(16, grey=True)
    assert torch.allclose(grey(frames, boxes), grey(frames.flip(1), boxes), atol=1e-6)
    assert torch.allclose(
        grey(frames, boxes)[:, :3].mean(1), FaceWindows(16)(frames, boxes)[:, :3].mean(1), atol=1e-6
    )


def test_windows_of_unknown_faces_are_where_faces_usually_are():
    middle = FaceWindows(16)(places(), torch.zeros(1, 3, 4))[:3, :2].mean(dim=(2, 3))
    usual = torch.tensor([[0.5, 0.7], [0.62, 0.42], [0.38, 0.42]])
    torch.testing.assert_close(middle, usual, atol=0.01, rtol=0)


def test_a_patch_discriminator_learns_to_tell_blurred_mouths_and_says_where_to_sharpen():
    torch.manual_seed(0)
    network = build_network("patch_discriminator", channels=FaceWindows.channels, width=8, layers=2)
    optimizer = torch.optim.Adam(network.parameters(), 2e-2, betas=(0.0, 0.99))
    partial = functools.partial(torch.optim.Adam, lr=2e-2)
    gan = AdversarialLoss(network, partial, windows=FaceWindows(16), r1=0.01, r1_every=4)
    boxes = torch.tensor([[MOUTH, LEFT, RIGHT]] * 4)
    for step in range(100):
        real = torch.rand(4, 3, 64, 64) * 2 - 1
        loss = gan.discriminator_loss(real, F.avg_pool2d(real, 5, 1, 2), boxes, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    real = torch.rand(4, 3, 64, 64) * 2 - 1
    blurred = F.avg_pool2d(real, 5, 1, 2).requires_grad_()
    said = gan.generator_loss(blurred, real, boxes)
    assert gan.generator_loss(real, real, boxes) < said - 0.1
    (gradient,) = torch.autograd.grad(said, blurred)
    assert gradient[..., 44:46, 28:36].abs().mean() > 0  # in the mouth
    assert gradient[..., :8, :8].abs().max() == 0  # where no window is


def test_matching_is_the_distance_of_the_discriminators_features_to_the_real_frames():
    torch.manual_seed(0)
    network = build_network("patch_discriminator", channels=FaceWindows.channels, width=8, layers=2).eval()
    partial = functools.partial(torch.optim.Adam, lr=2e-2)
    plain, matching = (
        AdversarialLoss(network, partial, windows=FaceWindows(16), feature_matching=m) for m in (0.0, 3.0)
    )
    boxes = torch.tensor([[MOUTH, LEFT, RIGHT]] * 2)
    real, made = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    windows = FaceWindows(16)
    (said, found), (_, wanted) = (network.logits_and_features(windows(one, boxes)) for one in (made, real))
    assert torch.equal(said, network(windows(made, boxes)))
    assert [one.shape[1] for one in found] == [8, 16]
    apart = sum((one - other).abs().mean() for one, other in zip(found, wanted, strict=True))
    extra = matching.generator_loss(made, real, boxes) - plain.generator_loss(made, real, boxes)
    torch.testing.assert_close(extra, 3 * apart)
    same = matching.generator_loss(real, real, boxes) - plain.generator_loss(real, real, boxes)
    assert abs(same) < 1e-6


def test_matching_wants_a_discriminator_that_shows_its_features():
    with pytest.raises(ValueError, match="Linear shows no features"):
        AdversarialLoss(
            torch.nn.Linear(2, 1), functools.partial(torch.optim.Adam, lr=1.0), feature_matching=1.0
        )
