"""Non-saturating GAN losses (Goodfellow et al. 2014; as StyleGAN2 uses them) and their discriminator."""

from collections.abc import Callable, Iterable

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
    """

    def __init__(
        self,
        discriminator: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        weight: float = 1.0,
        start: int = 0,
    ) -> None:
        super().__init__()
        self.discriminator, self.optimizer = discriminator, optimizer
        self.weight, self.start = weight, start

    def generator_loss(self, frames: Tensor) -> Tensor:
        """Low where generated frames ``(B, 3, S, S)`` look real; a scalar."""
        return F.softplus(-self.discriminator(frames)).mean()

    def discriminator_loss(self, real: Tensor, generated: Tensor) -> Tensor:
        """Low where the discriminator tells real from generated frames, both ``(B, 3, S, S)``; a scalar."""
        real_loss = F.softplus(-self.discriminator(real)).mean()
        return real_loss + F.softplus(self.discriminator(generated.detach())).mean()
