"""What speech does to motion before anything is rendered: seams, heads of different speeches, milliseconds, sampler steps.

Run from the repository's root: ``python benchmarks/speech_motion.py --images PORTRAIT... --audio SPEECH...`` with speeches of
several windows of 64 frames. Steps between frames are norms in the motion basis, block by block; where windows meet they
should be as long as elsewhere, whatever is said there: each portrait and seed begins a few frames later. Heads that say
different things should not move alike. What fewer sampler steps change is told by the correlation of their mouth with that of
the most.
"""

import argparse
import time
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from printing import markdown_table, one_line_errors

from datamodules.batches import FPS, SAMPLES_PER_FRAME, WINDOW
from datamodules.media.audio import load_audio
from datamodules.media.pictures import read_image
from experiments.generate import face_finder, frame_portrait
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.networks.base_renderer import SourceEncoding
from metrics.motion import edge_frames

LATER = 7
"""Frames by which each portrait and seed begins later than the one before."""


def coordinates(
    model: TalkingHead, source: SourceEncoding, speech: np.ndarray, seed: int, steps: int | None = None
) -> np.ndarray:
    """Motion ``(T, M)`` of a speech in the model's basis."""
    motion = model.generate_motion(source, speech, GenerationOptions(seed=seed, steps=steps))
    return model.basis.encode(motion).cpu().numpy()


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over dimensions of the correlation of two motions ``(T, M)``, over the frames that both have."""
    length = min(len(first), len(second))
    one, other = (part[:length] - part[:length].mean(axis=0) for part in (first, second))
    scale = np.sqrt(np.square(one).sum(axis=0) * np.square(other).sum(axis=0))
    return float(((one * other).sum(axis=0) / scale.clip(min=1e-9)).mean())


def steps_at_edges(motions: list[np.ndarray]) -> str:
    """Mean step at all edges over that inside of all motions ``(T, M)``, and its standard error."""
    steps = [np.linalg.norm(np.diff(motion, axis=0), axis=1) for motion in motions]
    edges = [np.isin(np.arange(1, len(motion)), edge_frames(len(motion))) for motion in motions]
    every, at = np.concatenate(steps), np.concatenate(edges)
    relative = every[at] / every[~at].mean()
    return f"{relative.mean():.2f} ± {relative.std() / np.sqrt(len(relative)):.2f}"


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="two or more")
    parser.add_argument("--model", default="synthetic-256")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 20, 50])
    args = parser.parse_args()
    model = TalkingHead.from_pretrained(args.model)
    finder = face_finder("largest")
    portraits = [frame_portrait(read_image(path), path, finder)[0] for path in args.images]
    sources = [model.prepare_source(portrait, shut_lips=True) for portrait in portraits]
    speeches = [load_audio(path) for path in args.audio]
    motions: list[np.ndarray] = []
    alike: dict[str, list[float]] = {name: [] for name in model.basis.blocks}
    for number, (source, seed) in enumerate(product(sources, range(args.seeds))):
        later = LATER * number % WINDOW * SAMPLES_PER_FRAME
        said = [coordinates(model, source, speech[later:], seed=seed) for speech in speeches]
        for name, block in model.basis.blocks.items():
            alike[name] += [correlation(a[:, block], b[:, block]) for a, b in combinations(said, 2)]
        motions += said
    edges = sum(len(edge_frames(len(motion))) for motion in motions)
    head = ["", *model.basis.blocks]
    ratios = [
        steps_at_edges([motion[:, block] for motion in motions]) for block in model.basis.blocks.values()
    ]
    means = [f"{np.mean(values):.2f}" for values in alike.values()]
    sizes = [f"{np.mean(np.abs(values)):.2f}" for values in alike.values()]
    told = [
        [f"step at an edge over that inside ({edges} edges)", *ratios],
        ["two speeches, one portrait and seed: correlation", *means],
        ["its size", *sizes],
    ]
    print(markdown_table(head, told))
    wanted = sorted(set(args.steps), reverse=True)
    mouth = model.basis.blocks.get("mouth", slice(None))
    rows: list[list[str]] = []
    best: list[np.ndarray] = []
    for steps in wanted:
        began = time.perf_counter()
        found = [coordinates(model, sources[0], speech, seed=0, steps=steps) for speech in speeches]
        taken = 1000 * (time.perf_counter() - began) / sum(map(len, found))
        best = best or found
        like = np.mean([correlation(a[:, mouth], b[:, mouth]) for a, b in zip(found, best, strict=True)])
        rows.insert(0, [str(steps), f"{taken:.2f}", f"{like:.3f}"])
    seconds = sum(map(len, best)) / FPS
    print(
        f"\n{torch.get_num_threads()} threads, {seconds:.0f} s of speech, audio features and statistics included:\n"
    )
    print(
        markdown_table(["sampler steps", "ms a frame", f"mouth's correlation with {wanted[0]} steps"], rows)
    )


if __name__ == "__main__":
    one_line_errors(main)
