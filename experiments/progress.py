"""Progress of long work: a bar on a terminal, plain lines now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass the items on and show how far they are, on stderr.

    Args:
        items: any iterable.
        total: how many there will be.
        what: short name of the work, e.g. ``rendering``.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, description=what, total=total, console=Console(stderr=True))
        return
    started = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES:
            said = now
            rate = done / (now - started)
            print(
                f"{what}: {done} of {total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def clip_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function of (finished, all) that shows on stderr how far the work is: a bar or plain lines.

    The first call says what an earlier run had finished; the rate counts only what came after it.

    Args:
        what: name of the work, such as ``rendering clips``.
    """
    if not sys.stderr.isatty():
        yield _PlainLines(what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, rate="")
        rate = _Rate()

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=f"{60 * rate(done):.1f} a minute")

        yield show


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
        self.what = what
        self.rate = _Rate()
        self.said = -SECONDS_BETWEEN_LINES

    def __call__(self, done: int, total: int) -> None:
        rate, now = self.rate(done), time.monotonic()
        if done < total and now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        left = (
            f", {60 * rate:.1f} a minute, {(total - done) / rate:.0f} s left" if rate and done < total else ""
        )
        print(f"{self.what}: {done} of {total}{left}", file=sys.stderr, flush=True)
