"""What a training costs, by counting: operations of each stage, and hours of a GPU that does so many a second.

Nothing is run: networks are built without memory (device ``meta``) and their operations counted, a multiplication and an
addition as two. Forward and backward together count three times forward; of a fixed or frozen network, through which
only the picture's gradient passes, twice. Warping, normalisation, activations, attention's products, the optimizer and
reading the data are left out.

Run from the repository's root: ``python benchmarks/training_cost.py [--convolutions 20] [--matrices 5]``.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from printing import markdown_table, one_line_errors
from torch.utils.flop_counter import FlopCounterMode

from experiments.config import compose, instantiate

PRESETS = ("base", "paper")
STAGES = ("autoencoder", "statistics", "diffusion")


@dataclass(frozen=True)
class Cost:
    """Of one training.

    Attributes:
        parameters: of what is trained, in millions.
        per_item: operations for a pair of frames, or a window of motion, in 1e9.
        batch: items in a step, over all devices.
        steps: of the training.
    """

    parameters: float
    per_item: float
    batch: int
    steps: int

    def hours(self, teraflops: float) -> float:
        """On one GPU that does so many operations a second, in 1e12."""
        return self.per_item * 1e9 * self.batch * self.steps / (teraflops * 1e12) / 3600


def counted(network: torch.nn.Module, *shapes: tuple[int, ...]) -> float:
    """Operations of one forward pass, in 1e9."""
    with FlopCounterMode(display=False) as counter:
        network(*(torch.empty(shape, device="meta") for shape in shapes))
    return counter.get_total_flops() / 1e9


def parameters(network: torch.nn.Module) -> float:
    """In millions."""
    return sum(one.numel() for one in network.parameters()) / 1e6


def autoencoder_cost(config: Any) -> Cost:
    """Renderer, perceptual loss and discriminator on pairs of frames."""
    from torchvision.models import vgg19

    with torch.device("meta"):
        renderer = instantiate(config.model.network)
        discriminator = instantiate(config.model.gan.discriminator)
        vgg = vgg19(weights=None).features
    picture = (1, 3, config.data.size, config.data.size)
    levels = sum(0.25**level for level in range(config.model.losses.perceptual.levels))
    with_gan = 1 - config.model.gan.start / config.trainer.max_steps
    rendering = 3 * counted(renderer, picture, picture)
    perceptual = (2 + 1) * levels * counted(vgg, picture)  # of the rendered and of the true frame
    adversarial = (
        (2 + 3 + 3) * with_gan * counted(discriminator, picture)
    )  # the renderer's; true and rendered
    millions = parameters(renderer) + parameters(discriminator)
    total = rendering + perceptual + adversarial
    return Cost(millions, total, config.data.batch_size, config.trainer.max_steps)


def latent_cost(config: Any) -> Cost:
    """A network on windows of motion: two operations for each parameter and token."""
    with torch.device("meta"):
        network = instantiate(config.model.network)
    tokens = config.model.network.get("window", 64) + len(config.model.network.get("tokens", ()))
    total = 3 * 2 * parameters(network) * tokens / 1e3
    return Cost(parameters(network), total, config.data.batch_size, config.trainer.max_steps)


def training_cost(stage: str, preset: str) -> Cost:
    """Of ``experiment=STAGE_PRESET``."""
    speech = ["audio.source=none"] if preset == "paper" and stage != STAGES[0] else []
    config = compose([f"experiment={stage}_{preset}", *speech])
    return autoencoder_cost(config) if stage == STAGES[0] else latent_cost(config)


def table(convolutions: float, matrices: float) -> str:
    """All trainings of the presets that need a GPU, as Markdown; both numbers are 1e12 operations a second."""
    rows = []
    for preset in PRESETS:
        for stage in STAGES:
            cost = training_cost(stage, preset)
            speed = convolutions if stage == STAGES[0] else matrices
            work = f"{cost.per_item * cost.batch * cost.steps / 1e9:.2g}"
            each = f"{cost.per_item:,.0f}" if cost.per_item >= 100 else f"{cost.per_item:.3g}"
            size, hours = f"{cost.parameters:.1f}", f"{cost.hours(speed):,.1f}"
            rows.append([f"`{stage}_{preset}`", size, each, str(cost.batch), f"{cost.steps:,}", work, hours])
    head = ["experiment", "M parameters", "1e9 an item", "global batch", "steps", "1e18 in all", "GPU-hours"]
    return markdown_table(head, rows)


def main() -> None:
    """Read the words and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--convolutions", type=float, default=20, help="1e12 operations a second in stage 1")
    parser.add_argument("--matrices", type=float, default=5, help="the same in stages 2 and 3")
    args = parser.parse_args()
    print(table(args.convolutions, args.matrices))


if __name__ == "__main__":
    one_line_errors(main)
