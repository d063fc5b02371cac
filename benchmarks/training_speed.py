"""What bf16-mixed and torch.compile gain: time of a training step of each stage, all on one machine in one run.

Random batches, forward and backward pass without optimizer and data. Variants take turns, so that a machine that slows
down slows all of them; a step is the median. Example: ``python benchmarks/training_speed.py --size small --steps 20``.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from printing import markdown_table
from torch import Tensor

from datamodules.batches import CONTEXT, WINDOW, FramePairBatch, MotionWindowBatch
from experiments.config import compose, instantiate
from lightning_modules.compilation import compile_network
from lightning_modules.networks.motion_basis import MotionBasis

STAGES = ("autoencoder", "statistics", "diffusion")
VARIANTS = {
    "32-true": (False, False),
    "bf16-mixed": (True, False),
    "32-true, compile": (False, True),
    "bf16-mixed, compile": (True, True),
}
"""Name -> whether in bf16, whether compiled."""


def build(stage: str, size: str) -> tuple[Any, int]:
    """LightningModule of an experiment, and its batch size."""
    config = compose(
        [f"experiment={stage}_{size}", "data.root=unused", "run_dir=unused", "autoencoder=unused"]
    )
    if stage == "autoencoder":
        config.model.losses.perceptual = None  # a fixed network that would have to be downloaded
        return instantiate(config.model), config.data.batch_size
    return instantiate(config.model, basis=MotionBasis(config.motion_dim)), config.data.batch_size


def loss_of(stage: str, module: Any, batch_size: int, device: str) -> Callable[[], Tensor]:
    """A training step up to its loss, on a random batch."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch_size, *shape, device=device)

    if stage == "autoencoder":
        size = module.network.size
        boxes = torch.tensor([0.3, 0.3, 0.6, 0.6], device=device).expand(batch_size, 3, 4)
        source, driving = (draw(3, size, size).clamp(-1, 1) for _ in range(2))
        points = draw(2, 68, 2).sigmoid(), draw(2, 8), torch.ones(batch_size, 2, 68, device=device)
        pairs = FramePairBatch(source, driving, driving, boxes, *points, draw(2, 64, 64).sigmoid())
        return lambda: module.evaluate(module.render(pairs), pairs)["loss"]
    dim, features = module.network.motion_dim, module.network.audio_encoder.in_dim
    appearance = getattr(module.network, "appearance_dim", 512)
    known = torch.ones(batch_size, dtype=torch.bool, device=device)
    windows = MotionWindowBatch(
        motion=draw(WINDOW + 1, dim),
        audio=draw(2 * WINDOW, features),
        audio_around=draw(2, 2 * CONTEXT, features),
        source_motion=draw(dim),
        appearance=draw(appearance),
        previous=draw(WINDOW + 1, dim),
        valid=known[:, None].expand(-1, WINDOW),
    )
    if stage == "statistics":
        return lambda: -module.predict(windows).log_prob(draw(2 * dim)).mean()
    window = module.encode(windows)
    times, noise = draw().sigmoid(), draw(WINDOW, dim)
    return lambda: module.losses(window, times, noise, None)["loss"]


def measure(stage: str, size: str, steps: int, device: str, variants: list[str]) -> dict[str, float]:
    """Median seconds of a step by variant, after the first, which compiles; variants take turns."""
    runs = {}
    for name in variants:
        half, compiled = VARIANTS[name]
        torch.manual_seed(0)
        module, batch_size = build(stage, size)
        module.to(device).train()
        compile_network(module.network, compiled)
        loss = loss_of(stage, module, batch_size, device)
        runs[name] = (half, module, loss)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for step in range(steps + 2):
        for name, (half, module, loss) in runs.items():
            module.zero_grad(set_to_none=True)
            cast = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()
            start = time.perf_counter()
            with cast:
                value = loss()
            value.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            if step >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", help="of the experiments: tiny, small, base or paper")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(words)
    where = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{args.size}, {where}, torch {torch.__version__}: ms a step (speed against the first)\n")
    rows = []
    for stage in args.stages:
        found = measure(stage, args.size, args.steps, args.device, args.variants)
        first = found[args.variants[0]]
        cells = [f"{1000 * seconds:.1f} ({first / seconds:.2f}x)" for seconds in found.values()]
        rows.append([stage, *cells])
    print(markdown_table(["stage", *args.variants], rows))


if __name__ == "__main__":
    main()
