"""Non-saturating GAN losses (Goodfellow et al. 2014; as StyleGAN2 uses them)."""

from torch import Tensor
from torch.nn import functional as F


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Softplus of the negated logits ``(B,)`` of generated frames."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Softplus loss that pushes logits ``(B,)`` of real frames up and of generated frames down."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
