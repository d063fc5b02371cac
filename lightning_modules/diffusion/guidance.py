"""Classifier-free guidance: pushing a prediction away from what the network says without a condition."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_conditions import Conditions, KeepMask


class CFGDenoiser:
    """The network with a window's conditions and guidance, as a function of noisy motion and time.

    One term for each dropped condition (arXiv 2207.12598, equation 6), right for every prediction target, as all are linear
    in the predicted data. The dropped sides ride along in the batch, so that each step stays one evaluation.

    Args:
        network: Diffusion transformer.
        audio: ``(B, 2 (P + T + P), D)`` audio features of the window and of the P frames of a prefix on either side.
        hint: ``(B, 1, M)`` motion of the frame before, or ``(B, P, M)`` of a prefix.
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
        keep = KeepMask.all(len(hint), hint.device)
        keep = keep._replace(mean=keep.mean & (mean is not None), std=keep.std & (std is not None))
        # The conditional side, then for each term of the guidance the side without what it guides by.
        masks, self.scales = [keep], []
        if audio_scale != 1:
            masks.append(keep.without_audio())
            self.scales.append(audio_scale)
        if statistics_scale != 1 and not (mean is None and std is None):
            masks.append(keep.without_statistics())
            self.scales.append(statistics_scale)
        mean, std = (torch.zeros_like(hint[:, -1]) if values is None else values for values in (mean, std))
        embedded = [network.embed(audio, hint, mean, std, mask) for mask in masks]
        self.network = network
        sides = zip(*embedded, strict=True)  # what this network has no use for is None on each side
        joined: list[Any] = [None if parts[0] is None else torch.cat(parts) for parts in sides]
        self.conditions = Conditions(*joined)

    def __call__(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Guided output at one time; ``(B, T, M)``, ``(B,)`` -> ``(B, T, M or 2 M)``."""
        # All sides in one evaluation.
        count = 1 + len(self.scales)
        repeated = noisy.repeat(count, 1, 1), t.repeat(count)
        outputs = self.network.denoise(*repeated, self.conditions).chunk(count)
        # Guided is the prediction (B, T, M); a learned variance stays that of the conditional side.
        size = self.network.motion_dim
        conditional, *dropped = (output[..., :size] for output in outputs)
        guided = conditional
        for scale, side in zip(self.scales, dropped, strict=True):
            guided = guided + (scale - 1) * (conditional - side)
        return torch.cat([guided, outputs[0][..., size:]], dim=-1)
