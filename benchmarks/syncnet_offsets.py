"""Speed of SyncNet's search over the offsets: all at once against a plain loop over the frames, both in one run.

Run from the repository's root: ``python benchmarks/syncnet_offsets.py [--frames 75 250 1500] [--features 1024]``.
"""

import argparse
import time
from collections.abc import Callable

import torch
from printing import markdown_table, one_line_errors
from torch import Tensor
from torch.nn import functional as F

from metrics.sync import SyncResult, SyncSettings, offsets_and_distances

REACH = SyncSettings().reach


def plain_loop(lip: Tensor, audio: Tensor, reach: int = REACH) -> tuple[int, float, float]:
    """Offset, distance and confidence, one frame after the other."""
    padded = F.pad(audio, (0, 0, reach, reach))
    rows = [
        F.pairwise_distance(frame.expand(2 * reach + 1, -1), padded[i : i + 2 * reach + 1])
        for i, frame in enumerate(lip)
    ]
    curve = torch.stack(rows).mean(0)
    best = int(curve.argmin())
    return best - reach, float(curve[best]), float(curve.median() - curve[best])


def seconds(search: Callable[[], object], repeats: int) -> float:
    """Shortest of so many runs, after one that does not count."""
    search()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        search()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[75, 250, 1500])
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    rows = []
    for frames in args.frames:
        lip, audio = torch.randn(2, frames, args.features, generator=torch.Generator().manual_seed(0))
        result: SyncResult = offsets_and_distances(lip, audio)
        offset, distance, _ = plain_loop(lip, audio)
        assert result.offset == offset
        assert abs(result.distance - distance) < 1e-4 * distance
        loop, batched = (
            seconds(lambda search=search, pair=(lip, audio): search(*pair), args.repeats)  # type: ignore[misc]
            for search in (plain_loop, offsets_and_distances)
        )
        cells = [f"{frames}", f"{1000 * loop:.1f}", f"{1000 * batched:.1f}", f"{loop / batched:.1f}"]
        rows.append(cells)
    print(f"{args.features} features, {2 * REACH + 1} offsets, {torch.get_num_threads()} threads\n")
    print(markdown_table(["frames", "loop, ms", "all at once, ms", "ratio"], rows))


if __name__ == "__main__":
    one_line_errors(main)
