"""Stage 3: trains the motion diffusion model on motion windows."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.batches import MotionWindowBatch
from datamodules.errors import UserError
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.schedules import expand
from lightning_modules.diffusion.window_units import WindowUnits, going_on
from lightning_modules.learning_rate import Scheduler, scheduled
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer
from lightning_modules.networks.motion_basis import BLOCKS, MotionBasis
from lightning_modules.networks.motion_conditions import CONDITION_TOKENS, KeepMask
from lightning_modules.networks.processes import own_items, shared_count, whole_batch
from lightning_modules.networks.statistics_estimator import window_statistics

AUDIO_DROPOUTS = ("joint", "paper")
CONDITIONS = (*CONDITION_TOKENS, "audio")
"""What may be dropped in training."""
MOST_OF_EVENTS = 4.0
"""Squared distance from the window's mean, in stds, beyond which a frame is no more of an event."""
_VALIDATION_DRAWS = 4
"""Noise levels at which every validation window is judged."""


class Window(NamedTuple):
    """What the network sees and is to say, in basis coordinates; of a standardised window in its own units.

    Attributes:
        x0: ``(B, T, M)`` data.
        audio: ``(B, 2 (P + T + P), D)`` speech of the window and of a prefix's P frames on either side.
        hint: ``(B, 1, M)`` frame before; ``(B, P, M)`` of a prefix, NaN where not known.
        mean: ``(B, M)`` over hint and window, in basis coordinates always.
        std: ``(B, M)`` likewise.
        valid: ``(B, T)``.
    """

    x0: Tensor
    audio: Tensor
    hint: Tensor
    mean: Tensor
    std: Tensor
    valid: Tensor


def encode_window(
    batch: MotionWindowBatch, basis: MotionBasis, standardised: bool = False, prefix: int = 0
) -> Window:
    """Moves a batch into basis coordinates and measures its statistics there.

    Args:
        batch: raw motion and its speech.
        basis: motion basis.
        standardised: whether motion is in units of the window's own statistics, see `WindowUnits`.
        prefix: P, frames before the window that the network sees, `CONTEXT` at most; 0: the hint alone.
    """
    motion = basis.encode(batch.motion)  # (B, 65, M)
    mean, std = window_statistics(motion, batch.valid)
    x0, hint, audio = motion[:, 1:], motion[:, :1], batch.audio
    if prefix:
        hint = basis.encode(batch.previous[:, -prefix:])
        before, after = batch.audio_around.unbind(dim=1)
        audio = torch.cat([before[:, -2 * prefix :], audio, after[:, : 2 * prefix]], dim=1)
    if standardised:
        units = WindowUnits.of(mean, std)
        x0, hint = units.encode(x0), units.encode(hint)
    return Window(x0, audio, hint, mean, std, batch.valid)


def dropout_probabilities(condition_dropout: float | Mapping[str, float]) -> dict[str, float]:
    """Probability of dropping each of ``CONDITIONS``; one number stands for all.

    Raises:
        UserError: A condition is unknown or missing, or a value is no probability.
    """
    given = condition_dropout
    chosen = dict(given) if isinstance(given, Mapping) else dict.fromkeys(CONDITIONS, given)
    if set(chosen) != set(CONDITIONS):
        raise UserError(
            f"condition_dropout names {', '.join(map(str, chosen))}: give one number, or {', '.join(CONDITIONS)}"
        )
    if wrong := [name for name, value in chosen.items() if not 0 <= value <= 1]:
        raise UserError(f"condition_dropout of {wrong[0]} is {chosen[wrong[0]]}: use a number from 0 to 1")
    return chosen


def block_values(given: Mapping[str, float] | None, what: str) -> dict[str, float]:
    """Numbers by block of a basis; with one that has no such block they say nothing, so that it needs no other config.

    Raises:
        UserError: no basis has a block of such a name, or a number is negative or infinite.
    """
    values = dict(given or {})
    if wrong := sorted(set(values) - set(BLOCKS)):
        raise UserError(f"{what} names {wrong[0]!r:.40}: use some of {', '.join(BLOCKS)}")
    if wrong := [name for name, value in values.items() if not 0 <= value < float("inf")]:
        raise UserError(f"{what} of {wrong[0]} is {values[wrong[0]]}: use a number of at least 0")
    return values


