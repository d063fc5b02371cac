"""Generating motion for speech of any length, window after window; needs no Lightning."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.guidance import guide
from lightning_modules.networks.diffusion_transformer import Conditions, DiffusionTransformer, KeepMask

StatisticsProvider = Callable[[int, Tensor | None], tuple[Tensor | None, Tensor | None]]
"""``(window index, hint and generated frames (1, 65, M) of the window before or None) -> (mean, std)``, each
``(1, M)`` or None for a dropped one."""


def no_statistics(index: int, previous: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Drops mean and std of every window: the mode ``none``."""
    return None, None


class CFGDenoiser:
    """The network with a window's conditions and guidance, as a function of noisy motion and time.

    The dropped sides of the guidance ride along in the batch, so that each step stays one evaluation.

    Args:
        network: Diffusion transformer.
        audio: ``(B, 2T, D)`` audio features of the window.
        hint: ``(B, M)`` motion of the frame before.
        mean: ``(B, M)`` window mean; None drops it.
        std: ``(B, M)`` window std; None drops it.
        audio_scale: Audio guidance; 1 = off.
        statistics_scale: Statistics guidance; 1 = off. Without statistics there is nothing to guide by.
    """

    def __init__(
        self,
        network: DiffusionTransformer,
        audio: Tensor,
        hint: Tensor,
        mean: Tensor | None,
        std: Tensor | None,
        audio_scale: float = 1.0,
        statistics_scale: float = 1.0,
    ) -> None:
        self.network, self.audio_scale, self.statistics_scale = network, audio_scale, statistics_scale
        self.guide_audio = audio_scale != 1
        self.guide_statistics = statistics_scale != 1 and not (mean is None and std is None)
        # Missing statistics are dropped.
        keep = KeepMask.all(len(hint), hint.device)
        keep = keep._replace(mean=keep.mean & (mean is not None), std=keep.std & (std is not None))
        mean, std = (torch.zeros_like(hint) if values is None else values for values in (mean, std))
        # The conditional side and, for guidance, the sides without audio and without statistics, one behind the other.
        masks = [keep]
        if self.guide_audio:
            masks.append(keep.without_audio())
        if self.guide_statistics:
            masks.append(keep.without_statistics())
        embedded = [network.embed(audio, hint, mean, std, mask) for mask in masks]
        self.sides = len(masks)
        self.conditions = Conditions(*(torch.cat(parts) for parts in zip(*embedded, strict=True)))

    def __call__(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Guided output at one time; ``(B, T, M)``, ``(B,)`` -> ``(B, T, M or 2 M)``."""
        # All sides in one evaluation.
        repeated = noisy.repeat(self.sides, 1, 1), t.repeat(self.sides)
        outputs = self.network.denoise(*repeated, self.conditions).chunk(self.sides)
        # Guided is the prediction (B, T, M); a learned variance stays that of the conditional side.
        size = self.network.motion_dim
        sides = [output[..., :size] for output in outputs]
        guided = guide(
            sides[0],
            sides[1] if self.guide_audio else None,
            sides[-1] if self.guide_statistics else None,
            self.audio_scale,
            self.statistics_scale,
        )
        return torch.cat([guided, outputs[0][..., size:]], dim=-1)


@torch.no_grad()
def sample_motion(
    network: DiffusionTransformer,
    diffusion: GaussianDiffusion,
    audio: Tensor,
    hint: Tensor,
    statistics: StatisticsProvider = no_statistics,
    steps: int | None = None,
    guidance: float | None = None,
    statistics_guidance: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Generates the motion ``(1, T, M)`` of a whole speech, one window of 64 frames after the other.

    The last generated frame of a window is the hint of the next. Everything is in basis coordinates.

    Args:
        network: Diffusion transformer, in evaluation mode.
        diffusion: The process it was trained with; sampler, steps and scales are its settings unless given
            here.
        audio: ``(1, 2T, D)`` audio features at 50 Hz, T at least 1.
        hint: ``(1, M)`` motion of the frame before the first: the source's.
        statistics: Gives mean and std of every window.
        steps: Sampler steps.
        guidance: Audio guidance scale; 1 = off.
        statistics_guidance: Statistics guidance scale; 1 = off.
        generator: Source of all noise, on the CPU.

    Raises:
        ValueError: If the audio holds an odd number of features or none.
    """
    if audio.shape[1] == 0 or audio.shape[1] % 2:
        raise ValueError(f"{audio.shape[1]} audio features: two for each of at least one frame are needed")
    total, window = audio.shape[1] // 2, network.window
    audio_scale = diffusion.guidance if guidance is None else guidance
    statistics_scale = diffusion.statistics_guidance if statistics_guidance is None else statistics_guidance
    previous: Tensor | None = None
    motions = []
    for index, start in enumerate(range(0, total, window)):
        # The window's speech (1, 128, D).
        part = audio[:, 2 * start : 2 * (start + window)]
        if missing := 2 * window - part.shape[1]:
            # As in training: past the end the last frame's two features are repeated.
            part = torch.cat([part, part[:, -2:].repeat(1, missing // 2, 1)], dim=1)
        # From noise to the motion of its 64 frames, given its statistics.
        mean, std = statistics(index, previous)
        denoiser = CFGDenoiser(network, part, hint, mean, std, audio_scale, statistics_scale)
        noise = torch.randn((1, window, network.motion_dim), generator=generator).to(hint)
        motions.append(diffusion.sample(denoiser, noise, generator, steps))  # (1, 64, M)
        # What the next window goes on from.
        previous = torch.cat([hint.unsqueeze(1), motions[-1]], dim=1)
        hint = motions[-1][:, -1]
    return torch.cat(motions, dim=1)[:, :total]
