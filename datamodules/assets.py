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
    """A public model file: ``name`` is that of the file, ``url`` leads to exactly this version, ``size`` is in bytes.

    ``sha256`` is hexadecimal, of the whole file.
    """

    name: str
    url: str
    sha256: str
    size: int
    licence: str
    note: str

    @property
    def megabytes(self) -> str:
        """The size for people to read."""
        return f"{self.size / 1e6:.1f} MB"


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
        # Hashes and sizes from here on: as several independent public projects pin them.
        Asset(
            name="pt_inception-2015-12-05-6726825d.pth",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            size=95_628_359,
            licence="Apache-2.0",
            note="Inception of pytorch-fid, for FID and KID",
        ),
        Asset(
            name="alexnet-owt-7be5be79.pth",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            size=244_408_911,
            licence="BSD-3-Clause",
            note="torchvision AlexNet: backbone of LPIPS, whose linear heads come with the lpips package",
        ),
        Asset(
            name="i3d_torchscript.pt",
            url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
            sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
            size=51_235_320,
            licence="Apache-2.0 (kinetics-i3d; the conversion states none)",
            note="I3D of Kinetics-400 as TorchScript, the file of StyleGAN-V's script, for FVD",
        ),
        Asset(
            name="syncnet_v2.model",
            url="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
            sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
            size=54_573_114,
            licence="MIT",
            note="SyncNet of syncnet_python, for LSE-D, LSE-C and offset",
        ),
    )
}


def describe(name: str) -> Asset:
    """The entry of an asset; UserError where none has that name."""
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
        f"{name}: model file not found ({asset.megabytes}, {asset.licence}); get it by `ifmdm assets fetch "
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
    """Folders in which assets are looked for, in this order; UserError where ``IFMDM_ASSETS`` names none."""
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return [cache_folder()]
    folder = Path(os.path.expanduser(named))  # noqa: PTH111 - Path.expanduser raises for an unknown user
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