def random_keep(
    batch: int,
    probabilities: Mapping[str, float],
    audio_dropout: str,
    generator: torch.Generator | None = None,
) -> KeepMask:
    """Draws, on the CPU, which conditions of a batch are dropped in training, each of ``CONDITIONS`` by itself.

    ``audio_dropout="joint"``: the audio of both branches at once, the noisy motion never. ``"paper"``: the audio of the
    modulation, and by itself the whole joined audio-motion branch.
    """
    limits = torch.tensor([probabilities[name] for name in (*CONDITIONS, "audio")]).unsqueeze(1)
    hint, mean, std, audio, joined = torch.rand(5, batch, generator=generator).ge(limits).unbind(0)
    if audio_dropout == "joint":
        return KeepMask(hint, mean, std, audio, audio, torch.ones_like(audio))
    return KeepMask(hint, mean, std, audio, joined, joined)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``(B, T, M)`` over the frames where ``valid`` ``(B, T)``, those of all processes; see ``shared_count``."""
    weight = valid.unsqueeze(-1).to(values)
    return (values * weight).sum() / shared_count(weight.sum() * values.shape[-1], least=1)


class MotionDiffusionModule(L.LightningModule):
    """Losses, optimizer and logging of the motion diffusion model.

    Args:
        network: The diffusion transformer.
        basis: Motion basis; data, conditions and noise live in its coordinates.
        diffusion: Schedule, target, weighting, sampler and guidance.
        optimizer: Partial optimizer that takes the parameters.
        scheduler: Partial learning-rate schedule; None keeps the learning rate.
        condition_dropout: Probability of dropping each of ``CONDITIONS``, each by itself; a number stands for all.
        audio_dropout: ``"joint"`` or ``"paper"``, see ``random_keep``.
        velocity_weight: Weight of the squared error of frame-to-frame differences (the one from the hint
            included) of the predicted data, times alpha^2, which keeps it bounded for every target.
        variational_weight: Weight lambda of the variational bound with learned variance (arXiv 2102.09672,
            eq. 16).
        block_weights: Of the squared errors of the blocks that the basis has, by name, 1 where none is given. The block of
            the rest has most coordinates, and would have most of the loss.
        event_gains: By block likewise, extra weight of the frames that are far from the window's mean, such as blinks: as
            many times the squared distance in stds, which counts up to ``MOST_OF_EVENTS``.
        speech_weight: Weight of the squared error of the data as a linear layer reads it off the embedded speech alone: what
            the audio encoder learns by from the first step on.

    Raises:
        UserError: If a dropout or a block is unknown, a weight is none, or network and diffusion disagree on the learned
            variance.
    """

    def __init__(
        self,
        network: DiffusionTransformer,
        basis: MotionBasis,
        diffusion: GaussianDiffusion,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Scheduler | None = None,
        condition_dropout: float | Mapping[str, float] = 0.3,
        audio_dropout: str = "joint",
        velocity_weight: float = 0.0,
        variational_weight: float = 0.001,
        block_weights: Mapping[str, float] | None = None,
        event_gains: Mapping[str, float] | None = None,
        speech_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.block_weights, self.event_gains = (
            block_values(given, name)
            for given, name in ((block_weights, "block_weights"), (event_gains, "event_gains"))
        )
        if not any(self.block_weights.get(name, 1.0) for name in BLOCKS):
            raise UserError("all block_weights are 0: nothing would be learnt; give one block a weight")
        weights = {
            "velocity_weight": velocity_weight, "speech_weight": speech_weight, "variational_weight": variational_weight
        }  # fmt: skip
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"{name} is {weight}: use a number of at least 0")
        if audio_dropout not in AUDIO_DROPOUTS:
            known = ", ".join(AUDIO_DROPOUTS)
            raise UserError(f"audio_dropout {audio_dropout!r} is unknown: use one of {known}")
        if network.learned_variance != diffusion.learned_variance:
            raise UserError("network and diffusion disagree on learned_variance: set both to the same value")
        self.save_hyperparameters(ignore=["network", "basis", "diffusion", "optimizer", "scheduler"])
        self.save_hyperparameters({"diffusion": diffusion.settings()})
        self.dropout = dropout_probabilities(condition_dropout)
        self.network, self.basis, self.diffusion = network, basis, diffusion
        self.speech_readout = (
            nn.Linear(2 * int(network.audio_encoder.out_dim), network.motion_dim) if speech_weight else None  # type: ignore[arg-type]
        )
        self._optimizer, self._scheduler = optimizer, scheduler

    def configure_optimizers(self) -> Any:
        """The optimizer and the learning-rate schedule."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        return scheduled(optimizer, self._scheduler, self.trainer)

    def losses(self, window: Window, t: Tensor, noise: Tensor, keep: KeepMask | None) -> dict[str, Tensor]:
        """Loss terms of one draw of times ``(B,)`` in (0, 1] and noise ``(B, T, M)``; all conditions kept without masks.

        Returns:
            Scalars: ``loss``, ``output`` (weighted squared error), and where switched on ``velocity``, ``speech``,
                ``variational`` (nats per dimension and step).
        """
        # The network's output (B, T, M or 2 M) for noisy motion, against the target.
        noisy = self.diffusion.add_noise(window.x0, noise, t)
        conditions = self.network.embed(window.audio, window.hint, window.mean, window.std, keep)
        output = self.network.denoise(noisy, t, conditions)
        error = self.diffusion.squared_error(output, window.x0, noise, t)
        weights = self.weights(window)
        loss = masked_mean(weights * error, window.valid)
        terms = {"output": loss}
        # Steps from frame to frame of the data that it predicts.
        if self.hparams["velocity_weight"] > 0:
            predicted = self.diffusion.read(output, noisy, t).x0
            first = window.hint[:, -1:]
            found, true = (torch.cat([first, x0], dim=1).diff(dim=1) for x0 in (predicted, window.x0))
            alpha = expand(self.diffusion.noise_schedule.alpha_sigma(t)[0], noisy)
            terms["velocity"] = masked_mean(weights * (alpha * (found - true)).square(), window.valid)
            loss = loss + self.hparams["velocity_weight"] * terms["velocity"]
        # What speech alone says of the data.
        if self.speech_readout is not None:
            read = self.speech_readout(conditions.heard) - window.x0
            terms["speech"] = masked_mean(weights * read.square(), window.valid)
            loss = loss + self.hparams["speech_weight"] * terms["speech"]
        # The variance that it predicts.
        if self.diffusion.learned_variance:
            bound = self.diffusion.variational_bound(output, window.x0, noisy, t)
            terms["variational"] = masked_mean(bound, window.valid)
            scale = self.hparams["variational_weight"] * self.diffusion.noise_schedule.steps
            loss = loss + scale * terms["variational"]
        return {"loss": loss, **terms}

    def weights(self, window: Window) -> Tensor | float:
        """What the squared errors of a window ``(B, T, M)`` count, by blocks and events; their mean over blocks is 1."""
        parts = self.basis.blocks
        if not parts or not (self.block_weights or self.event_gains):
            return 1.0
        of_block, of_event = torch.ones_like(window.x0[0, 0]), torch.zeros_like(window.x0[0, 0])
        for name, part in parts.items():
            of_block[part] = self.block_weights.get(name, 1.0)
            of_event[part] = self.event_gains.get(name, 0.0)
        of_block = of_block / of_block.mean()
        if not self.event_gains:
            return of_block
        mean, std = (x.unsqueeze(1) for x in (window.mean, window.std))
        away = window.x0 if self.diffusion.standardised else (window.x0 - mean) / std.clamp(min=1e-3)
        return of_block * (1 + of_event * away.square().clamp(max=MOST_OF_EVENTS))

    def encode(self, batch: MotionWindowBatch) -> Window:
        """See `encode_window`."""
        return encode_window(batch, self.basis, self.diffusion.standardised, self.network.prefix)

    def training_step(self, batch: MotionWindowBatch, batch_idx: int) -> Tensor:
        """One random time and one noise for each window."""
        window = self.encode(batch)
        size, frames = window.x0.shape[0], window.x0.shape[1:]
        # A time (B,), the dropped conditions and the noise, drawn for each window of all processes by itself.
        count = whole_batch(size)
        t = own_items(self.diffusion.noise_schedule.random_times(count)).to(window.x0)
        keep = random_keep(count, self.dropout, self.hparams["audio_dropout"])
        keep = KeepMask(*(own_items(mask).to(self.device) for mask in keep))
        noise = own_items(torch.randn(count, *frames, dtype=window.x0.dtype, device=self.device))
        terms = self.losses(window, t, noise, keep)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=size)
        return terms["loss"]

    def validation_step(self, batch: MotionWindowBatch, batch_idx: int) -> None:
        """Loss with all conditions at fixed times and noise; on the first batch also the error of samples."""
        generator = torch.Generator().manual_seed(batch_idx)
        window = self.encode(batch)
        # Every window several times, at times that are spread evenly over [0, 1].
        repeated = Window(*(value.repeat(_VALIDATION_DRAWS, *[1] * (value.ndim - 1)) for value in window))
        count = len(repeated.x0)
        order = torch.randperm(count, generator=generator)
        steps = self.diffusion.noise_schedule.steps
        t = torch.ceil((order + 0.5) / count * steps) / steps
        noise = torch.randn(repeated.x0.shape, generator=generator).to(window.x0)
        terms = self.losses(repeated, t.to(window.x0), noise, None)
        figures = [terms] if batch_idx else [terms, self.sample_figures(window, generator)]
        for values in figures:
            named = {f"val/{name}": value for name, value in values.items()}
            self.log_dict(named, batch_size=len(window.x0), sync_dist=True)

    @torch.no_grad()
    def sample_figures(self, window: Window, generator: torch.Generator) -> dict[str, Tensor]:
        """Compares samples (true hint and statistics, no guidance) with the truth, block by block.

        Returns:
            For each block, or for ``motion`` in a basis without blocks: ``sample_mse_BLOCK`` in basis units,
            where an independent draw of unit variance has 2, and ``sample_correlation_BLOCK``, the mean
            correlation over time.
        """
        noise = torch.randn(window.x0.shape, generator=generator).to(window.x0)
        conditions = self.network.embed(window.audio, window.hint, window.mean, window.std)
        units = None
        if self.diffusion.by_construction:
            units = WindowUnits.of(window.mean, window.std, self.diffusion.standardised)
        corrected = partial(going_on, before=window.hint, units=units)
        network = partial(self.network.denoise, conditions=conditions)
        sample, true = self.diffusion.sample(network, noise, generator, None, corrected), window.x0
        if units is not None:
            sample, true = units.unseen(sample), units.unseen(true)
        figures = {}
        for name, part in (self.basis.blocks or {"motion": slice(None)}).items():
            drawn, truth = sample[..., part], true[..., part]
            figures[f"sample_mse_{name}"] = masked_mean((drawn - truth).square(), window.valid)
            figures[f"sample_correlation_{name}"] = _correlation(drawn, truth, window.valid)
        return figures


def _correlation(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Mean over windows and dimensions of the correlation over valid frames; inputs ``(B, T, M)``."""
    weight = valid.unsqueeze(-1).to(first)
    count = weight.sum(dim=1, keepdim=True).clamp(min=1)
    first = weight * (first - (weight * first).sum(dim=1, keepdim=True) / count)
    second = weight * (second - (weight * second).sum(dim=1, keepdim=True) / count)
    norms = first.square().sum(dim=1) * second.square().sum(dim=1)
    return ((first * second).sum(dim=1) / norms.clamp(min=1e-12).sqrt()).mean()
