"""``ifmdm sweep``: its words; what generates and judges is loaded once they are known."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm sweep``."""
    parser.description = (
        "Measure quality over a setting: sweep=motion_intensity and overrides of configs/sweep.yaml."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="sweep=motion_intensity model=DIR data.root=DIR ..."
    )


def run(args: argparse.Namespace) -> int:
    """Sweep as the command line says.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    from experiments.sweep import sweep_main

    return sweep_main(args.overrides)
