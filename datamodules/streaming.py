"""Clips in litdata's chunks, for object storage and network file systems; needs ``ifmdm[stream]``.

A stream is one folder, ``ROOT/stream``, that may be copied anywhere litdata reads from (``s3://``, ``gs://``, ...). Its
first item is the manifest with the shapes of all annotations; each further one holds the files of a clip, in the
manifest's order. Where ``StreamingDataModule`` is given its address, the batches are those of the folder it was made of.
"""

import json
import multiprocessing
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.clips.clip_store import ClipStore
from datamodules.clips.lru_cache import LRUCache
from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, parse_manifest, read_manifest
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.talking_head import TalkingHeadDataModule

STREAM_FOLDER = "stream"
CHUNK_BYTES = 64_000_000
MAX_CLIPS = 64
FILES = ("video", "audio", "annotations")


def write_stream(root: Path) -> Path:
    """Write the clips of a prepared folder as ``ROOT/stream``, in place of one with another manifest; returns its folder.

    Raises:
        UserError: litdata is not installed, or there is no manifest.
    """
    litdata = require_litdata()
    root = Path(root)
    records = read_manifest(root)
    with FileLock(root / f".{STREAM_FOLDER}.lock"):
        return _write(litdata, root, records)


def _write(litdata: Any, root: Path, records: list[ClipRecord]) -> Path:
    target, part = root / STREAM_FOLDER, root / f".{STREAM_FOLDER}.part"
    copy, manifest = target / MANIFEST_NAME, root / MANIFEST_NAME
    if copy.is_file() and copy.read_bytes() == manifest.read_bytes():
        return target  # nothing has changed
    shutil.rmtree(part, ignore_errors=True)
    start_method = multiprocessing.get_start_method()
    try:
        litdata.optimize(
            fn=partial(_item, root),
            inputs=[MANIFEST_NAME, *records],
            output_dir=str(part),
            chunk_bytes=CHUNK_BYTES,
            num_workers=1,  # it only copies
            keep_data_ordered=True,
            reorder_files=False,
            verbose=False,
        )
    finally:
        multiprocessing.set_start_method(start_method, force=True)  # litdata changes it for the whole process
    shutil.copyfile(manifest, part / MANIFEST_NAME)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def require_litdata() -> Any:
    """The library; UserError where it is not installed."""
    try:
        import litdata
    except ImportError:
        raise UserError("streams need litdata; install it with: pip install 'ifmdm[stream]'") from None
    return litdata


def _item(root: Path, record: ClipRecord | str) -> dict[str, Any]:
    """A clip, or (for a name) the manifest, as litdata stores it."""
    store = ClipStore(root)
    if isinstance(record, str):
        shapes = {one.id: store.shapes(one) for one in read_manifest(root)}
        head = {"manifest": (root / MANIFEST_NAME).read_text(encoding="utf-8"), "shapes": shapes}
        return {"head": json.dumps(head).encode(), **dict.fromkeys(FILES, b"")}
    paths = {name: getattr(record, name) for name in FILES}
    return {
        "head": b"",
        **{name: (root / path).read_bytes() if path else b"" for name, path in paths.items()},
    }


class StreamedClips(ClipStore):
    """Files of the clips of a stream, fetched when they are asked for.

    Every process unpacks its own, ``max_clips`` at most, into ``CACHE/process-PID``; litdata keeps its chunks in
    ``CACHE/chunks``. The cache is a folder on a local disk, ``address`` a folder or what else litdata knows. UserError where
    litdata is not installed, or there is no stream of clips.
    """

    def __init__(self, address: str, cache: Path, max_clips: int = MAX_CLIPS) -> None:
        super().__init__(Path(cache))
        self.address, self.max_clips = address, max_clips
        self._process = 0
        try:
            head = json.loads(bytes(self._read(0)["head"]))
            self.records = parse_manifest(head["manifest"], f"{address}: {MANIFEST_NAME}")
            self._shapes = head["shapes"]
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{address}: no stream of prepared clips ({first_line}); make one with ifmdm prepare --format litdata"
            ) from error
        self._places = {record.id: place for place, record in enumerate(self.records, start=1)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": 0, "_items": None}

    def shapes(self, record: ClipRecord) -> dict[str, tuple[int, ...]]:
        """As they stand in the stream's first item; nothing is fetched."""
        return {name: tuple(shape) for name, shape in self._shapes.get(record.id, {}).items()}

    def _path(self, record: ClipRecord, relative: str) -> Path:
        self._settle()
        return self._unpacked.get(record.id, lambda: self._unpack(record)) / Path(relative).name

    def _settle(self) -> None:
        """Begin anew in another process: what its parent has opened and unpacked stays the parent's."""
        if self._process != os.getpid():
            self._process = os.getpid()
            chunks = str(self.root / "chunks")
            self._items = require_litdata().StreamingDataset(self.address, cache_dir=chunks)
            self._unpacked: LRUCache[Path] = LRUCache(self.max_clips, _remove)

    def _unpack(self, record: ClipRecord) -> Path:
        folder = self.root / f"process-{os.getpid()}"
        if not folder.is_dir():
            _remove_leftovers(self.root)
        place = folder / record.id
        place.mkdir(parents=True, exist_ok=True)
        item = self._read(self._places[record.id])
        for name in FILES:
            if relative := getattr(record, name):
                with whole_output(place / Path(relative).name) as temporary:
                    temporary.write_bytes(item[name])
        return place

    def _read(self, place: int) -> dict[str, Any]:
        self._settle()
        return self._items[place]


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(cache: Path) -> None:
    """Unpacked clips of processes that are no more."""
    for folder in cache.glob("process-*"):
        try:
            os.kill(int(folder.name.removeprefix("process-")), 0)
        except ProcessLookupError:
            _remove(folder)
        except (ValueError, PermissionError):
            continue


class StreamingDataModule(TalkingHeadDataModule):
    """The batches of ``TalkingHeadDataModule``, with its options, from the stream at the address ``root``.

    What is fetched goes into ``cache``, a folder on a local disk; a latent cache is always a folder, too.
    """

    def __init__(self, root: str, size: int, cache: str | Path, **options: Any) -> None:
        super().__init__(Path(cache), size, **options)
        if self.also:
            raise UserError("data.also: clips of a stream and of folders can't be mixed")
        self.address = root
        self._store: StreamedClips | None = None

    def store(self) -> StreamedClips:
        """The stream; opened at the first call."""
        if self._store is None:
            self._store = StreamedClips(self.address, self.root)
        return self._store

    def prepare_data(self) -> None:
        """Nothing: a stream is fetched when it is asked for."""

    def all_records(self) -> list[ClipRecord]:
        """All clips of the stream."""
        return self.store().records
