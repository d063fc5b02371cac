"""Speed of the synthetic renderer on one core: frames per second alone, with encoding, with dense truth.

Run from the repository's root: ``python benchmarks/rendering.py [--sizes 64 128 256 512] [--frames 24] [--device cpu]``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from printing import markdown_table, one_line_errors

from datamodules.batches import FPS
from datamodules.media.video import write_video
from datamodules.synthetic_faces.clips import Performance, perform
from datamodules.synthetic_faces.dense_truth import dense_truth
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.renderer import HeadRenderer
from datamodules.synthetic_faces.settings import Settings
from experiments.run_folder import machine_facts

KINDS = ("rendering", "with encoding", "with dense truth", "measuring")
SETTING_UP = "setting up (s)"


def a_performance(frames: int) -> Performance:
    """Somebody who speaks, before a camera that moves, with everything that a clip of a dataset has."""
    settings = Settings(3, seconds=(frames / FPS + 1, frames / FPS + 2), camera="moving")
    return perform(plan_clips(settings)[0], settings)


def frames_per_second(task: Callable[[], object], frames: int, repeats: int, device: torch.device) -> float:
    """Median over ``repeats`` after one run that does not count; on a CPU by the time that all its threads were busy."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    taken = []
    for _ in range(repeats + 1):
        begin = clock()
        task()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    return frames / statistics.median(taken[1:])


def measure(size: int, frames: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Frames per second of each kind of work, and seconds to set up one person."""
    performance = a_performance(frames)
    controls = performance.animation.controls.part(0, frames)
    begin = time.process_time()
    renderer = HeadRenderer(performance.identity, size, device)
    seconds = time.process_time() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        tasks: tuple[Callable[[], object], ...] = (
            lambda: renderer.render(controls),
            lambda: write_video(path, renderer.render(controls).frames),
            lambda: (renderer.render(controls), dense_truth(renderer, controls)),
            lambda: renderer.measure(controls),
        )
        result = {
            kind: frames_per_second(task, frames, repeats, device)
            for kind, task in zip(KINDS, tasks, strict=True)
        }
    return result | {SETTING_UP: seconds}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--frames", type=int, default=24, help="frames of the clip")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    facts = machine_facts()
    print(", ".join([facts["processor"], "one core", str(device), *facts["accelerators"]]))
    print(f"frames per second, median of {options.repeats} runs of {options.frames} frames")
    print("in brackets: time of a frame against the first size\n")
    found = {size: measure(size, options.frames, options.repeats, device) for size in options.sizes}
    first = found[options.sizes[0]]
    rows = [
        [
            str(size),
            *(f"{row[kind]:.1f} ({first[kind] / row[kind]:.2f})" for kind in KINDS),
            f"{row[SETTING_UP]:.2f}",
        ]
        for size, row in found.items()
    ]
    print(markdown_table(["size", *KINDS, SETTING_UP], rows))


if __name__ == "__main__":
    one_line_errors(main)
