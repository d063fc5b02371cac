"""How much of the synthetic motion does the speech tell? Measured on draws, beside the declared budget.

Many draws of each (identity, speech): their mean is what a perfect predictor from the speech gives, so that

    explained = (variance over time of the mean over draws, less what chance leaves in it) / (variance over time of a draw)

is the highest R2 that anything which hears the speech alone can reach. With `--style identity` the draws share the style:
then it is the ceiling of a model that knows the speaker, too. Curves have their clip's mean taken away; head curves are also
divided by the intensity of the moment in the rows "of given intensity".

    python benchmarks/synthetic_variance.py [--speeches 20] [--draws 16] [--style free|identity] [--intensity free|speech]
"""

import argparse

import numpy as np
import torch
from printing import markdown_table, one_line_errors

from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.motion.style import AXES
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.renderer import HeadRenderer
from datamodules.synthetic_faces.settings import Settings


def curves_of(settings: Settings) -> dict[int, dict[str, list[np.ndarray]]]:
    """Per speech: name of a curve -> one array ``(T, C)`` for each draw."""
    result: dict[int, dict[str, list[np.ndarray]]] = {}
    renderer = None
    for plan in plan_clips(settings):
        performance = perform(plan, settings)
        animation = performance.animation
        if renderer is None or plan.draw == 0:
            renderer = HeadRenderer(performance.identity, 64)
        truth = renderer.measure(animation.controls)
        shares = animation.head.intensity[:, None] * performance.style.axis_shares
        blink = animation.controls["blink_left"][:, None]
        here = {
            "head rotation": np.stack([animation.controls[axis] for axis in AXES], axis=1),
            "head rotation of given intensity": animation.head.total / shares,
            "lip opening": truth.lip_opening[:, None],
            "lip width": truth.lip_width[:, None],
            "lids": blink,
        }
        for name, curve in here.items():
            result.setdefault(plan.speech, {}).setdefault(name, []).append(curve - curve.mean(axis=0))
    return result


def explained(draws: list[list[np.ndarray]]) -> tuple[float, float]:
    """Share of the variance that the speech explains, pooled over speeches, and its standard error over them."""
    between, total = [], []
    for group in draws:
        stack = np.stack(group)  # (draws, T, C)
        number = len(stack)
        within = stack.var(axis=0, ddof=1)
        between.append((np.square(stack.mean(axis=0)) - within / number).mean())
        total.append(np.square(stack).mean())
    share = np.array(between) / np.array(total)
    return float(np.sum(between) / np.sum(total)), float(share.std(ddof=1) / np.sqrt(len(share)))


def main() -> None:
    """Draws, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speeches", type=int, default=20)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=("free", "identity"), default="free")
    parser.add_argument("--intensity", choices=("free", "speech"), default="free")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(
        args.speeches * args.draws,
        seed=args.seed,
        identities=args.speeches,
        draws=args.draws,
        style=args.style,
        intensity=args.intensity,
    )
    settings.check()
    groups = curves_of(settings)
    print(f"style {args.style}, intensity {args.intensity}: {args.speeches} speeches x {args.draws} draws\n")
    rows = []
    for name in next(iter(groups.values())):
        share, error = explained([group[name] for group in groups.values()])
        rows.append([name, f"{share:.2f}", f"{error:.2f}"])
    print(markdown_table(["curve", "explained by what is known", "standard error"], rows))


if __name__ == "__main__":
    one_line_errors(main)
