"""Public model files by name: where they come from, what they must be, where they lie.

A file is looked for in the folder that the environment variable ``IFMDM_ASSETS`` names (for machines without
internet), then in the user's cache. Only `fetch` downloads.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from datamodules.errors import UserError

FOLDER_VARIABLE = "IFMDM_ASSETS"


@dataclass(frozen=True)
class Asset:
    """A public model file.

    Attributes:
        name: File name, also the name it is asked for by.
        url: Public address of exactly this version.
        sha256: Of the whole file, hexadecimal.
        size: In bytes.
        licence: Under which its authors publish it.
        note: What it is used for.
    """

    name: str
    url: str
    sha256: str
    size: int
    licence: str
    note: str


class MissingAssetError(UserError):
    """A model file lies in none of the places where it is looked for."""


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="face_landmarker.task",
            url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
            "face_landmarker.task",
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            size=3_758_596,
            licence="Apache-2.0",
            note="MediaPipe Face Landmarker: finds faces, 478 landmarks, 52 blendshapes, head pose",
        ),
        Asset(
            name="mobilefacenet.onnx",
            url="https://raw.githubusercontent.com/foamliu/MobileFaceNet/"
            "22d3e78287c70e23cf2f5b6a6a92594008831a7f/weights/MobileFaceNet.onnx",
            sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
            size=3_998_070,
            licence="Apache-2.0",
            note="MobileFaceNet: identity embedding of an aligned face, for identity similarity",
        ),
    )
}


def describe(name: str) -> Asset:
    """The entry of an asset.

    Raises:
        UserError: No asset has that name.
    """
    if name not in ASSETS:
        raise UserError(f"{name}: no such asset; the names are {', '.join(ASSETS)}")
    return ASSETS[name]


def find(name: str) -> Path:
    """Where an asset lies, its content verified; nothing is ever downloaded.

    Raises:
        MissingAssetError: It is in neither place; the message tells how to get it.
        UserError: No asset has that name, or the file found is not the published one.
    """
    asset = describe(name)
    for folder in search_folders():
        path = folder / name
        if path.is_file():
            _verify(path, asset)
            return path
    raise MissingAssetError(
        f"{name}: model file not found ({asset.size / 1e6:.1f} MB, {asset.licence}); get it by `ifmdm assets fetch "
        f"{name}`, or put it into a folder named by {FOLDER_VARIABLE}"
    )


def fetch(name: str) -> Path:
    """Download an asset to the user's cache unless it is already there or in the ``IFMDM_ASSETS`` folder.

    Raises:
        UserError: No asset has that name, the download failed, or it brought another file than the published one.
    """
    asset = describe(name)
    try:
        return find(name)
    except MissingAssetError:
        pass
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(asset.url, known_hash=f"sha256:{asset.sha256}", fname=name, path=cache_folder())
    except (requests.RequestException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: download failed ({reason}); get {asset.url} on another machine, put it into a folder "
            f"and name that folder by {FOLDER_VARIABLE}"
        ) from None
    return find(name)


def search_folders() -> list[Path]:
    """Folders in which assets are looked for, in this order.

    Raises:
        UserError: ``IFMDM_ASSETS`` names no folder.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return [cache_folder()]
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"{FOLDER_VARIABLE}={named}: is no folder; correct it or unset it")
    return [folder, cache_folder()]


def cache_folder() -> Path:
    """The user's cache folder for assets; it need not exist."""
    import pooch

    return Path(pooch.os_cache("ifmdm"))


def _verify(path: Path, asset: Asset) -> None:
    stat = path.stat()
    if stat.st_size != asset.size or _sha256(path, stat.st_mtime_ns) != asset.sha256:
        raise UserError(
            f"{path}: is not the published {asset.name} (other size or sha256); remove it and run "
            f"`ifmdm assets fetch {asset.name}`"
        )


@lru_cache
def _sha256(path: Path, changed_ns: int) -> str:
    """Hash of a file; the time of its last change is part of the cache key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
