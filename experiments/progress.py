"""Progress of long work: a bar on a terminal, plain lines now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
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
