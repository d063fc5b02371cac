"""Whole clips through a model that is being trained, so that callbacks can show and judge them."""

from functools import cached_property
from pathlib import Path

import torch
from lightning import LightningModule
from torch import Tensor

from datamodules.batches import WholeClip
from datamodules.errors import UserError
from datamodules.media.pictures import to_float, to_uint8
from lightning_modules.checkpoints import load_autoencoder
from lightning_modules.generation.sampling import sample_motion
from lightning_modules.networks.renderer import Renderer, SourceCode, repeat_code


def render_frames(autoencoder: Renderer, source: SourceCode, motion: Tensor, batch_size: int) -> Tensor:
    """Frames ``(T, 3, S, S)`` uint8 on the CPU of one source in raw motion ``(T, M)``."""
    parts = []
    for chunk in motion.split(batch_size):
        frames = autoencoder.decode(repeat_code(source, len(chunk)), chunk).frame
        parts.append(to_uint8(frames).cpu())
    return torch.cat(parts)


def require_autoencoder(module: LightningModule, who: str) -> None:
    """Refuse a stage whose network renders nothing.

    Args:
        module: that is about to be trained.
        who: the callback that needs it, for the message.

    Raises:
        UserError: its network is no motion autoencoder.
    """
    if not isinstance(getattr(module, "network", None), Renderer):
        raise UserError(
            f"{who} shows what a motion autoencoder renders, not {type(module).__name__}: choose callbacks for this "
            "stage, such as callbacks=default"
        )


class ReconstructedClips:
    """Clips through an autoencoder that is being trained: the first frame in the motion of each frame.

    Args:
        batch_size: frames at a time.
    """

    made_for = "autoencoder"

    def __init__(self, batch_size: int = 16) -> None:
        self.batch_size = batch_size

    def check(self, module: LightningModule) -> None:
        """Refuse a module of another stage.

        Raises:
            UserError: its network is no motion autoencoder.
        """
        require_autoencoder(module, type(self).__name__)

    @torch.no_grad()
    def __call__(self, module: LightningModule, clip: WholeClip) -> Tensor:
        """Frames ``(T, 3, S, S)`` uint8.

        Args:
            module: with a ``network`` that is a motion autoencoder, in evaluation mode.
            clip: the real clip.
        """
        network: Renderer = module.network  # type: ignore[assignment]
        source = network.encode(to_float(clip.frames[:1].to(module.device)))
        chunks = clip.frames.split(self.batch_size)
        motion = torch.cat([network.motion(to_float(chunk.to(module.device))) for chunk in chunks])
        return render_frames(network, source, motion, self.batch_size)


class GeneratedClips:
    """Clips by a motion diffusion model that is being trained: first frame and own speech become video.

    Motion is sampled without statistics, so that stage 2 need not be trained yet, and rendered by a trained autoencoder.

    Args:
        autoencoder: run folder or checkpoint of stage 1; it is read when the first clip is rendered.
        steps: sampler steps; None = the model's own.
        guidance: scale of the audio guidance; None = the model's own.
        seed: of the noise, which is the same for every clip and every time.
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
        self.path = autoencoder
        self.steps, self.guidance, self.seed, self.batch_size = steps, guidance, seed, batch_size

    @cached_property
    def autoencoder(self) -> Renderer:
        """Stage 1, frozen and in evaluation mode."""
        return load_autoencoder(self.path)[0].requires_grad_(False)

    def check(self, module: LightningModule) -> None:
        """Refuse a module of another stage.

        Raises:
            UserError: it has no diffusion, or no basis of motion.
        """
        if not hasattr(module, "diffusion") or not hasattr(module, "basis"):
            raise UserError(
                f"{type(self).__name__} samples a motion diffusion model, not {type(module).__name__}: choose callbacks for "
                "this stage, such as callbacks=default"
            )

    @torch.no_grad()
    def __call__(self, module: LightningModule, clip: WholeClip) -> Tensor:
        """Frames ``(T, 3, S, S)`` uint8.

        Args:
            module: with ``network``, ``diffusion`` and ``basis`` of stage 3, in evaluation mode.
            clip: the real clip; of its frames only the first is looked at.

        Raises:
            UserError: the clip has no audio features, or there is no such autoencoder.
        """
        if clip.audio is None:
            raise UserError(f"{clip.name}: no audio features; give the data a latent cache")
        with torch.inference_mode(False):  # parameters moved within it could not be used outside
            autoencoder = self.autoencoder.to(module.device)
        source = autoencoder.encode(to_float(clip.frames[:1].to(module.device)))
        basis = module.basis
        coordinates = sample_motion(
            module.network,  # type: ignore[arg-type]
            module.diffusion,  # type: ignore[arg-type]
            clip.audio[None].to(module.device),
            basis.encode(source.motion),  # type: ignore[operator, union-attr]
            steps=self.steps,
            guidance=self.guidance,
            generator=torch.Generator().manual_seed(self.seed),
        )
        motion = basis.decode(coordinates)[0].clamp(-1, 1)  # type: ignore[operator, union-attr]
        return render_frames(autoencoder, source, motion, self.batch_size)
