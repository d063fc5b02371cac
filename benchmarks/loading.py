"""Speed of the DataModules over prepared clips: items a second, and what decoding costs against a plain loop.

Run from the repository's root: ``python benchmarks/loading.py --data DIR [--size 256] [--workers 0 2] [--items 400]``.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from printing import markdown_table, one_line_errors

from datamodules.clips.clip_store import ClipFrames
from datamodules.clips.manifest import MANIFEST_NAME, read_manifest, without_twins
from datamodules.clips.splits import write_splits
from datamodules.media.clip_reading import ClipReader
from datamodules.talking_head import TalkingHeadDataModule, Task

BATCH = 8


def items_per_second(module: TalkingHeadDataModule, items: int) -> float:
    """Of the training batches, after a first one that does not count."""
    module.setup("fit")
    if module.cache_frames:  # is filled beforehand
        for record in module.records("train"):
            ClipFrames(module.store(), module.size, cache=True).get(record, np.arange(1))
    batches = iter(module.train_dataloader())
    next(batches)
    begin, seen = time.monotonic(), 0
    for batch in itertools.islice(batches, items // BATCH):
        seen += len(batch[0])
    return seen / (time.monotonic() - begin)


def plain_frames_per_second(root: Path, most: int) -> float:
    """Decoding clips from their first to their last frame, one clip after the other."""
    frames, begin = 0, time.monotonic()
    for record in without_twins(read_manifest(root)):
        reader = ClipReader(root / record.video)
        for start in range(0, record.frames, 25):
            frames += len(reader.get(range(start, min(start + 25, record.frames))))
        if frames >= most:
            break
    return frames / (time.monotonic() - begin)


def measure(root: Path, size: int, workers: list[int], items: int) -> list[list[str]]:
    """Rows of the table."""
    splits, records = root / "splits.csv", read_manifest(root)
    for record in records:  # everybody is for training, but for one for validation
        record.split = "val" if record.identity == records[0].identity else "train"
    write_splits(splits, records)
    rows = []
    tasks: tuple[Task, ...] = ("frame_pairs", "sync_windows")
    for task, count, cached in itertools.product(tasks, workers, (False, True)):
        module = TalkingHeadDataModule(
            root, size, task=task, batch_size=BATCH, num_workers=count, cache_frames=cached, splits=splits,
            pairs_per_clip=256, windows_per_clip=256,
        )  # fmt: skip
        speed = items_per_second(module, items)
        rows.append([task.replace("_", " "), str(count), "yes" if cached else "no", f"{speed:.0f}"])
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared clips")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--items", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # what is kept on disk goes with it
        root = Path(folder)
        for name in ("clips", MANIFEST_NAME):
            (root / name).symlink_to((args.data / name).resolve())
        rows = measure(root, args.size, args.workers, args.items)
        plain = plain_frames_per_second(root, 4 * args.items)
    print(markdown_table(["items", "loader processes", "decoded frames kept on disk", "a second"], rows))
    print(f"\nplain loop over whole clips: {plain:.0f} frames a second in one process")


if __name__ == "__main__":
    one_line_errors(main)
