"""SyncNet: two branches that lay five frames of a face and their 0.2 s of sound close together if they belong together.

The names and shapes of the parameters are those of the public checkpoint ``syncnet_v2.model``; narrower copies for smaller
faces have the same layers. It is a judge: lip sync is measured with it (`metrics.sync`), it is no loss of a generator.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import SYNC_FRAMES
from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, require_shapes, tensor_shapes
from metrics.judges.mfcc import MFCC, MfccSettings, mfcc

MFCC_FRAMES = 20
"""MFCC columns that are heard with five frames."""
CEPSTRA_SHAPE = (MFCC.coefficients, MFCC_FRAMES)
"""Shape of what the sound branch reads."""
SHIPPED_EXPERT = Path(__file__).resolve().parent.parent / "pretrained" / "sync_expert"
"""Where the SyncNet of the synthetic faces lies."""
EXPERT_WEIGHTS = "model.safetensors"
EXPERT_CONFIG = "config.json"
EXPERT_FORMAT = 2
"""Version of the folder of an expert."""
EXPERT_NAME = "syncnet"
MAX_WIDTH, MAX_SIZE = 4, 1024
"""Largest expert that is read."""


class SyncNet(nn.Module):
    """The network of lip sync.

    Args:
        width: Channels of every layer as a share of the published ones; 1 for the public checkpoint.
        size: Height and width of the faces in pixels, at least 51; 224 for the public checkpoint. The last convolution of
            the lip branch covers what the strides leave of it.
        region: Part of a frame that is looked at: left, top, right, bottom as shares of its sides; all of it for the public
            checkpoint, whose faces are cut out before.

    Raises:
        UserError: No positive width, too small a size, or no such part.

    Source: Chung and Zisserman, "Out of time: automated lip sync in the wild", ACCV-W 2016; layers of the version of 2017.
    """

    def __init__(
        self, width: float = 1.0, size: int = 224, region: Sequence[float] = (0.0, 0.0, 1.0, 1.0)
    ) -> None:
        super().__init__()
        left = _left_of(size)
        if width <= 0 or left < 1:
            raise UserError(
                f"SyncNet needs a width above 0 and faces of 51 pixels or more, got {width:g}, {size}"
            )
        left_side, top, right, bottom = region if len(region) == 4 else (1.0, 1.0, 0.0, 0.0)
        if not (0 <= left_side < right <= 1 and 0 <= top < bottom <= 1):
            raise UserError(f"SyncNet's region {list(region)} is no left, top, right, bottom within 0..1")
        self.width, self.size, self.region = width, size, (left_side, top, right, bottom)
        c64, c96, c192, c256, c384, c512 = (max(1, round(c * width)) for c in (64, 96, 192, 256, 384, 512))
        self.features = max(1, round(1024 * width))
        self.netcnnaud = nn.Sequential(  # (B, 1, 13, 20)
            *_layer2d(1, c64),
            nn.Identity(),  # a pooling of 1x1 there; it keeps the numbers of the layers
            *_layer2d(c64, c192),
            nn.MaxPool2d(3, (1, 2)),  # (B, 192, 11, 9)
            *_layer2d(c192, c384),
            *_layer2d(c384, c256),
            *_layer2d(c256, c256),
            nn.MaxPool2d(3, 2),  # (B, 256, 5, 4)
            *_layer2d(c256, c512, (5, 4), 0),  # (B, 512, 1, 1)
        )
        self.netfcaud = _head(c512, self.features)
        self.netfclip = _head(c512, self.features)
        self.netcnnlip = nn.Sequential(  # (B, 3, T, 224, 224)
            *_layer3d(3, c96, (SYNC_FRAMES, 7, 7), 2, 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),  # (B, 96, T - 4, 54, 54)
            *_layer3d(c96, c256, (1, 5, 5), 2, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),  # (B, 256, T - 4, 13, 13)
            *_layer3d(c256, c256, (1, 3, 3), 1, 1),
            *_layer3d(c256, c256, (1, 3, 3), 1, 1),
            *_layer3d(c256, c256, (1, 3, 3), 1, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),  # (B, 256, T - 4, 6, 6)
            *_layer3d(c256, c512, (1, left, left), 1, 0),  # (B, 512, T - 4, 1, 1)
        )

    def view(self, frames: Tensor, region: Sequence[float] | None = None) -> Tensor:
        """What the lip branch reads of frames: the region at the network's size, BGR, colours before time.

        Args:
            frames: ``(T, 3, H, W)`` or ``(B, T, 3, H, W)`` float RGB in 0..255.
            region: Another one than the network's own.

        Returns:
            ``(3, T, S, S)`` or ``(B, 3, T, S, S)`` float; resized with antialiasing where it has another size.
        """
        left, top, right, bottom = region or self.region
        height, width = frames.shape[-2:]
        part = frames[
            ..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)
        ]
        if part.shape[-2:] != (self.size, self.size):
            square = (self.size, self.size)
            flat = F.interpolate(part.flatten(0, -4), square, mode="bilinear", antialias=True)
            part = flat.unflatten(0, part.shape[:-3])
        return part.flip(-3).transpose(-4, -3)

    def lip_features(self, frames: Tensor) -> Tensor:
        """Features ``(B, D)`` of five frames each, ``(B, 3, 5, S, S)`` float, BGR in 0..255."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def lip_track(self, frames: Tensor) -> Tensor:
        """Features ``(T - 4, D)`` of every five frames in a row of ``(3, T, S, S)`` float, BGR in 0..255; T >= 5.

        Only the first layer looks over time, so that no frame is gone through twice.
        """
        return self.netfclip(self.netcnnlip(frames.unsqueeze(0))[0, :, :, 0, 0].T)

    def audio_features(self, cepstra: Tensor) -> Tensor:
        """Features ``(B, D)`` of the sound of five frames each, ``(B, 1, 13, 20)`` of `metrics.judges.mfcc.mfcc`."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    @property
    def sha256(self) -> str:
        """Hash over the settings, names and values of the weights, part of the protocol hash."""
        left, top, right, bottom = self.region
        settings = map(float, (self.width, self.size, left, top, right, bottom))  # 1 and 1.0 are the same
        digest = hashlib.sha256(repr(list(settings)).encode())
        for name, value in sorted(self.state_dict().items()):
            if not _is_counter(name):
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> "SyncNet":
        """The public checkpoint ``syncnet_v2.model``, or another file of that format, ready to judge.

        Raises:
            UserError: Missing or damaged, or with other names or shapes.
        """
        network = cls()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(f"{path}: can't be read as SyncNet weights ({type(error).__name__})") from error
        _load_state(network, state, path)
        return network.eval().requires_grad_(False)


def load_expert(folder: str | Path = SHIPPED_EXPERT) -> SyncNet:
    """A SyncNet that this project trained, ready to judge.

    Args:
        folder: Holds ``model.safetensors`` (half-precision values come back as float32) and ``config.json`` with width,
            size and region; default: the one of the synthetic faces. It may come from a stranger.

    Raises:
        UserError: No such files, a link out of the folder, or they don't fit each other.
    """
    folder = Path(folder)
    weights, settings = file_inside(folder, EXPERT_WEIGHTS), expert_settings(folder)
    # Names and shapes of the file against a network without memory, before either is read or built.
    found = tensor_shapes(weights)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        planned = SyncNet(**settings).state_dict()
    wanted = {name: value.shape for name, value in planned.items() if name in found or not _is_counter(name)}
    require_shapes(found, wanted, weights)
    network = SyncNet(**settings)
    try:
        state = load_file(weights)
    except (OSError, SafetensorError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{folder}: holds no SyncNet expert that can be read ({reason})") from error
    _load_state(network, state, weights)
    return network.eval().requires_grad_(False)


def expert_settings(folder: Path) -> dict[str, Any]:
    """Arguments of `SyncNet` that ``config.json`` of an expert names, checked.

    Raises:
        UserError: Missing or damaged, or other values than a SyncNet takes.
    """
    path = file_inside(folder, EXPERT_CONFIG)
    config = read_plain_json(path)
    settings = config.get("network")
    if config.get("format") != EXPERT_FORMAT or not isinstance(settings, dict):
        raise UserError(f"{path}: is no SyncNet expert of format {EXPERT_FORMAT}")
    width, size, region = (settings.get(key, 0) for key in ("width", "size", "region"))
    numbers = [width, *region] if isinstance(region, list) else []
    right = (
        settings.keys() == {"name", "width", "size", "region"}
        and settings["name"] == EXPERT_NAME
        and type(size) is int
        and len(numbers) == 5
        and all(type(number) in (int, float) for number in numbers)
        and width <= MAX_WIDTH  # the smallest ones are known to SyncNet
        and size <= MAX_SIZE
    )
    if not right:
        raise UserError(f"{path}: needs the network {EXPERT_NAME} with width, size and region of a sane size")
    return {"width": width, "size": size, "region": region}


def window_cepstra(waveform: Tensor) -> Tensor:
    """What the sound branch reads, ``(B, 1, 13, 20)``, of five frames' sound ``(B, 3200)`` cut out of a clip.

    The 20 columns of a window reach 240 samples beyond it and their pre-emphasis one sample before it. In a whole clip the
    speech goes on there; a cut-out piece is mirrored at its ends, so that no column is half empty.
    """
    reach = (MFCC_FRAMES - 1) * MFCC.hop + MFCC.window - waveform.shape[1]
    padded = F.pad(waveform.unsqueeze(1), (MFCC.hop, reach), mode="reflect").squeeze(1)
    return mfcc(padded)[:, None, :, 1:]


def clip_cepstra(waveform: Tensor, settings: MfccSettings = MFCC) -> Tensor:
    """What the sound branch reads, window by window, of the sound ``(S,)`` of a whole clip, in [-1, 1] at 16 kHz.

    ``(N, 1, 13, 20)``: one window for each frame, four columns apart, as many as are whole.

    Raises:
        ValueError: Less sound than a window.
    """
    cepstra = mfcc(waveform[None], settings)
    if cepstra.shape[-1] < MFCC_FRAMES:
        raise ValueError(f"{len(waveform)} samples of sound are fewer than SyncNet hears at a time")
    return cepstra.unfold(2, MFCC_FRAMES, 4)[0].transpose(0, 1).unsqueeze(1)


def _left_of(size: int) -> int:
    """Height that is left of faces of that height before the last convolution of the lip branch."""
    for kernel, stride, padding in ((7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 1), (3, 2, 0)):
        size = (size + 2 * padding - kernel) // stride + 1
    return size


def _layer2d(before: int, after: int, kernel: int | tuple[int, int] = 3, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def _layer3d(
    before: int, after: int, kernel: tuple[int, int, int], stride: int, padding: int
) -> list[nn.Module]:
    convolution = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def _head(width: int, features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, features)
    )


def _load_state(network: SyncNet, state: dict[str, Tensor], path: str | Path) -> None:
    """Load strictly, but for the counters of the batch norms: torch did not write them before version 0.4.1."""
    counters = {name: value for name, value in network.state_dict().items() if _is_counter(name)}
    try:
        network.load_state_dict({**counters, **state}, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: holds no SyncNet weights of this width and size ({reason})") from error
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{path}: {name} holds values that are NaN or infinite; train or get it again")


def _is_counter(name: str) -> bool:
    """Whether a value of a state only counts the batches of a batch norm."""
    return name.endswith("num_batches_tracked")
