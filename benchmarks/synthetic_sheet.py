"""One frame of each head of a synthetic dataset in one picture, to look at; the sheet in docs/images is one.

python benchmarks/synthetic_sheet.py --data DIR --output FILE.jpg [--heads 40] [--columns 8] [--edge 160]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from printing import one_line_errors

from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.media.video import VideoReader


def main() -> None:
    """Reads the frame at a third of the first clip of each head and writes the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--edge", type=int, default=160, help="of a head in pixels")
    args = parser.parse_args()
    first: dict[str, ClipRecord] = {}
    for record in sorted(read_manifest(args.data), key=lambda record: record.id):
        first.setdefault(record.identity, record)
    tiles = []
    for record in list(first.values())[: args.heads]:
        reader = VideoReader(args.data / record.video)
        frame = Image.fromarray(reader.get([len(reader) // 3])[0])
        tiles.append(np.asarray(frame.resize((args.edge, args.edge), Image.Resampling.LANCZOS)))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % args.columns)
    grid = np.stack(tiles).reshape(-1, args.columns, args.edge, args.edge, 3)
    sheet = grid.transpose(0, 2, 1, 3, 4).reshape(-1, args.columns * args.edge, 3)
    Image.fromarray(sheet).save(args.output, quality=88)


if __name__ == "__main__":
    one_line_errors(main)
