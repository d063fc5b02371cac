"""Writing a latent cache, in this process or in several; the encoder is passed in: this package knows no models."""

import contextlib
import json
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.clip_store import ClipFrames, ClipStore, as_store
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.latents import (
    STEPS_PER_FRAME,
    STORED_TYPE,
    LatentCache,
    cache_key,
    claim_cache,
    missing_clips,
)
from datamodules.processes import process_pool

Encode = Callable[[np.ndarray, np.ndarray], dict[str, Tensor]]
"""Frames uint8 (T, S, S, 3), waveform float32 (640T,) -> ``motion`` (T, M), ``appearance`` (T, A), ``audio`` (2T, D)."""

SHARD_FRAMES = 16384
"""Frames of a shard, about: 28 MB with log-mel sound. What an interrupted run loses at most."""
_ABANDONED = 600
"""Seconds after which nobody goes on writing a file; a shard is written in one go."""


class Encoder(Protocol):
    """An ``Encode`` that can be taken to other processes: picklable, and movable to a device."""

    def to(self, device: str) -> Self:
        """The same, computing on that device; what it returns is on the CPU."""

    def __call__(self, frames: np.ndarray, waveform: np.ndarray) -> dict[str, Tensor]:
        """See ``Encode``."""


def build_latents(
    records: Sequence[ClipRecord],
    clips: Path | ClipStore,
    folder: Path,
    encode: Encode,
    *,
    parts: Sequence[str | int | float] = (),
    size: int | None = None,
    shard_frames: int = SHARD_FRAMES,
    devices: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LatentCache:
    """Compute the latents of all clips that have none yet.

    An interrupted run goes on where it was; clips that are damaged or belong to another version of the video are made again.

    Args:
        records: Clips of one dataset.
        clips: The dataset folder, or where else the clips' files are.
        folder: Cache folder, by convention ``ROOT/latents/KEY`` with the key of ``cache_key(*parts)``.
        encode: Runs without gradients; an ``Encoder`` where there are ``devices``.
        parts: What the cache key was made of, noted in ``cache.json``.
        size: Edge of the frames passed to ``encode``; the stored size of each clip if None.
        shard_frames: Frames of a shard, about.
        devices: One process works on each, with one thread; none: this process does everything.
        progress: Called with (finished, all) clips, first with what was there; not if all were.

    Raises:
        UserError: A clip cannot be read, or its latents are not finite; a process died, or the folder belongs to other
            ``parts``.
        ValueError: ``encode`` returned other shapes.
    """
    claim_cache(folder, parts)
    _remove_leftovers(folder)
    todo = missing_clips(folder, records)
    if not todo:
        return LatentCache(folder)
    there = len(records) - len(todo)
    progress(there, len(records))
    if not devices:
        made = count(there + 1)
        for group in group_clips(todo, shard_frames):
            write_latents(group, clips, folder, encode, size, lambda: progress(next(made), len(records)))
        return LatentCache(folder)
    fair = sum(record.frames for record in todo) // (2 * len(devices)) + 1
    groups = list(group_clips(todo, min(fair, shard_frames)))
    for finished in _write_in_processes(groups, (clips, folder, pickle.dumps(encode), size), devices):
        progress(there + finished, len(records))
    return LatentCache(folder)


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed process has half written; what is younger may be another's, who is about to finish it."""
    for file in folder.glob(".*.part.safetensors"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _ABANDONED:
                file.unlink()


def _write_in_processes(
    groups: Sequence[Sequence[ClipRecord]],
    job: tuple[Path | ClipStore, Path, bytes, int | None],
    devices: Sequence[str],
) -> Iterator[int]:
    """Write each group in some process, and tell every second how many clips are finished."""
    context = multiprocessing.get_context("spawn")
    finished, free = context.Value("l", 0), context.Queue()
    for device in devices:
        free.put(device)
    with process_pool(len(devices), "an encoding", job[1], _start_worker, (*job, free, finished)) as pool:
        pending = {pool.submit(_write_group, group) for group in groups}
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_EXCEPTION)
            yield finished.value
            for group in done:
                group.result()


_write: Callable[[Sequence[ClipRecord]], None]
"""What a worker process does with a group of clips; set when it starts."""


def _start_worker(
    clips: Path | ClipStore, folder: Path, encoder: bytes, size: int | None, free: Any, finished: Any
) -> None:
    """Set a worker process up for the next free device."""
    # Read here, from the parent's bytes: as an argument it would be before threads are few, and take all of them.
    encode = pickle.loads(encoder).to(free.get())

    def clip_done() -> None:
        with finished.get_lock():
            finished.value += 1

    global _write
    _write = partial(write_latents, clips=clips, folder=folder, encode=encode, size=size, clip_done=clip_done)


def _write_group(records: Sequence[ClipRecord]) -> None:
    _write(records)


def write_latents(
    records: Sequence[ClipRecord],
    clips: Path | ClipStore,
    folder: Path,
    encode: Encode,
    size: int | None = None,
    clip_done: Callable[[], None] = lambda: None,
) -> None:
    """Compute the latents of some clips and write them as one shard, which appears whole or not at all.

    Arguments and errors as of `build_latents`; ``clip_done`` is called after each clip. Clips without sound get silence.
    """
    store = as_store(clips)
    tensors: dict[str, Tensor] = {}
    for record in records:
        frames = ClipFrames(store, size or record.size).get(record, np.arange(record.frames))
        silent = np.zeros(record.frames * SAMPLES_PER_FRAME, dtype=np.float32)
        waveform = silent if record.audio is None else store.sound(record)
        with torch.inference_mode():
            tensors |= stored_latents(record.id, encode(frames, waveform), record.frames)
        clip_done()
    write_shard(folder, tensors, {record.id: (record.sha256, record.frames) for record in records})


def write_shard(folder: Path, tensors: dict[str, Tensor], contents: Mapping[str, tuple[str, int]]) -> None:
    """Write a shard of some clips' `stored_latents`; ``contents``: of each a hash of what they were made from, and T."""
    name = cache_key(*(f"{clip} {sha256}" for clip, (sha256, _) in contents.items()))
    with whole_output(folder / f"shard-{name}.safetensors") as temporary:
        save_file(tensors, temporary, {"clips": json.dumps(contents)})


def stored_latents(clip: str, latents: Mapping[str, Tensor], frames: int) -> dict[str, Tensor]:
    """Latents of a clip of so many frames, see ``Encode``, as a shard holds them.

    Raises:
        UserError: they are not finite as they are stored.
        ValueError: they have other shapes.
    """
    stored = {}
    for name, steps in STEPS_PER_FRAME.items():
        value = latents[name].cpu()
        if value.ndim != 2 or len(value) != steps * frames:
            raise ValueError(f"clip {clip}: {name} of shape {tuple(value.shape)} for {frames} frames")
        value = value.to(STORED_TYPE).contiguous()
        if not torch.isfinite(value).all():
            raise UserError(
                f"clip {clip}: {name} is not finite as {STORED_TYPE}; is the autoencoder trained?"
            )
        stored[f"{clip}/{name}"] = value
    return stored


def group_clips(records: Sequence[ClipRecord], frames: int = SHARD_FRAMES) -> Iterator[list[ClipRecord]]:
    """Runs of clips with about so many ``frames``: one shard each."""
    group: list[ClipRecord] = []
    for record in records:
        group.append(record)
        if sum(one.frames for one in group) >= frames:
            yield group
            group = []
    if group:
        yield group
