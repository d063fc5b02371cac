"""Blocks of the diffusion transformer: attention among tokens, attention to speech, each token with its own modulation."""

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Tokens attend to others that stay as they are; the last layer starts as zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Tokens ``(B, T, W)`` with what they read off ``attended`` ``(B, S, W)`` added."""
        query = self.query(self.norm(tokens)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(attended).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)  # (B, heads, T, W / heads)
        return tokens + self.out(mixed.transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """Transformer block, each token with its own scale, shift and gate (adaLN-Zero, arXiv 2212.09748).

    With ``cross_attention`` the frames' tokens, the last ones, attend to the audio between attention and MLP.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, cross_attention: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.listen = CrossAttention(width, heads) if cross_attention else None

    def forward(
        self, tokens: Tensor, control: Tensor, audio: Tensor | None = None, frames: int = 0
    ) -> Tensor:
        """Tokens and the control of each, ``(B, N, W)``; the last T ``frames`` attend to ``audio`` ``(B, 2T, W)``."""
        # For each token its shift, scale and gate of either branch, each (B, N, W).
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(control).chunk(6, dim=-1)
        # Attention among all tokens.
        hidden = self.norm_attention(tokens) * (1 + scale_a) + shift_a
        qkv = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, W / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, W / heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + gate_a * self.out(mixed.transpose(1, 2).flatten(2))
        # Frames listen to the audio of the whole window.
        if self.listen is not None and audio is not None:
            conditions, moving = tokens[:, :-frames], tokens[:, -frames:]
            tokens = torch.cat([conditions, self.listen(moving, audio)], dim=1)
        # MLP on each token by itself.
        return tokens + gate_m * self.mlp(self.norm_mlp(tokens) * (1 + scale_m) + shift_m)
