"""Latent cache: motion, appearance and audio features of every clip, computed once by a trained autoencoder.

A cache is one folder, ``ROOT/latents/KEY``: ``cache.json`` (what the key was made of) and shards, safetensors files of many
clips each, all float16: ``ID/motion`` (T, M) raw coefficients, ``ID/appearance`` (T, A) and ``ID/audio`` (2T, D); the file's
metadata says which video each clip's latents were made from. ``ifmdm encode`` makes one.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datamodules.clips.lru_cache import LRUCache
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import write_text

INFO_NAME = "cache.json"
STORED_TYPE = torch.float16
STEPS_PER_FRAME = {"motion": 1, "appearance": 1, "audio": 2}
Seconds = tuple[float, float]
"""The shortest and the longest speech, in seconds."""
UNDRAWN = "undrawn2_"
"""What the names of speeches begin with that were added to a synthetic dataset's latents and never drawn, and the version
that tells those of now from those of before."""
MAX_OPEN = 32
"""Shards that a loader process keeps mapped."""


class _Place(NamedTuple):
    """Where a clip's latents are: the file, the hash of the video that they were made from, and T."""

    shard: Path
    sha256: str
    frames: int


def cache_key(*parts: str | int | float) -> str:
    """16 hexadecimal digits: hash of everything the latents depend on (weights hash, size, ...); order and type count."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LatentCache:
    """Read access to the latent cache in a folder, else UserError; every process maps ``max_open`` shards itself, at most."""

    def __init__(self, folder: Path, max_open: int = MAX_OPEN) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}: no latents there; make them by `ifmdm encode autoencoder=RUN data.root=DIR`"
            )
        self._places = {clip: place for path in self.shards() for clip, place in _contents(path)}
        self._open: LRUCache[Any] = LRUCache(max_open, _close)

    def shards(self) -> list[Path]:
        """Files of the cache, whole or damaged, the newest last: what is in two counts as in the newer one."""
        files = self.folder.glob("shard-*.safetensors")
        return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def load(self, clip: str) -> dict[str, Tensor]:
        """Latents of one clip by its id: ``motion`` (T, M), ``appearance`` (T, A), ``audio`` (2T, D), float16.

        They are memory-mapped: only what is then used is read. Not to be written to.

        Raises:
            UserError: The clip is missing or its file damaged.
        """
        if clip not in self._places:
            raise UserError(f"{self.folder}: no latents of {clip}; run `ifmdm encode` again")
        path = self._places[clip].shard
        try:
            shard = self._open.get(path, lambda: safe_open(path, framework="pt").__enter__())
            return {name: shard.get_tensor(f"{clip}/{name}") for name in STEPS_PER_FRAME}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged latent file ({error}); run `ifmdm encode` again") from error

    def require_finite(self, clip: str, *values: Tensor) -> None:
        """UserError where values that were read of a clip's latents are NaN or infinite."""
        if not all(value.isfinite().all() for value in values):
            raise UserError(
                f"{self.folder}: latents of {clip} hold values that are NaN or infinite; delete "
                f"{self._places[clip].shard.name} there and run `ifmdm encode` again"
            )

    def problem(self, record: ClipRecord) -> str | None:
        """Why the clip's latents cannot be used as they are, or None."""
        place = self._places.get(record.id)
        if place is None:
            return "are missing"
        if place.sha256 != record.sha256:
            return "were made from another video"
        if place.frames != record.frames:
            return f"have {place.frames} frames, the clip {record.frames}"
        return None

    def undrawn(self, key: str, seconds: Seconds | None = None) -> dict[str, int]:
        """Names of the speeches that nobody drew, in their order, and their frames.

        Those of such clips, see `made_from`, and such lengths, see `undrawn_id`.
        """
        start = undrawn_id(0, seconds)[:-6]
        places = ((name, place) for name, place in sorted(self._places.items()) if name[:-6] == start)
        return {name: place.frames for name, place in places if place.sha256 == key}

    def first_undrawn(
        self, count: int, records: Sequence[ClipRecord], seconds: Seconds | None = None
    ) -> list[tuple[str, int]]:
        """The first so many of those that were made from exactly these clips, UserError where there are fewer."""
        found = list(self.undrawn(made_from(records), seconds).items())[:count]
        if len(found) < count:
            length = "" if seconds is None else " data.undrawn_seconds=[{:g},{:g}]".format(*seconds)
            raise UserError(
                f"{self.folder}: has {len(found)} speeches of those that were not drawn, made from these {len(records)} "
                f"training clips: run `ifmdm encode` with data.undrawn={count}{length}"
            )
        return found

    def check(self, records: Sequence[ClipRecord]) -> None:
        """UserError about the first clip without usable latents."""
        for record in records:
            if problem := self.problem(record):
                raise UserError(f"{self.folder}: latents of {record.id} {problem}; run `ifmdm encode` again")


def _close(shard: Any) -> None:
    shard.__exit__(None, None, None)


def _contents(path: Path) -> Iterator[tuple[str, _Place]]:
    """What a shard holds, by its header; nothing if it is damaged."""
    try:
        with safe_open(path, framework="pt") as shard:
            clips = json.loads((shard.metadata() or {}).get("clips", "{}"))
            names = set(shard.keys())
    except (SafetensorError, OSError, ValueError, RecursionError):
        return
    for clip, told in clips.items() if isinstance(clips, dict) else ():
        if not isinstance(told, list) or [type(one) for one in told] != [str, int]:
            continue
        sha256, frames = told
        if all(f"{clip}/{name}" in names for name in STEPS_PER_FRAME):
            yield clip, _Place(path, sha256, frames)


def undrawn_id(number: int, seconds: Seconds | None = None) -> str:
    """Name of such a speech, by the shortest and longest that it may be; None: as the clips."""
    length = "" if seconds is None else "{:g}-{:g}s_".format(*seconds)
    return f"{UNDRAWN}{length}{number:06d}"


def two_lengths(seconds: Sequence[float], count: int) -> Seconds:
    """``data.undrawn_seconds`` of so many speeches, UserError where it is no such numbers, or there are no speeches."""
    if not count:
        raise UserError(
            "data.undrawn_seconds says how long data.undrawn speeches are: give data.undrawn=N, too"
        )
    match list(seconds):
        case [int() | float() as shortest, int() | float() as longest] if 0.2 <= shortest <= longest <= 600:
            return float(shortest), float(longest)
    raise UserError(
        f"data.undrawn_seconds={list(seconds)}: give the shortest and the longest, 0.2 to 600 s, such as [8,12]"
    )


def made_from(records: Sequence[ClipRecord]) -> str:
    """Hash of the clips that such speeches are made from, in place of a video's."""
    return cache_key(*(f"{record.id} {record.sha256}" for record in records))


def claim_cache(folder: Path, parts: Sequence[str | int | float]) -> None:
    """Make a cache folder that notes what its key was made of; UserError where it belongs to other ``parts``."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / INFO_NAME
    info = {"key": cache_key(*parts), "parts": list(parts)}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: damaged; delete the folder and run `ifmdm encode` again") from error
        if known != info:
            raise UserError(f"{path}: this latent cache was made with other settings; choose another folder")
    else:
        write_text(path, json.dumps(info, indent=2) + "\n")


def missing_clips(folder: Path, records: Sequence[ClipRecord]) -> list[ClipRecord]:
    """Clips without usable latents in a cache folder, which need not exist."""
    if not Path(folder).is_dir():
        return list(records)
    cache = LatentCache(folder)
    return [record for record in records if cache.problem(record) is not None]
