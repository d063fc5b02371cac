"""Work on many sources in processes of which any may crash, hang or be killed."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as Expired
from queue import Queue

from datamodules.media.video import probe
from datamodules.preparation.pipeline import LEAST_RATE, Outcome
from datamodules.preparation.sources import Rejection, Source
from datamodules.processes import die_with_parent

PROBE_SECONDS = 30.0
"""Longest time for finding out how long a video is; longer for large files, by ``SLOWEST_DISK``."""
SLOWEST_DISK = 5e6
"""Bytes a second."""
SECONDS_PER_SECOND = 10.0
"""Longest time for a second of video, beyond 30 s: some ten times what it takes."""
ATTEMPTS = 2
"""A process may also be killed because the machine lacked memory."""

Work = Callable[[Source], Outcome]


def in_processes(
    sources: Sequence[Source], work: Work, workers: int, probe_seconds: float = PROBE_SECONDS
) -> Iterator[tuple[Source, Outcome]]:
    """Outcomes as sources are finished, by as many processes as ``workers``; ``work`` has to be picklable.

    A file that hangs or kills its process costs that process alone. Errors that ``work`` raises end everything.
    ``probe_seconds`` is the longest time for finding out how long a video of no size is.
    """
    from pebble import ProcessExpired, ProcessPool

    finished: Queue = Queue()
    waiting = iter(sources)
    attempts: dict[str, int] = {}

    def schedule(stage: str, source: Source, task: Callable, beyond: float) -> None:
        future = pool.schedule(task, args=[source], timeout=probe_seconds + beyond)
        future.add_done_callback(lambda done: finished.put((stage, source, done)))

    def probe_first(source: Source) -> None:
        size = source.video.stat().st_size if source.video.exists() else 0
        schedule("probing", source, _length, size / SLOWEST_DISK)

    def begin() -> int:
        """Take the next source, if there is one more."""
        for source in waiting:
            probe_first(source)
            return 1
        return 0

    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context, initializer=die_with_parent) as pool:
        try:
            busy = sum(begin() for _ in range(2 * workers))
            while busy:
                stage, source, future = finished.get()
                try:
                    result = future.result()
                except (Expired, ProcessExpired) as error:
                    attempts[source.id] = attempts.get(source.id, 0) + 1
                    if isinstance(error, ProcessExpired) and attempts[source.id] < ATTEMPTS:
                        probe_first(source)
                        continue
                    detail = "took too long" if isinstance(error, Expired) else "its decoder crashed"
                    lost = [Rejection(source.name, "not readable", detail)]
                    result, stage = Outcome(rejections=lost, gave_up=True), "working"
                if stage == "probing":
                    schedule("working", source, work, SECONDS_PER_SECOND * result)
                    continue
                busy += begin() - 1
                yield source, result
        except BaseException:
            pool.stop()
            raise


def _length(source: Source) -> float:
    """Seconds of video; 0 where it can't be read, which is then said by the work itself."""
    try:
        info = probe(source.video)
    except Exception:
        return 0.0
    return min(info.duration, info.frames / LEAST_RATE)
