"""``ifmdm assets``: lists, downloads and verifies the public model files."""

import argparse

from datamodules import assets
from datamodules.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ifmdm assets``."""
    parser.add_argument(
        "action",
        choices=("list", "fetch", "verify"),
        help="list: what there is and where it lies; fetch: download; verify: check size and sha256",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="one file; all of them if left out")


def run(args: argparse.Namespace) -> int:
    """Carry out ``ifmdm assets``.

    Returns:
        0 if what was asked for was done.

    Raises:
        UserError: Unknown name, a download failed, the environment names no folder, or ``verify`` found a file missing or
            damaged.
    """
    assets.search_folders()
    chosen = [assets.describe(args.name)] if args.name else list(assets.ASSETS.values())
    wrong = []
    for asset in chosen:
        if args.action == "fetch":
            print(f"{asset.name}: {asset.megabytes}, {asset.licence}, from {asset.url}", flush=True)
            print(f"{asset.name}: {assets.fetch(asset.name)}", flush=True)
            continue
        try:
            state, right = f"ok, {assets.find(asset.name)}", True
        except assets.MissingAssetError:
            state, right = f"missing; ifmdm assets fetch {asset.name}", False
        except UserError as error:
            state, right = f"DAMAGED: {error}", False
        print(f"{asset.name}  {asset.megabytes}  {asset.licence}  {state}")
        if args.action == "list":
            print(f"    {asset.note}\n    {asset.url}")
        elif not right:
            wrong.append(asset.name)
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(chosen)} files missing or damaged: {', '.join(wrong)}; `ifmdm assets fetch` gets them"
        )
    return 0
