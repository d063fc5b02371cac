"""Latent cache: motion, appearance and audio features of every clip, computed once by a trained autoencoder.

A cache is one folder, ``ROOT/latents/KEY``: ``cache.json`` (what the key was made of) and shards, safetensors files of many
clips each, all float16: ``ID/motion`` (T, M) raw coefficients, ``ID/appearance`` (T, A) and ``ID/audio`` (2T, D); the file's
metadata says which video each clip's latents were made from. ``ifmdm encode`` makes one.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output

INFO_NAME = "cache.json"
STORED_TYPE = torch.float16
STEPS_PER_FRAME = {"motion": 1, "appearance": 1, "audio": 2}
MAX_OPEN = 32
"""Shards that a loader process keeps mapped."""


class _Place(NamedTuple):
    """Where a clip's latents are.

    Attributes:
        shard: the file.
        sha256: of the video that they were made from.
        frames: T.
    """

    shard: Path
    sha256: str
    frames: int


def cache_key(*parts: str | int | float) -> str:
    """Short hash of everything the latents depend on (weights hash, audio encoder, size, ...).

    Args:
        parts: Plain values; their order and type count.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LatentCache:
    """Read access to a latent cache; picklable, every worker maps the shards itself.

    Args:
        folder: Cache folder.
        max_open: Shards that one process keeps mapped.

    Raises:
        UserError: The folder does not exist.
    """

    def __init__(self, folder: Path, max_open: int = MAX_OPEN) -> None:
        self.folder = Path(folder)
        self.max_open = max_open
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder}: no latents there; make them by `ifmdm encode autoencoder=RUN data.root=DIR`"
            )
        self._places = {clip: place for path in self.shards() for clip, place in _contents(path)}
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "max_open": self.max_open, "_places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = OrderedDict()

    def shards(self) -> list[Path]:
        """Files of the cache, whole or damaged, the newest last: what is in two counts as in the newer one."""
        files = self.folder.glob("shard-*.safetensors")
        return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def load(self, clip: str) -> dict[str, Tensor]:
        """Latents of one clip, memory-mapped: only what is then used is read.

        Args:
            clip: Clip id.

        Returns:
            ``motion`` (T, M), ``appearance`` (T, A), ``audio`` (2T, D), float16. Not to be written to.

        Raises:
            UserError: The clip is missing or its file damaged.
        """
        if clip not in self._places:
            raise UserError(f"{self.folder}: no latents of {clip}; run `ifmdm encode` again")
        path = self._places[clip].shard
        try:
            shard = self._mapped(path)
            return {name: shard.get_tensor(f"{clip}/{name}") for name in STEPS_PER_FRAME}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged latent file ({error}); run `ifmdm encode` again") from error

    def _mapped(self, path: Path) -> Any:
        """An open shard, from the few that are kept."""
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = safe_open(path, framework="pt").__enter__()
            if len(self._open) > self.max_open:
                self._open.popitem(last=False)[1].__exit__(None, None, None)
        return self._open[path]

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

    def check(self, records: Sequence[ClipRecord]) -> None:
        """Make sure that usable latents of all clips are there.

        Raises:
            UserError: One line about the first clip without.
        """
        for record in records:
            if problem := self.problem(record):
                raise UserError(f"{self.folder}: latents of {record.id} {problem}; run `ifmdm encode` again")


def _contents(path: Path) -> Iterator[tuple[str, _Place]]:
    """What a shard holds, by its header; nothing if it is damaged."""
    try:
        with safe_open(path, framework="pt") as shard:
            clips = json.loads((shard.metadata() or {}).get("clips", "{}"))
            names = set(shard.keys())
    except (SafetensorError, OSError, ValueError):
        return
    for clip, (sha256, frames) in clips.items():
        if all(f"{clip}/{name}" in names for name in STEPS_PER_FRAME):
            yield clip, _Place(path, sha256, frames)


def claim_cache(folder: Path, parts: Sequence[str | int | float]) -> None:
    """Make a cache folder that notes what its key was made of.

    Raises:
        UserError: The folder belongs to other ``parts``.
    """
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
        return
    with whole_output(path) as temporary:
        temporary.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def missing_clips(folder: Path, records: Sequence[ClipRecord]) -> list[ClipRecord]:
    """Clips without usable latents in a cache folder, which need not exist."""
    if not Path(folder).is_dir():
        return list(records)
    cache = LatentCache(folder)
    return [record for record in records if cache.problem(record) is not None]
