"""Speed of the synthetic renderer on one core: frames per second alone, with encoding, with dense truth.

Run from the repository's root: ``python benchmarks/rendering.py [--sizes 64 128 256 512] [--frames 24] [--device cpu]``.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from printing import one_line_errors

from datamodules.batches import FPS
from datamodules.media.video import write_video
from datamodules.synthetic_faces.clips import Performance, perform
from datamodules.synthetic_faces.dense_truth import dense_truth
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.renderer import HeadRenderer
from datamodules.synthetic_faces.settings import Settings

KINDS = ("rendering", "with encoding", "with dense truth", "measuring")


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
    controls = Controls(performance.animation.controls.values[:frames])
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
    return result | {"setting up (s)": seconds}


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


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
    print(f"{processor()}, one core, Python {platform.python_version()}, torch {torch.__version__}, {device}")
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    print(f"frames per second, median of {options.repeats} runs of {options.frames} frames")
    print("in brackets: time of a frame against the first size\n")
    columns = (*KINDS, "setting up (s)")
    print(" | ".join(["size", *(f"{name:>17}" for name in columns)]))
    first: dict[str, float] = {}
    for size in options.sizes:
        row = measure(size, options.frames, options.repeats, device)
        first = first or row
        cells = [f"{row[kind]:9.1f} ({first[kind] / row[kind]:5.2f})" for kind in KINDS]
        print(" | ".join([f"{size:4d}", *cells, f"{row['setting up (s)']:17.2f}"]), flush=True)


if __name__ == "__main__":
    one_line_errors(main)
