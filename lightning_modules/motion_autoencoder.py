"""Stage 1: trains a renderer on frame pairs of one clip, with an optional GAN (manual optimisation)."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.image import PeakSignalNoiseRatio

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.callbacks.finite_weights import diverged
from lightning_modules.learning_rate import Scheduler, scheduled
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.losses.base import LossTerm, RenderedPairs, evaluate_terms
from lightning_modules.networks.base_renderer import Renderer
from lightning_modules.networks.layers import RunningNorm


class MotionAutoencoderModule(L.LightningModule):
    """Losses, optimizers and logging of stage 1. A step of the trainer is a batch, with a GAN, too.

    Args:
        network: the renderer.
        optimizer: partial of a torch optimizer, called with the parameters.
        losses: terms by name, under which they are logged; None leaves one out.
        scheduler: partial of a learning-rate schedule of all optimizers; None keeps the learning rate.
        gan: discriminator with its optimizer; None trains without.
        trainable: ``all``, or a part that the renderer names (``Renderer.parts``): the rest stays as it is.
        channels_last: memory format of the convolutions; faster on CPUs.
        gradient_clip: gradient norm above which a step is scaled down (ordinary steps stay below 10); None = never (paper).

    Raises:
        UserError: the renderer lacks a loss that it needs, or has no such part.
    """

    def __init__(
        self,
        network: Renderer,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        losses: Mapping[str, LossTerm | None],
        scheduler: Scheduler | None = None,
        gan: AdversarialLoss | None = None,
        trainable: str = "all",
        channels_last: bool = False,
        gradient_clip: float | None = 10.0,
    ) -> None:
        super().__init__()
        terms = {name: term for name, term in losses.items() if term is not None}
        if lacking := [name for name in network.required_losses if name not in terms]:
            raise UserError(f"this renderer needs the loss {lacking[0]!r}: a part learns from nothing else")
        if trainable not in (known := ("all", *network.parts())):
            raise UserError(
                f"this renderer has no part {trainable!r}: trainable is one of {', '.join(known)}"
            )
        self.save_hyperparameters(ignore=["network", "optimizer", "losses", "scheduler", "gan"])
        self.automatic_optimization = False
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory)
        self.losses = nn.ModuleDict(terms)
        self.gan = gan.to(memory_format=memory) if gan is not None else None
        self.psnr, self.psnr_copy = (PeakSignalNoiseRatio(data_range=2.0) for _ in range(2))
        self._optimizer, self._scheduler = optimizer, scheduler

    def configure_optimizers(self) -> Any:
        """Optimizer of the trained part and, with a GAN, of the discriminator; each with the schedule."""
        if self.hparams["trainable"] != "all":
            BaseFinetuning.freeze(self.network, train_bn=False)
            for module in self.network.modules():
                if isinstance(module, RunningNorm):
                    module.frozen = True
            for part in self.network.parts()[self.hparams["trainable"]]:
                part.requires_grad_(True)
                for module in part.modules() if isinstance(part, nn.Module) else ():
                    if isinstance(module, RunningNorm):
                        module.frozen = False
        trained = [*self.network.parameters(), *self.losses.parameters()]
        optimizers = [self._optimizer([p for p in trained if p.requires_grad])]
        if self.gan is not None:
            optimizers.append(self.gan.optimizer(self.gan.discriminator.parameters()))
        return tuple(scheduled(optimizer, self._scheduler, self.trainer) for optimizer in optimizers)

    def training_step(self, batch: FramePairBatch, batch_idx: int) -> None:
        """One step of the renderer and, once the GAN has joined, one of the discriminator."""
        optimizers: Any = self.optimizers()
        renderer, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        gan = self.gan if self.gan is not None and self.global_step >= self.gan.start else None
        self.log("train/learning_rate", renderer.param_groups[0]["lr"])
        # The renderer, by all losses; the discriminator is frozen.
        with renderer.toggle_model():
            pairs = self.render(batch)
            losses = self.evaluate(pairs, batch, gan)
            self._backward(renderer, losses["loss"])
            renderer.step()
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()})
        # The discriminator, by the same frames; the renderer is frozen.
        if gan is not None:
            with others[0].toggle_model():
                loss = gan.discriminator_loss(
                    batch.driving, pairs.decoded.frame, batch.regions, self.global_step
                )
                self._backward(others[0], loss)
                # Not by `LightningOptimizer.step`, which counts: the trainer's steps are batches, with a GAN, too.
                self.trainer.strategy.optimizer_step(others[0].optimizer, lambda: None)
            self.log("train/discriminator", loss.detach())
        # Both learning rates follow the batches.
        schedulers: Any = self.lr_schedulers() or []
        with warnings.catch_warnings():  # the discriminator's rate falls before its first step, too
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
                scheduler.step()

    def _backward(self, optimizer: Any, loss: Tensor) -> None:
        """Gradients of a loss, of a limited norm, in place of those of the step before."""
        if loss.device.type == "cpu" and not loss.isfinite():  # a GPU isn't waited for: see `FiniteWeights`
            raise UserError(diverged(self.global_step, self.trainer.default_root_dir))
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        if limit := self.hparams["gradient_clip"]:
            self.clip_gradients(optimizer, gradient_clip_val=limit, gradient_clip_algorithm="norm")

    def render(self, batch: FramePairBatch) -> RenderedPairs:
        """The source frames of a batch in the motion that it shows; in training no more of them than the losses look at."""
        source = self.network.encode(batch.source)
        motion = self.network.motion(batch.shown)
        outlined = self.training and self.hparams["trainable"] in self.network.outlined and self.gan is None
        outlined = outlined and all(loss.outlines for loss in self.losses.values())
        decode = self.network.outline if outlined else self.network.decode
        return RenderedPairs(source, motion, decode(source, motion))

    def evaluate(
        self, pairs: RenderedPairs, batch: FramePairBatch, gan: AdversarialLoss | None = None
    ) -> dict[str, Tensor]:
        """All loss terms, with a GAN ``adversarial``, too, and their weighted sum ``loss``, each a scalar."""
        values = evaluate_terms(self.losses, pairs, batch)
        if gan is not None:
            values["adversarial"] = gan.generator_loss(pairs.decoded.frame, batch.driving, batch.regions)
            values["loss"] = values["loss"] + gan.weight * values["adversarial"]
        return values

    def validation_step(self, batch: FramePairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Log the losses, the PSNR (8-bit range) and the PSNR of copying the source; hand the frames to the callbacks.

        Returns:
            ``frame``: ``(B, 3, S, S)`` reconstructions of the driving frames, about [-1, 1].
        """
        pairs = self.render(batch)
        losses = {f"val/{name}": value for name, value in self.evaluate(pairs, batch).items()}
        self.log_dict(losses, batch_size=len(batch.source), sync_dist=True)
        self.psnr.update(pairs.decoded.frame.clamp(-1, 1), batch.driving)
        self.psnr_copy.update(batch.source, batch.driving)
        self.log("val/psnr", self.psnr, prog_bar=True)
        self.log("val/psnr_copy", self.psnr_copy)
        return {"frame": pairs.decoded.frame}
