"""Whole clips through a model in training, by the generator that users get: what callbacks show and judge."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from datamodules.batches import WholeClip
from datamodules.errors import UserError
from datamodules.media.pictures import to_float
from lightning_modules.checkpoints import load_autoencoder
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.generation.reenactment import Reenactor
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.networks.base_renderer import Renderer


def require_autoencoder(module: LightningModule, who: object) -> None:
    """Refuse a stage whose network renders nothing that the callback ``who`` could show.

    Raises:
        UserError: Its network is no motion autoencoder.
    """
    if not isinstance(getattr(module, "network", None), Renderer):
        _refuse(module, who, "shows what a motion autoencoder renders")


def _refuse(module: LightningModule, who: object, what: str) -> NoReturn:
    raise UserError(
        f"{type(who).__name__} {what}, not {type(module).__name__}: choose callbacks for this stage, such as "
        "callbacks=default"
    )


def _stacked(frames: Iterable[np.ndarray]) -> Tensor:
    """Frames ``(S, S, 3)`` uint8 as one tensor ``(T, 3, S, S)``."""
    return torch.from_numpy(np.stack(list(frames))).movedim(-1, 1).contiguous()


def _side(renderer: Reenactor, clip: WholeClip) -> int | None:
    """Side of the frames: the clip's, if this renderer makes such; None: its own."""
    side = clip.frames.shape[-1]
    return side if side in renderer.sizes else None


class ReconstructedClips:
    """Clips through an autoencoder that is being trained, some frames at a time: the first in the motion of each frame."""

    made_for = "autoencoder"

    def __init__(self, batch_size: int = 16) -> None:
        self.batch_size = batch_size

    def check(self, module: LightningModule) -> None:
        """Refuse a module of another stage; see ``require_autoencoder``."""
        require_autoencoder(module, self)

    def __call__(self, module: LightningModule, clip: WholeClip) -> Tensor:
        """Frames ``(T, 3, S, S)`` uint8 by the autoencoder, in evaluation mode, of a real clip."""
        renderer = Reenactor(module.network)  # type: ignore[arg-type]
        source = renderer.prepare_source(to_float(clip.frames[:1]), _side(renderer, clip))
        chunks = clip.frames.split(self.batch_size)
        motion = torch.cat([renderer.motion_of(to_float(chunk), self.batch_size) for chunk in chunks])
        return _stacked(renderer.render(source, motion, self.batch_size))


class GeneratedClips:
    """Clips by a motion diffusion model that is being trained: first frame and own speech become video.

    Motion is sampled without statistics, or with usual ones, so that stage 2 need not be trained yet; a trained autoencoder
    renders it.

    Args:
        autoencoder: run folder or checkpoint of stage 1; it is read when the first clip is rendered.
        steps: sampler steps; None = the model's own.
        guidance: scale of the audio guidance; None = the model's own.
        seed: of the noise, which hangs on the clip's speech, too, and is the same every time.
        batch_size: frames rendered at a time.
    """

    made_for = "diffusion"

    def __init__(
        self,
        autoencoder: str | Path,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.path, self.batch_size = autoencoder, batch_size
        self.options = GenerationOptions(statistics="none", steps=steps, guidance=guidance, seed=seed)

    @cached_property
    def autoencoder(self) -> Renderer:
        """Stage 1, frozen and in evaluation mode."""
        return load_autoencoder(self.path)[0].requires_grad_(False)

    def check(self, module: LightningModule) -> None:
        """Refuse a module of another stage, without a diffusion process or a motion basis."""
        if not hasattr(module, "diffusion") or not hasattr(module, "basis"):
            _refuse(module, self, "samples a motion diffusion model")

    def __call__(self, module: LightningModule, clip: WholeClip) -> Tensor:
        """Frames ``(T, 3, S, S)`` uint8 by stage 3, in evaluation mode, of the first frame and the sound of a real clip.

        Raises:
            UserError: the clip has no audio features, or there is no such autoencoder.
        """
        if clip.audio is None:
            raise UserError(f"{clip.name}: no audio features; give the data a latent cache")
        with torch.inference_mode(False):  # parameters moved within it could not be used outside
            autoencoder = self.autoencoder.to(module.device)
        head = TalkingHead(autoencoder, module.basis, module.network, module.diffusion)  # type: ignore[arg-type]
        source = head.prepare_source(to_float(clip.frames[:1]), _side(head, clip), lids=True, shut_lips=True)
        motion = head.motion_from_features(source, clip.audio[None].to(module.device), self.options)
        return _stacked(head.render(source, motion, self.batch_size))
