"""One process at a time at a dataset."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_process_at_a_time(root: Path) -> Iterator[None]:
    """Hold the lock of a dataset folder: of several processes one makes the data, the others wait and find it made.

    The lock is the file ``.NAME.lock`` beside the folder, or in it where only that may be written; a folder that may not
    be written at all needs none. It is freed when its holder ends, however that happens.
    """
    root = Path(root).absolute()
    with contextlib.suppress(OSError):  # what can't be made is refused where it is used
        root.parent.mkdir(parents=True, exist_ok=True)
    folder = next(
        (place for place in (root.parent, root) if place.is_dir() and os.access(place, os.W_OK)), None
    )
    if folder is None:
        yield
        return
    lock = FileLock(folder / f".{root.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process prepares this data, waiting for it", root)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
