"""What a loss of stage 1 is: a weighted term that looks at rendered pairs, named and switched on in the config."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.networks.base_renderer import DecoderOutput, SourceEncoding


class RenderedPairs(NamedTuple):
    """Frame pairs through a renderer.

    Attributes:
        source: the encoded source frames.
        motion: ``(B, M)`` coefficients of the driving frames.
        decoded: the sources in that motion.
    """

    source: SourceEncoding
    motion: Tensor
    decoded: DecoderOutput


class LossTerm(nn.Module, ABC):
    """One term of a loss.

    Args:
        weight: factor in the sum; the logged value is without it.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """The term without its weight, a scalar; None where the batch doesn't know what it would compare with."""


def evaluate_terms(terms: nn.ModuleDict, pairs: RenderedPairs, batch: FramePairBatch) -> dict[str, Tensor]:
    """All terms by name and their weighted sum ``loss``, each a scalar."""
    values: dict[str, Tensor] = {}
    total = pairs.decoded.frame.new_zeros(())
    for name, term in terms.items():
        value = term(pairs, batch)
        if value is not None:
            values[name] = value
            total = total + term.weight * value
    return values | {"loss": total}


def require_output(value: Tensor | None, what: str) -> Tensor:
    """What a renderer gives of a frame.

    Raises:
        UserError: this renderer doesn't give it.
    """
    if value is None:
        raise UserError(f"this renderer gives no {what}: set the losses that look at it to null")
    return value
