"""Worker processes that end with the one that started them, and of which a dead one is told in a line."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from datamodules.errors import UserError


def cores_of_process() -> int:
    """Cores that the process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def process_pool(
    workers: int,
    kind: str,
    folder: Path,
    start: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Spawned processes of one thread each; work that is left when the block ends is dropped.

    Args:
        workers: number of processes.
        kind: what they are in the message, such as ``an encoding``.
        folder: what they write, for the message; what is finished in it is kept by a later run.
        start: called in each with what is ``given``.
        given: see there.

    Raises:
        UserError: One of them died.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (start, given))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            f"{folder}: {kind} process died, perhaps for lack of memory; run it again with fewer workers, what is done is "
            "kept (a script that starts this needs `if __name__ == '__main__':`)"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(start: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    import torch  # not at the top: whoever only wants to die with its parent needs none

    die_with_parent()
    torch.set_num_threads(1)
    if start is not None:
        start(*given)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone, even by ``kill -9`` (Linux alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
