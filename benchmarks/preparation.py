"""Speed of ``ifmdm prepare folder``: seconds of video a second, with one and with more processes, and where the time goes.

Run from the repository's root: ``python benchmarks/preparation.py --raw DIR [--size 256] [--workers 1 2] [--copies 2]``.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from printing import markdown_table, one_line_errors

from datamodules.preparation.folder import folder_sources
from datamodules.preparation.run import Prepared, prepare
from datamodules.preparation.settings import PreparationSettings


def measure(raw: Path, size: int, workers: int) -> tuple[float, Prepared]:
    """Wall time of a whole run, the start of the processes with it, and what it made."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        prepared = prepare(folder_sources(raw), Path(folder) / "out", PreparationSettings(size=size), workers)
        return time.monotonic() - begin, prepared


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True, help="folder of videos")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--copies", type=int, default=2, help="how often each video is prepared")
    args = parser.parse_args()
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in folder_sources(args.raw):
            for copy in range(args.copies):
                target = Path(folder) / f"{copy}" / source.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source.video, target)
        for workers in args.workers:
            runs[workers] = measure(Path(folder), args.size, workers)
    first = next(iter(runs.values()))[0]
    rows = []
    for workers, (wall, prepared) in runs.items():
        seconds = sum(outcome.seconds for outcome in prepared.outcomes.values())
        busy = sum(sum(outcome.times.values()) for outcome in prepared.outcomes.values())
        cells = (seconds, 0), (wall, 0), (seconds / wall, 2), (seconds / busy, 2), (first / wall, 2)
        rows.append([str(workers), *(f"{value:.{digits}f}" for value, digits in cells)])
    head = (
        "processes",
        "s of video",
        "s in all",
        "s of video a second",
        "the same a process at work",
        "speed-up",
    )
    print(markdown_table([*head], rows))
    prepared = next(iter(runs.values()))[1]
    times: Counter[str] = Counter()
    for outcome in prepared.outcomes.values():
        times.update(outcome.times)
    total = sum(times.values())
    shares = [[name, f"{spent:.1f}", f"{spent / total:.0%}"] for name, spent in times.items()]
    print("\n" + markdown_table(["work", "s", "share"], shares))
    print(json.dumps({"kept": len(prepared.records)}))


if __name__ == "__main__":
    one_line_errors(main)
