"""What a loss of stage 1 is: a weighted term that looks at rendered pairs, named and switched on in the config."""

from abc import ABC, abstractmethod
from typing import NamedTuple, cast

from torch import Tensor, nn

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.networks.base_renderer import DecoderOutput, SourceEncoding


class RenderedPairs(NamedTuple):
    """Frame pairs through a renderer.

    Attributes:
        source: the encoded source frames.
        motion: ``(B, M)`` coefficients of the frames whose motion is shown.
        decoded: the sources in that motion.
    """

    source: SourceEncoding
    motion: Tensor
    decoded: DecoderOutput


class LossTerm(nn.Module, ABC):
    """One term of a loss.

    Args:
        weight: factor in the sum; the logged value is without it.

    Attributes:
        needs: fields of `DecoderOutput` that it looks at and not every renderer gives.
        outlines: whether it can judge what `Renderer.outline` gives, where nothing is painted.
    """

    needs: tuple[str, ...] = ()
    outlines: bool = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, pairs: RenderedPairs, batch: FramePairBatch) -> Tensor | None:
        """The term without its weight, a scalar; None where the batch doesn't know what it would compare with."""


def evaluate_terms(terms: nn.ModuleDict, pairs: RenderedPairs, batch: FramePairBatch) -> dict[str, Tensor]:
    """All terms by name and their weighted sum ``loss``, each a scalar.

    Raises:
        UserError: the renderer doesn't give what some of them look at.
    """
    given = {name for name, value in pairs.decoded._asdict().items() if value is not None}
    if blind := [name for name, term in terms.items() if set(cast(LossTerm, term).needs) - given]:
        switches = " ".join(f"model.losses.{name}=null" for name in blind)
        raise UserError(f"the renderer doesn't give what losses {', '.join(blind)} look at: set {switches}")
    values: dict[str, Tensor] = {}
    total = pairs.decoded.frame.new_zeros(())
    for name, term in terms.items():
        value = term(pairs, batch)
        if value is not None:
            values[name] = value
            total = total + term.weight * value
    return values | {"loss": total}
