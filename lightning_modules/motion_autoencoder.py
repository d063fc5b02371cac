"""Stage 1: trains the motion autoencoder on frame pairs of one clip, with an optional GAN (manual optimisation)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.image import PeakSignalNoiseRatio

from datamodules.batches import POSE_NAMES, REGION_NAMES, FramePairBatch
from lightning_modules.losses.adversarial import discriminator_loss, generator_loss
from lightning_modules.losses.reconstruction import (
    centre_l1,
    gradient_l1,
    inside_weights,
    landmark_flow_l1,
    pyramid_l1,
    region_weights,
)
from lightning_modules.networks.paper_renderer import Decoded, PaperRenderer

MOUTH = REGION_NAMES.index("mouth")
MOUTH_LEVELS = 2
"""Resolutions of the mouth's own loss: at lower ones a mouth is a few pixels."""
MOUTH_EDGES = 0.5
"""Share of the edge loss in it."""
TRAINABLE_PARTS = ("all", "outer", "decoder", "refine")


class MotionAutoencoderModule(L.LightningModule):
    """Losses, optimizers and logging of stage 1; the network is injected.

    Args:
        network: the autoencoder.
        optimizer: partial of a torch optimizer, called with the parameters.
        discriminator: frame discriminator, or None for training without a GAN.
        discriminator_optimizer: partial; needed where a discriminator is given.
        perceptual: callable ``(prediction, target) -> scalar``, or None.
        l1_weight: of the weighted L1 over ``pyramid_levels`` resolutions.
        gradient_weight: of the edge loss.
        warp_weight: of the L1 between the warped source pixels and the target, which trains the flow directly.
        landmark_weight: of the flow error at landmarks, where the batch has any.
        pose_weight: of the squared error with which a linear layer reads pose, lips and lids off the motion coefficients,
            where the batch knows them (ours; the paper's stage 1 is self-supervised). A small model finds motion sooner.
        mouth_weight: of the L1 and edge loss inside the mouth's box alone, and of the error with which a mouth painter reads
            the place of the mouth off the motion coefficients (ours; it teaches the motion encoder, too); counts where the
            batch knows the box. A network with a mouth painter needs it.
        perceptual_weight: of the perceptual loss.
        gan_weight: of the generator's adversarial loss.
        gan_start: optimisation steps before the GAN joins.
        region_gain: extra weight inside mouth and eyes.
        pyramid_levels: resolutions of the L1 loss; 1 = plain L1 (paper).
        trainable: ``all``; ``outer`` (the finest scale of encoder and decoder, and the mouth painter: lifts a model to twice
            the size);
            ``decoder``; ``refine`` (the refine block alone).
        warmup: steps over which the learning rate rises linearly.
        total_steps: steps over which it then falls to 5 % by a cosine; 0 keeps it constant.
        channels_last: memory format of the convolutions; faster on CPUs.
        gradient_clip: gradient norm above which a step is scaled down (ordinary steps stay below 10); None = never (paper).
    """

    steps: Tensor

    def __init__(
        self,
        network: PaperRenderer,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator: nn.Module | None = None,
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        perceptual: nn.Module | None = None,
        l1_weight: float = 1.0,
        gradient_weight: float = 0.0,
        warp_weight: float = 0.0,
        landmark_weight: float = 0.0,
        pose_weight: float = 0.0,
        mouth_weight: float = 0.0,
        perceptual_weight: float = 1.0,
        gan_weight: float = 1.0,
        gan_start: int = 0,
        region_gain: float = 0.0,
        pyramid_levels: int = 1,
        trainable: str = "all",
        warmup: int = 0,
        total_steps: int = 0,
        channels_last: bool = False,
        gradient_clip: float | None = 10.0,
    ) -> None:
        super().__init__()
        if discriminator is not None and discriminator_optimizer is None:
            raise ValueError("a discriminator needs a discriminator_optimizer")
        if trainable not in TRAINABLE_PARTS:
            raise ValueError(f"trainable is one of {TRAINABLE_PARTS}, got {trainable!r}")
        if trainable == "refine" and network.refine is None:
            raise ValueError("trainable=refine needs a network with refine_channels > 0")
        if network.mouth_painter is not None and not mouth_weight:
            raise ValueError(
                "a network with a mouth painter needs mouth_weight > 0: else it never finds the mouth"
            )
        self.save_hyperparameters(
            ignore=["network", "optimizer", "discriminator", "discriminator_optimizer", "perceptual"]
        )
        self.automatic_optimization = False
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory)
        self.discriminator = discriminator.to(memory_format=memory) if discriminator is not None else None
        self.perceptual = perceptual
        self.pose_readout = nn.Linear(network.motion_dim, len(POSE_NAMES)) if pose_weight else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.psnr = PeakSignalNoiseRatio(data_range=2.0)
        self.psnr_copy = PeakSignalNoiseRatio(data_range=2.0)
        self._optimizer, self._discriminator_optimizer = optimizer, discriminator_optimizer

    def forward(self, source: Tensor, driving: Tensor) -> Decoded:
        """Render ``source (B, 3, S, S)`` in the motion of ``driving``; both in [-1, 1]."""
        return self.network(source, driving)

    def configure_optimizers(self) -> list[Optimizer]:
        """Optimizer of the trainable part and, with a GAN, of the discriminator."""
        self.network.requires_grad_(False)
        for part in trainable_parts(self.network, self.hparams["trainable"]):
            part.requires_grad_(True)
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        parameters += self.pose_readout.parameters() if self.pose_readout is not None else []
        optimizers = [self._optimizer(parameters)]
        if self.discriminator is not None and self._discriminator_optimizer is not None:
            optimizers.append(self._discriminator_optimizer(self.discriminator.parameters()))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        return optimizers

    def training_step(self, batch: FramePairBatch, batch_idx: int) -> None:
        """One step of the autoencoder and, once the GAN has joined, one of the discriminator."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        step = int(self.steps)
        factor = self.learning_rate_factor(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        gan = self.discriminator is not None and step >= self.hparams["gan_start"]
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        decoded, losses = self.measure(batch, gan)
        self._optimise(optimizers[0], losses["loss"])
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()})
        self.log("train/learning_rate", optimizers[0].param_groups[0]["lr"])
        if gan and self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            loss = discriminator_loss(
                self.discriminator(batch.driving), self.discriminator(decoded.frame.detach())
            )
            self._optimise(optimizers[1], loss)
            self.log("train/discriminator", loss.detach())
        self.steps += 1

    def _optimise(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        if self.hparams["gradient_clip"]:
            limit = self.hparams["gradient_clip"]
            self.clip_gradients(optimizer, gradient_clip_val=limit, gradient_clip_algorithm="norm")
        optimizer.step()

    def measure(self, batch: FramePairBatch, gan: bool = False) -> tuple[Decoded, dict[str, Tensor]]:
        """Render a batch; returns the frames and all loss terms with their weighted sum ``loss``, each a scalar."""
        code = self.network.encode(batch.source)
        motion = self.network.motion(batch.driving)
        decoded = self.network.decode(code, motion)
        losses = self.picture_losses(decoded, batch, gan)
        if self.network.mouth_painter is not None:
            losses["place"] = centre_l1(self.network.mouth_painter.centre(motion), batch.regions[:, MOUTH])
            losses["loss"] = losses["loss"] + self.hparams["mouth_weight"] * losses["place"]
        if self.pose_readout is not None and batch.pose.shape[-1]:
            both = torch.stack([code.motion, motion], dim=1)  # (B, 2, M)
            known = batch.pose.isfinite()
            error = torch.where(known, self.pose_readout(both) - batch.pose.nan_to_num(), 0.0).square()
            losses["pose"] = error.sum() / known.sum().clamp(min=1)
            losses["loss"] = losses["loss"] + self.hparams["pose_weight"] * losses["pose"]
        return decoded, losses

    def picture_losses(self, decoded: Decoded, batch: FramePairBatch, gan: bool = False) -> dict[str, Tensor]:
        """Loss terms that look at frames and flow, and their weighted sum ``loss``."""
        h = self.hparams
        weights = region_weights(batch.regions, batch.driving.shape[-1], h["region_gain"])
        terms = {"l1": pyramid_l1(decoded.frame, batch.driving, weights, h["pyramid_levels"])}
        total = h["l1_weight"] * terms["l1"]
        if h["gradient_weight"]:
            terms["gradient"] = gradient_l1(decoded.frame, batch.driving, weights)
            total = total + h["gradient_weight"] * terms["gradient"]
        if h["warp_weight"]:
            terms["warp"] = pyramid_l1(decoded.warped, batch.driving, weights, h["pyramid_levels"])
            total = total + h["warp_weight"] * terms["warp"]
        if h["landmark_weight"] and batch.landmarks.shape[2]:
            terms["landmark"] = landmark_flow_l1(decoded.flow, batch.landmarks)
            total = total + h["landmark_weight"] * terms["landmark"]
        if h["mouth_weight"]:
            mouth = inside_weights(batch.regions[:, MOUTH], batch.driving.shape[-1])
            share_with_box = mouth.amax(dim=(1, 2, 3)).sign().mean().clamp(min=1 / len(mouth))
            error = pyramid_l1(decoded.frame, batch.driving, mouth, MOUTH_LEVELS)
            error = error + MOUTH_EDGES * gradient_l1(decoded.frame, batch.driving, mouth)
            terms["mouth"] = error / share_with_box
            total = total + h["mouth_weight"] * terms["mouth"]
        if self.perceptual is not None and h["perceptual_weight"]:
            terms["perceptual"] = self.perceptual(decoded.frame, batch.driving)
            total = total + h["perceptual_weight"] * terms["perceptual"]
        if gan and self.discriminator is not None:
            terms["adversarial"] = generator_loss(self.discriminator(decoded.frame))
            total = total + h["gan_weight"] * terms["adversarial"]
        return terms | {"loss": total}

    def validation_step(self, batch: FramePairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Log the losses, the PSNR (8-bit range) and the PSNR of copying the source; hand the frames to the callbacks.

        Returns:
            ``frame``: ``(B, 3, S, S)`` reconstructions of the driving frames, about [-1, 1].
        """
        decoded, losses = self.measure(batch)
        self.log_dict(
            {f"val/{k}": v for k, v in losses.items()}, batch_size=len(batch.source), sync_dist=True
        )
        self.psnr.update(decoded.frame.clamp(-1, 1), batch.driving)
        self.psnr_copy.update(batch.source, batch.driving)
        self.log("val/psnr", self.psnr, prog_bar=True)
        self.log("val/psnr_copy", self.psnr_copy)
        return {"frame": decoded.frame}

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then a cosine down to 5 %."""
        warmup, total = self.hparams["warmup"], self.hparams["total_steps"]
        if step < warmup:
            return (step + 1) / warmup
        if not total:
            return 1.0
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        return 0.05 + 0.95 * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress))))


def trainable_parts(network: PaperRenderer, part: str) -> Sequence[nn.Module | nn.Parameter]:
    """Modules that a partial training mode optimises (see ``MotionAutoencoderModule``)."""
    if part == "outer":
        outer: list[nn.Module | nn.Parameter] = [
            network.encoder.stem,
            network.encoder.blocks[0],
            network.scales[-1],
        ]
        return outer + ([network.mouth_painter] if network.mouth_painter is not None else [])
    if part == "decoder":
        decoder: list[Any] = [network.constant, network.first, network.first_rgb, network.scales]
        return decoder + [m for m in (network.coarse, network.mouth_painter, network.refine) if m is not None]
    if part == "refine":
        return [network.refine] if network.refine is not None else []
    return [network]
