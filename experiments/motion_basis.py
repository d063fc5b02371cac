"""The motion basis of a latent cache: fitted once to the training clips, kept with the latents."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules.batches import POSE_NAMES
from datamodules.clips.annotations import pose_of, read_annotations
from datamodules.clips.clip_store import ClipStore
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import folder_lock, whole_output
from datamodules.latents import LatentCache, cache_key
from lightning_modules.checkpoints import load_basis
from lightning_modules.networks.motion_basis import (
    FRAMES_PER_DIMENSION,
    MotionBasis,
    basis_report,
    fit_motion_basis,
    fit_raw_basis,
)

log = logging.getLogger(__name__)

BASIS_NAMES = {"whitened": "basis-lids-{key}.safetensors", "raw": "basis-raw-{key}.safetensors"}
"""Kind of basis -> its file in a cache folder; the key hashes ids and videos of the clips that it was fitted to."""


def motion_basis(
    folder: Path, records: Sequence[ClipRecord], store: ClipStore, dimensions: int, kind: str = "whitened"
) -> MotionBasis:
    """The motion basis, ``whitened`` or ``raw``, of the training clips of a complete cache, fitted if it isn't there."""
    train, held_out = ([r for r in records if r.split == split] for split in ("train", "val"))
    path = folder / BASIS_NAMES[kind].format(key=cache_key(*sorted(f"{r.id} {r.sha256}" for r in train)))
    with folder_lock(folder):
        if path.is_file():
            return load_basis(dimensions, folder, path.name)
        cache = LatentCache(folder)
        motion, targets = _motion_and_targets(cache, train, store)
        basis = fit_motion_basis(motion, targets, bent=True) if kind == "whitened" else fit_raw_basis(motion)
        with whole_output(path) as temporary:
            save_file(basis.state_dict(), temporary)
    if held_out and targets and basis.blocks:
        for name, shares in basis_report(basis, *_motion_and_targets(cache, held_out, store)).items():
            told = ", ".join(f"{block} {share:.2f}" for block, share in shares.items())
            log.info("motion basis, R2 of %s: %s", name, told)
    return basis


def require_kind(kind: str) -> None:
    """Refuse a kind of basis that there isn't."""
    if kind not in BASIS_NAMES:
        raise UserError(f"basis={kind}: use {' or '.join(BASIS_NAMES)}")


def require_frames(records: Sequence[ClipRecord], store: ClipStore, dimensions: int) -> None:
    """Refuse a dataset whose training clips have too few frames to carry a basis."""
    frames = sum(record.frames for record in records if record.split == "train")
    if frames < (fewest := FRAMES_PER_DIMENSION * dimensions):
        raise UserError(
            f"{store.root}: {frames} frames in the split train, the motion basis needs {fewest} or more; add training clips"
        )


def _motion_and_targets(
    cache: LatentCache, records: Sequence[ClipRecord], store: ClipStore
) -> tuple[Tensor, dict[str, Tensor]]:
    """Motion ``(N, M)`` of all frames and what is annotated about them, name -> ``(N,)``.

    Targets are empty unless pose, lips and lids of every clip are annotated.
    """
    clips = {record.id: cache.load(record.id)["motion"].float() for record in records}
    for clip, values in clips.items():
        cache.require_finite(clip, values)
    motion = torch.cat(list(clips.values()))
    paths = [store.annotations(record) for record in records]
    poses = [pose_of(read_annotations(path).arrays) for path in paths if path is not None]
    known = [pose for pose in poses if pose is not None]
    if len(known) < len(records):
        return motion, {}
    columns = torch.from_numpy(np.concatenate(known)).unbind(1)
    return motion, dict(zip(POSE_NAMES, columns, strict=True))
