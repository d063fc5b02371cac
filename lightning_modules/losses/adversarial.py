"""Non-saturating GAN losses (Goodfellow et al. 2014; as StyleGAN2 uses them) and their discriminator."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer


class AdversarialLoss(nn.Module):
    """A discriminator of frames with its optimizer, and what it says of the generator.

    Args:
        discriminator: frames ``(B, 3, S, S)`` in [-1, 1] to logits ``(B,)``; positive = looks real.
        optimizer: partial of a torch optimizer, called with the discriminator's parameters.
        weight: of the generator's loss.
        start: batches before it joins.
        r1: weight of the squared gradient of the logits of real frames (Mescheder et al. 2018, arXiv 1801.04406); 0 = none,
            as the authors' files have it.
        r1_every: batches from one such penalty to the next, which counts so many times (lazy, as StyleGAN2 does).
        windows: cuts what the discriminator sees out of the frames, by boxes of mouth and eyes; None: it sees whole ones.
        feature_matching: weight beside the logits of how far the discriminator's features of a generated frame are from those
            of the real one (Wang et al. 2018, arXiv 1711.11585, equation 3), if it has ``logits_and_features``; 0 = none.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        weight: float = 1.0,
        start: int = 0,
        r1: float = 0.0,
        r1_every: int = 16,
        windows: nn.Module | None = None,
        feature_matching: float = 0.0,
    ) -> None:
        super().__init__()
        if feature_matching and not hasattr(discriminator, "logits_and_features"):
            raise ValueError(f"{type(discriminator).__name__} shows no features: feature_matching must be 0")
        self.windows, self.feature_matching = windows, feature_matching
        self.r1, self.r1_every = r1, r1_every
        self.discriminator, self.optimizer = discriminator, optimizer
        self.weight, self.start = weight, start

    def generator_loss(self, frames: Tensor, real: Tensor, regions: Tensor) -> Tensor:
        """Low where generated frames ``(B, 3, S, S)`` look real and, by feature matching, like the ``real`` ones; a scalar.

        The boxes ``(B, 3, 4)`` of mouth and eyes hold for both.
        """
        frames = self._cut(frames, regions)
        if not self.feature_matching:
            return F.softplus(-self.discriminator(frames)).mean()
        logits, found = self.discriminator.logits_and_features(frames)  # type: ignore[operator]
        with torch.no_grad():
            _, wanted = self.discriminator.logits_and_features(self._cut(real, regions))  # type: ignore[operator]
        apart = torch.stack([F.l1_loss(one, other) for one, other in zip(found, wanted, strict=True)])
        return F.softplus(-logits).mean() + self.feature_matching * apart.sum()

    def discriminator_loss(self, real: Tensor, generated: Tensor, regions: Tensor, step: int) -> Tensor:
        """Low where the discriminator tells real from generated frames, both ``(B, 3, S, S)``; a scalar.

        Every ``r1_every``-th ``step`` the penalty of its gradient joins. The boxes ``(B, 3, 4)`` hold for both.
        """
        penalised = self.r1 > 0 and step % self.r1_every == 0
        real = self._cut(real, regions).detach().requires_grad_(penalised)
        logits = self.discriminator(real)
        false = self.discriminator(self._cut(generated.detach(), regions))
        loss = F.softplus(-logits).mean() + F.softplus(false).mean()
        if penalised:
            (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            loss = loss + self.r1_every * self.r1 / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()
        return loss

    def _cut(self, frames: Tensor, regions: Tensor) -> Tensor:
        return frames if self.windows is None else self.windows(frames, regions)
