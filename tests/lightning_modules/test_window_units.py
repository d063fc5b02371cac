"""Windows in units of their own statistics: what is asked for is what comes out, whatever a network says."""

import pytest
import torch

from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.window_units import FLOOR, JOINED, OWN_STEP, WindowUnits, going_on
from lightning_modules.generation.motion_sampling import sample_motion
from lightning_modules.networks.statistics_estimator import window_statistics


def motions(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_window_in_its_own_units_has_no_mean_and_a_std_of_one_and_comes_back():
    motion = 3 + 2 * motions(2, 65, 5)
    motion[..., 4] *= 0.01
    mean, std = window_statistics(motion)
    units = WindowUnits.of(mean, std)
    own = units.encode(motion)
    found = window_statistics(own)
    torch.testing.assert_close(found[0], torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1][:, :4], torch.ones(2, 4))
    torch.testing.assert_close(found[1][:, 4], std[:, 4] / FLOOR)  # what hardly moves stays small
    torch.testing.assert_close(units.decode(own), motion)


def test_fitting_changes_scale_and_shift_alone_and_nothing_that_fits():
    motion, before = motions(2, 64, 5), motions(2, 1, 5, seed=1)
    mean, std = 0.5 * motions(2, 5, seed=2), 0.05 + motions(2, 5, seed=3).abs()
    units = WindowUnits.of(mean, std)
    fitted = units.fitted(motion, before)
    found = window_statistics(units.decode(torch.cat([before, fitted], dim=1)))
    torch.testing.assert_close(found[0], mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], std, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(units.fitted(fitted, before), fitted, atol=1e-4, rtol=0)
    shape, other = (one - one.mean(1, keepdim=True) for one in (motion, fitted))
    torch.testing.assert_close(shape / shape.std(1, keepdim=True), other / other.std(1, keepdim=True))


def test_a_frame_before_that_is_too_far_lets_the_window_move_all_the_same():
    units = WindowUnits.of(torch.zeros(1, 1), torch.ones(1, 1))
    before = torch.full((1, 1, 1), 20.0)
    fitted = units.fitted(motions(1, 64, 1), before)
    assert fitted.isfinite().all()
    torch.testing.assert_close(torch.cat([before, fitted], 1).mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert 0.45 < fitted.std() < 0.55


def test_a_window_is_joined_by_a_step_between_the_last_one_and_its_own_and_left_alone_further_in():
    motion, before = motions(2, 64, 5), motions(2, 3, 5, seed=1)
    joined = going_on(motion, before, units=None)
    step, last, own = joined[:, 0] - before[:, 2], before[:, 2] - before[:, 1], motion[:, 1] - motion[:, 0]
    torch.testing.assert_close(
        step.abs(), (1 - OWN_STEP) * last.abs() + OWN_STEP * own.abs()
    )  # no shorter than they are
    torch.testing.assert_close(step.sign(), ((1 - OWN_STEP) * last + OWN_STEP * own).sign())
    torch.testing.assert_close(joined[:, JOINED:], motion[:, JOINED:], atol=0, rtol=0)
    # Of a speech's first window nothing is known but the portrait; a single frame before says no step.
    unknown = torch.cat([torch.full_like(before[:, :2], torch.nan), before[:, 2:]], dim=1)
    torch.testing.assert_close(going_on(motion, unknown, units=None), motion, atol=0, rtol=0)
    torch.testing.assert_close(going_on(motion, before[:, 2:], units=None), motion, atol=0, rtol=0)


@pytest.mark.parametrize("way", ["standardised", "projected"])
@pytest.mark.parametrize("target", ["x0", "epsilon", "v"])
def test_samples_have_the_statistics_that_they_were_asked_for(model, target, way):
    """Of an untrained network: by construction, not by what it has learnt."""
    diffusion = GaussianDiffusion(target=target, sampler_steps=4, **{way: True})
    asked, hint = [], torch.zeros(1, 20)

    def statistics(start, motion):
        before = motion[:, start]
        draw = torch.Generator().manual_seed(start)
        std = 0.3 + torch.rand(1, 20, generator=draw)
        asked.append((before + std * torch.randn(1, 20, generator=draw), std))
        return asked[-1]

    audio = torch.randn(1, 256, 160, generator=torch.Generator().manual_seed(5))
    draw = torch.Generator().manual_seed(4)
    motion = sample_motion(model.denoiser, diffusion, audio, hint, statistics, generator=draw)
    whole = torch.cat([hint[:, None], motion], dim=1)
    for number, (mean, std) in enumerate(asked):
        found = window_statistics(whole[:, 64 * number : 64 * number + 65])
        torch.testing.assert_close(found[0], mean, atol=1e-3, rtol=0)
        torch.testing.assert_close(found[1], std, atol=1e-3, rtol=1e-2)
    with pytest.raises(ValueError, match="need both mean and std"):
        sample_motion(model.denoiser, diffusion, audio, hint)
