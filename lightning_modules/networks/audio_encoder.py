"""Audio encoders: cached audio features -> embeddings that are trained together with the motion networks.

Both take and give 50 Hz, two vectors a video frame.
"""

import torch
from torch import Tensor, nn

from lightning_modules.networks.processes import ItemDropout


class FeatureProjection(nn.Module):
    """Linear embedding of features of a frozen speech model (wav2vec2, HuBERT, all their layers, Whisper).

    Args:
        in_dim: Size of a cached feature vector, 768 for the base models.
        out_dim: Size of an embedding.
        layers: of how many layers' vectors a feature vector is made, one behind the other; what is embedded is their mean
            under learned weights (as in SUPERB, arXiv 2105.01051).

    Raises:
        ValueError: in_dim is no multiple of layers.
    """

    def __init__(self, in_dim: int = 768, out_dim: int = 512, layers: int = 1) -> None:
        super().__init__()
        if layers < 1 or in_dim % layers:
            raise ValueError(f"in_dim must be a multiple of layers, one or more, got {in_dim} and {layers}")
        self.in_dim, self.out_dim, self.layers = in_dim, out_dim, layers
        self.projection = nn.Linear(in_dim // layers, out_dim)
        self.mix = nn.Parameter(torch.zeros(layers)) if layers > 1 else None
        # Xavier weights: the embedding keeps the features' scale.
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, audio: Tensor) -> Tensor:
        """Embeds each vector by itself: ``(B, 2T, in_dim)`` -> ``(B, 2T, out_dim)``."""
        if self.mix is not None:
            states = audio.unflatten(-1, (self.layers, -1))  # (B, 2T, layers, D)
            audio = (torch.softmax(self.mix, dim=0)[:, None] * states).sum(dim=-2)
        return self.projection(audio)


class _ResidualConvolution(nn.Module):
    """Pre-norm residual block: dilated convolution over time, then a mixing of channels."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
        self.mix = nn.Linear(width, width)
        self.dropout = ItemDropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Adds the block's output to ``(B, 2T, width)``."""
        out = self.convolution(self.norm(hidden).transpose(1, 2)).transpose(1, 2)
        return hidden + self.mix(self.dropout(nn.functional.gelu(out)))


class MelEncoder(nn.Module):
    """Convolutions on the stacked log-mel spectrogram; needs no pretrained speech model.

    The receptive field is +-15 vectors, +-300 ms, about the reach of coarticulation: one convolution of 3,
    then residual blocks of 5 with dilation 1, 2 and 4. Every normalisation runs over channels of one moment,
    so nothing outside that field can leak in.

    Args:
        in_dim: Mel bands times stacked columns, 160.
        width: Channels inside.
        out_dim: Size of an embedding.
        dropout: Dropout inside the blocks.
    """

    def __init__(self, in_dim: int = 160, width: int = 192, out_dim: int = 192, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.stem = nn.Conv1d(in_dim, width, 3, padding=1)
        self.blocks = nn.ModuleList(_ResidualConvolution(width, dilation, dropout) for dilation in (1, 2, 4))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_dim)
        self._initialize()

    def _initialize(self) -> None:
        """Xavier weights, zero biases; the last layer of a residual block is small: near identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for block in self.blocks:
            assert isinstance(block, _ResidualConvolution)
            nn.init.xavier_uniform_(block.mix.weight, gain=0.3)

    def forward(self, audio: Tensor) -> Tensor:
        """Encodes stacked log-mel ``(B, 2T, in_dim)``, about zero mean and unit std, to ``(B, 2T, out_dim)``."""
        hidden = self.stem(audio.transpose(1, 2)).transpose(1, 2)  # (B, 2T, width)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))


class AttentionPooling(nn.Module):
    """One vector for a whole window: softmax-weighted mean over time with a learned query for each head.

    Args:
        dim: Size of the vectors.
        heads: Number of weighted means; ``dim`` must be a multiple.
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(dim, heads)
        # Zero scores: the pooling starts as the plain mean.
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pools ``(B, T, dim)`` to ``(B, dim)``."""
        weights = torch.softmax(self.score(hidden), dim=1)  # (B, T, heads)
        grouped = hidden.unflatten(-1, (self.heads, -1))  # (B, T, heads, dim / heads)
        return (weights.unsqueeze(-1) * grouped).sum(dim=1).flatten(1)  # (B, dim)
