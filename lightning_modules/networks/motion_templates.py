"""The dictionary of motion: M directions of the latent space, whose sum with coefficients is a motion (IF-MDM, LIA)."""

import torch
from torch import Tensor, nn


class MotionTemplates(nn.Module):
    """Dictionary of M directions in the latent space, made orthonormal by a QR decomposition at each use."""

    def __init__(self, latent_dim: int, motion_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent_dim, motion_dim))

    def directions(self) -> Tensor:
        """Orthonormal templates ``(L, M)``; the sign of each follows its parameter column, so that it is unique."""
        q, r = torch.linalg.qr(self.weight.float() + 1e-8)
        return q * torch.sign(torch.diagonal(r))

    def forward(self, motion: Tensor) -> Tensor:
        """Map motion coefficients ``(B, M)`` to a latent offset ``(B, L)``."""
        return motion.float() @ self.directions().t()
