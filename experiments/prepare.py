"""``ifmdm prepare``: makes clips and a manifest, of synthetic heads or of recorded videos."""

import argparse
import dataclasses
from pathlib import Path

from datamodules.progress import show_progress
from experiments import prepare_recordings
from experiments.startup import cores_at_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the sources of clips and their flags."""
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for kind, text in prepare_recordings.HELP.items():
        prepare_recordings.add_arguments(sources.add_parser(kind, help=text, description=text), kind)
    synthetic = sources.add_parser(
        "synthetic", help="talking heads made on the spot, with exact truth per frame"
    )
    flag = synthetic.add_argument
    flag("--clips", type=int, required=True, metavar="N", help="number of clips without twins, at least 3")
    flag("--output", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    flag("--size", type=int, default=128, metavar="S", help="edge of the frames in pixels (default: 128)")
    flag("--seed", type=int, default=0, metavar="K", help="another seed gives other heads and speech")
    cores = cores_at_hand()
    flag("--workers", type=int, default=cores, metavar="W", help="rendering processes (default: all cores)")
    flag("--device", default="cpu", metavar="NAME", help="where to render, such as cuda (default: cpu)")
    flag(
        "--domain",
        default="wide",
        choices=("plain", "wide"),
        help="variety of light, background, sound and noise",
    )
    flag("--identities", type=int, metavar="N", help="number of heads (default: one for every five speeches)")
    flag(
        "--seconds",
        type=float,
        nargs=2,
        default=(4.0, 8.0),
        metavar=("A", "B"),
        help="shortest and longest clip",
    )
    flag(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="clips of the same head and speech that differ in motion",
    )
    flag("--long-clips", type=int, default=0, metavar="N", help="speeches of 60 to 75 s among them")
    flag(
        "--twins",
        action="store_true",
        help="clips of val and test on a second head, too, with the same motion",
    )
    flag(
        "--intensity",
        default="free",
        choices=("free", "speech"),
        help="whether what is heard tells how much somebody moves",
    )
    flag(
        "--style",
        default="free",
        choices=("free", "identity"),
        help="whether who is seen tells how somebody moves",
    )
    flag("--camera", default="still", choices=("still", "moving"), help="a fixed camera, or one held by hand")
    flag(
        "--dense", action="store_true", help="also mask, depth and optical flow: 0.2 MB a frame at 128 pixels"
    )


def run(args: argparse.Namespace) -> int:
    """Makes the dataset; an interrupted one is continued.

    Returns:
        0.

    Raises:
        UserError: a setting is out of range, or the output folder holds other data.
    """
    if args.source in prepare_recordings.HELP:
        return prepare_recordings.run(args)
    from datamodules.synthetic_faces.dataset import prepare_synthetic
    from datamodules.synthetic_faces.settings import Settings

    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(args, name) for name in names} | {"seconds": tuple(args.seconds)})
    with show_progress("rendering clips") as progress:
        folder = prepare_synthetic(
            args.output, settings, workers=args.workers, device=args.device, progress=progress
        )
    print(folder)
    return 0
