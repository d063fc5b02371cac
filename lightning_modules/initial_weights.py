"""A training that starts from trained weights with a fresh optimizer."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import require_shapes
from lightning_modules.checkpoints import NetworkRecord, load_network, read_network_record
from lightning_modules.weights import load_state, part_of

log = logging.getLogger(__name__)


def start_from(source: Path | str, record: NetworkRecord, model: Any) -> None:
    """Put the trained weights of ``source`` into a LightningModule's network, and the motion basis that they were learned in.

    What losses learned, such as to read pose off motion or motion off speech, comes along where both have it.
    The basis comes along where the motion is that of the same autoencoder; else the model keeps its own.

    Args:
        source: checkpoint, or file of weights in a model folder; see `find_weights`.
        record: of the network that is about to be trained.
        model: has ``network``, and of stages on latents ``basis``.

    Raises:
        UserError: it is of another stage, or its weights don't fit: names the first difference; a part alone is to learn in
            frames of another size than the rest knows.
    """
    found = read_network_record(source)
    if found.stage != record.stage:
        raise UserError(f"init={source}: trained stage {found.stage!r:.40}, not {record.stage!r}")
    part, sizes = model.hparams.get("trainable", "all"), [one.network.get("size") for one in (found, record)]
    if part != "all" and sizes[0] != sizes[1]:
        raise UserError(
            f"init={source}: looks at {sizes[0]} px, this training at {sizes[1]} px: model.trainable={part} keeps the "
            f"latents, so that its size must stay: add model.network.size={sizes[0]}"
        )
    state = load_network(source)[2]
    weights = part_of(state, "network.")
    fits, has = (
        {name: value.shape for name, value in one.items()} for one in (model.network.state_dict(), weights)
    )
    require_shapes(has, fits, f"init={source}")
    load_state(model.network, weights, Path(source))
    _keep_readouts(state, model, source)
    if record.motion_space is None:
        return
    basis = part_of(state, "basis.")
    if found.motion_space == record.motion_space and basis.keys() == model.basis.state_dict().keys():
        load_state(model.basis, basis, Path(source))
    else:
        log.warning(
            "init=%s: trained on the motion of another autoencoder, or in a basis of before; the motion basis is fitted anew",
            source,
        )


def _keep_readouts(state: dict[str, Tensor], model: Any, source: Path | str) -> None:
    """Layers that losses train for themselves: a new one would pull a trained encoder by random numbers."""
    readout = getattr(model, "speech_readout", None)
    if isinstance(readout, nn.Module) and (learned := part_of(state, "speech_readout.")):
        load_state(readout, learned, Path(source))
    losses = getattr(model, "losses", None)
    if not isinstance(losses, nn.Module):  # of the other stages it is a method
        return
    mine = {f"losses.{name}": value for name, value in losses.state_dict().items()}
    kept = {name for name, value in mine.items() if name in state and state[name].shape == value.shape}
    with torch.no_grad():
        for name in kept:
            mine[name].copy_(state[name])
    known = {f"losses.{name}" for name, value in losses.named_parameters() if value.requires_grad}
    if missing := sorted(known - kept):
        terms = ", ".join(sorted({name.split(".")[1] for name in missing}))
        log.warning(
            "init=%s: has nothing of what the losses learn (%s): what they start with pulls at the motion encoder; "
            "a run folder has it, or leave such a loss out (model.losses.pose=null)",
            source,
            terms,
        )
