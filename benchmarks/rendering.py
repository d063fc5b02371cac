"""Speed of the synthetic renderer on one core: frames per second alone, with encoding, with dense truth.

Run from the repository's root: ``python benchmarks/rendering.py [--sizes 64 128 256 512] [--frames 24] [--device cpu]``.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.renderer import HeadRenderer
from datamodules.video import write_video

KINDS = ("rendering", "with encoding", "with dense truth", "measuring")


def moving_controls(frames: int) -> Controls:
    """A head that turns, speaks and blinks before a camera that moves."""
    result = Controls.neutral(frames)
    phase = np.linspace(0, 4 * np.pi, frames)
    result["yaw"][:], result["pitch"][:] = 12 * np.sin(phase), 6 * np.cos(phase)
    result["jaw_open"][:], result["lips_wide"][:] = 0.4 - 0.4 * np.cos(3 * phase), 0.5 * np.sin(2 * phase)
    result["blink_left"][:] = result["blink_right"][:] = np.clip(np.sin(phase), 0, 1) ** 8
    result["camera_x"][:], result["camera_roll"][:] = 0.01 * np.sin(phase), np.cos(phase)
    return result


def frames_per_second(task: Callable[[], object], frames: int, repeats: int, device: torch.device) -> float:
    """Median over ``repeats`` after one run that does not count."""
    taken = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        task()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return frames / statistics.median(taken[1:])


def measure(size: int, frames: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Frames per second of each kind of work, and seconds to set up one person."""
    controls = moving_controls(frames)
    person = Identity.sample(np.random.default_rng(0), "wide")
    begin = time.perf_counter()
    renderer = HeadRenderer(person, size, device)
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        tasks: tuple[Callable[[], object], ...] = (
            lambda: renderer.render(controls),
            lambda: write_video(path, renderer.render(controls).frames, keyframe_interval=25),
            lambda: (renderer.render(controls), renderer.dense_truth(controls)),
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
    print(
        f"{processor()}, one thread, Python {platform.python_version()}, torch {torch.__version__}, {device}"
    )
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
    main()
