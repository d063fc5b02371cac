"""Between stage 1 and stages 2, 3: the latent cache of a dataset and the motion basis fitted to it."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.batches import POSE_NAMES
from datamodules.clips.annotations import pose_of, read_annotations
from datamodules.clips.clip_store import ClipStore, as_store
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.latents import Encode, LatentCache, build_latents, cache_key
from datamodules.media.pictures import to_float
from experiments.locks import one_process_at_a_time
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.checkpoints import weights_hash
from lightning_modules.networks.motion_basis import (
    FRAMES_PER_DIMENSION,
    MotionBasis,
    basis_report,
    fit_motion_basis,
)
from lightning_modules.networks.renderer import Renderer

log = logging.getLogger(__name__)

BASIS_NAME = "basis-{key}.safetensors"
"""The basis in a cache folder; the key hashes ids and videos of the clips that it was fitted to."""
POLL_SECONDS = 5.0
PATIENCE = 3600.0
"""Seconds without a new shard after which other processes are taken for dead; a shard takes minutes on a CPU."""
SCHEMA = 2
"""Raised when the meaning of cached values changes, so that old caches are left alone."""


def ensure_latents(
    autoencoder: Renderer,
    frontend: AudioFrontend,
    records: Sequence[ClipRecord],
    clips: Path | ClipStore,
    progress: bool = True,
    rank: int = 0,
    ranks: int = 1,
) -> tuple[Path, MotionBasis]:
    """Latents of all clips and the motion basis of the training clips; what is there already is kept.

    Several processes that call this together each take a share and wait for the others.

    Args:
        autoencoder: trained stage 1.
        frontend: what turns speech into the cached audio features.
        records: clips of the dataset, of any split; the basis sees the split ``train`` alone.
        clips: dataset folder, or where else the clips' files are.
        progress: log a line now and then.
        rank: of this process.
        ranks: number of processes.

    Returns:
        Folder of the latent cache, and the basis.

    Raises:
        UserError: the training clips have too few frames for a basis.
    """
    parts = (weights_hash(autoencoder), frontend.identity(), autoencoder.size, SCHEMA)
    store = as_store(clips)
    folder = store.root / "latents" / cache_key(*parts)
    step = max(1, len(records) // 5)

    def report(done: int, total: int) -> None:
        if progress and (done % step == 0 or done == total):
            log.info("latents: %d of %d clips", done, total)

    alone = one_process_at_a_time(store.root) if ranks == 1 else contextlib.nullcontext()
    with alone, _on_device(autoencoder, frontend, folder, records):
        encode = encode_clip(autoencoder, frontend)
        size = autoencoder.size
        build_latents(records, store, folder, encode, report, parts=parts, size=size, rank=rank, ranks=ranks)
    cache = _complete(folder, records)
    train = [r for r in records if r.split == "train"]
    key = cache_key(*sorted(f"{r.id} {r.sha256}" for r in train))
    with one_process_at_a_time(store.root):
        basis = _basis(cache, folder / BASIS_NAME.format(key=key), records, store, autoencoder.motion_dim)
    return folder, basis


@contextlib.contextmanager
def _on_device(
    autoencoder: Renderer, frontend: AudioFrontend, folder: Path, records: Sequence[ClipRecord]
) -> Iterator[None]:
    """Both networks on a GPU, if there is one and anything to do."""
    device = encoding_device()
    complete = folder.is_dir() and not any(LatentCache(folder).problem(record) for record in records)
    if device.type == "cpu" or complete:
        yield
        return
    autoencoder.to(device)
    frontend.to(device)
    yield
    autoencoder.cpu()
    frontend.cpu()


def _complete(folder: Path, records: Sequence[ClipRecord]) -> LatentCache:
    """The cache when all processes have done their shares."""
    before, since = None, time.monotonic()
    while True:
        cache = LatentCache(folder)
        left = sum(cache.problem(record) is not None for record in records)
        if not left:
            return cache
        if before is None:
            log.info("latents: waiting for %d clips of the other processes", left)
        if left != before:
            before, since = left, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise UserError(
                f"{folder}: the other processes add nothing any more, {left} clips are left; run it again"
            )
        time.sleep(POLL_SECONDS)


def _basis(
    cache: LatentCache, path: Path, records: Sequence[ClipRecord], store: ClipStore, dimensions: int
) -> MotionBasis:
    """The motion basis in a file, fitted to the training clips if it isn't there."""
    basis = MotionBasis(dimensions)
    if path.is_file():
        basis.load_state_dict(load_file(path))
        return basis
    train = [r for r in records if r.split == "train"]
    frames, fewest = sum(r.frames for r in train), FRAMES_PER_DIMENSION * dimensions
    if frames < fewest:
        raise UserError(
            f"{store.root}: {frames} frames in the split train, the motion basis needs {fewest} or more; add training clips"
        )
    motion, targets = motion_and_targets(cache, train, store)
    basis = fit_motion_basis(motion, targets)
    with whole_output(path) as temporary:
        save_file(basis.state_dict(), temporary)
    held_out = [r for r in records if r.split == "val"]
    if held_out and targets:
        for name, shares in basis_report(basis, *motion_and_targets(cache, held_out, store)).items():
            told = ", ".join(f"{block} {share:.2f}" for block, share in shares.items())
            log.info("motion basis, R2 of %s: %s", name, told)
    return basis


def encoding_device() -> torch.device:
    """A GPU where there is one, this process's own where several train together; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def encode_clip(autoencoder: Renderer, frontend: AudioFrontend, batch: int = 16) -> Encode:
    """Encode function of the latent cache: frames uint8 (T, S, S, 3) and waveform (640T,) -> latents on the CPU.

    It computes where the autoencoder is; the frontend has to be there too.
    """

    def encode(frames: np.ndarray, waveform: np.ndarray) -> dict[str, Tensor]:
        device = next(autoencoder.parameters()).device
        latents, motion = [], []
        for start in range(0, len(frames), batch):
            images = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch])).to(device)
            code = autoencoder.encode(to_float(images.permute(0, 3, 1, 2)))
            latents.append(code.latent.cpu())
            motion.append(code.motion.cpu())
        audio = frontend(torch.from_numpy(np.ascontiguousarray(waveform))[None].to(device))[0].cpu()
        return {"motion": torch.cat(motion), "appearance": torch.cat(latents), "audio": audio}

    return encode


def motion_and_targets(
    cache: LatentCache, records: Sequence[ClipRecord], store: ClipStore
) -> tuple[Tensor, dict[str, Tensor]]:
    """Motion ``(N, M)`` of all frames and what is annotated about them, name -> ``(N,)``.

    Targets are empty unless pose, lips and lids of every clip are annotated.
    """
    motion = torch.cat([cache.load(r.id)["motion"].float() for r in records])
    paths = (store.annotations(r) for r in records)
    poses = [None if path is None else pose_of(read_annotations(path).arrays) for path in paths]
    known = [pose for pose in poses if pose is not None]
    if len(known) < len(poses):
        return motion, {}
    columns = torch.from_numpy(np.concatenate(known)).unbind(1)
    return motion, dict(zip(POSE_NAMES, columns, strict=True))
