"""Progress of long work on standard error: a bar on a terminal, plain lines now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass ``total`` items on and show how far they are; ``what`` is a short name of the work, such as ``rendering``."""
    with show_progress(what) as show:
        show(0, total)
        for done, item in enumerate(items, start=1):
            yield item
            show(done, total)


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (finished, all) that shows how far the work ``what`` is.

    The first call says what an earlier run had finished; the rate counts only what came after it.
    """
    if not sys.stderr.isatty():
        yield _PlainLines(what)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"), progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, rate="")
        rate = _Rate()
        yield lambda done, total: bar.update(task, completed=done, total=total, rate=_told(rate(done)))


def _told(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f} a minute"


class _Rate:
    """How many a second since the first call, which is handed the number that was there before."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.started = 0.0

    def __call__(self, done: int) -> float:
        if self.first is None:
            self.first, self.started = done, time.monotonic()
        return (done - self.first) / max(time.monotonic() - self.started, 1e-6)


class _PlainLines:
    """A line at the start, at the end and every ten seconds between."""

    def __init__(self, what: str) -> None:
        self.what, self.rate, self.said = what, _Rate(), float("-inf")

    def __call__(self, done: int, total: int) -> None:
        rate, now = self.rate(done), time.monotonic()
        waits = done < total and now - self.said < SECONDS_BETWEEN_LINES
        if waits or self.rate.first == total:  # the latter: there was nothing left to do
            return
        self.said = now
        left = f", {_told(rate)}, {(total - done) / rate:.0f} s left" if rate and done < total else ""
        print(f"{self.what}: {done} of {total}{left}", file=sys.stderr, flush=True)
