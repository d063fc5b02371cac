"""A judge of synthetic faces without downloads: a small network that reads pose, lips and lids off a frame.

It is fitted on true frames of the training identities only, and every result states how well it reads frames
of identities that it never saw (`held_out_r2`). It is a judge and never a loss.
"""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, require_shapes, tensor_shapes, whole_output
from datamodules.media.pictures import to_float
from metrics.motion import MotionCurves
from metrics.precision import single_precision

JUDGE_FILE = "judge.json"
"""What the folder of a fitted judge holds, beside its weights."""
WEIGHTS_FILE = "judge.safetensors"
MAX_SETTINGS = {"width": 256, "features": 4096}
DAMAGES = (AttributeError, OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError)
"""What reading the folder of a stranger may raise."""
TARGETS = ("yaw", "pitch", "roll", "lip_opening", "lip_width", "blink")
FACE = (0.0, 0.0, 1.0, 1.0)
MOUTH = (0.25, 0.5, 0.75, 0.95)
EYES = (0.2, 0.25, 0.8, 0.6)
VIEWS = ((FACE, (64, 64)), (MOUTH, (56, 64)), (EYES, (40, 64)))
"""What the network sees: a box x0, y0, x1, y1 of the frame and the height and width it is resized to."""
WORKING_SIZE = 128
"""Larger frames are reduced to this edge first: mouth and eyes then fill their views at double resolution."""


def _views(frames: Tensor) -> list[Tensor]:
    """Cut the views out of frames ``(N, 3, S, S)`` in [-1, 1]."""
    height, width = frames.shape[-2:]
    views = []
    for (x0, y0, x1, y1), size in VIEWS:
        cut = frames[..., round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
        views.append(F.interpolate(cut, size, mode="bilinear", antialias=True, align_corners=False))
    return views


class _Tower(nn.Module):
    """Pixels folded 2x2 into channels, three strided convolutions, a linear layer over what is left."""

    def __init__(self, size: tuple[int, int], width: int, features: int) -> None:
        super().__init__()
        channels = [12, 2 * width, 4 * width, 6 * width]
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        cells = -(-size[0] // 16) * -(-size[1] // 16)
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * cells, features), nn.SiLU()
        )

    def forward(self, view: Tensor) -> Tensor:
        return self.layers(view)  # (N, 3, h, w) -> (N, features)


class FrameRegressor(nn.Module):
    """Reads yaw, pitch, roll (degrees), lip opening, lip width (over eye distance), blink off frames."""

    name = "frame-regressor"  # in results
    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 16, features: int = 96) -> None:
        super().__init__()
        self.settings = {"width": width, "features": features}
        self.facts: dict = {}  # how it was fitted, plain values; results of `held_out_r2` are kept here too
        self.towers = nn.ModuleList([_Tower(size, width, features) for _, size in VIEWS])
        self.head = nn.Sequential(
            nn.Linear(len(VIEWS) * features, 128), nn.SiLU(), nn.Linear(128, len(TARGETS))
        )
        self.register_buffer("mean", torch.zeros(len(TARGETS)))
        self.register_buffer("std", torch.ones(len(TARGETS)))

    def forward(self, frames: Tensor) -> Tensor:
        """Standardised targets ``(N, 6)`` of frames ``(N, 3, S, S)`` float in [-1, 1]."""
        features = [tower(view) for tower, view in zip(self.towers, _views(frames), strict=True)]
        return self.head(torch.cat(features, dim=1))

    @torch.no_grad()
    def predict(self, frames: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Targets ``(T, 6)`` float32, in their units and the order of ``TARGETS``, of frames ``(T, S, S, 3)`` uint8 RGB."""
        self.eval()
        device = self.mean.device
        values = []
        with single_precision(device):
            for start in range(0, len(frames), batch_size):
                batch = reduced(frames[start : start + batch_size]).to(device)
                values.append(self(to_float(batch)) * self.std + self.mean)
        return torch.cat(values).cpu().numpy()

    def measure(self, frames: np.ndarray) -> MotionCurves:
        """Motion curves of the frames ``(T, H, W, 3)`` uint8 RGB of one clip."""
        values = self.predict(frames)
        return MotionCurves(values[:, :3], values[:, 3], values[:, 5].clip(0, 1))

    def _weights(self) -> bytes:
        return save({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()})

    @property
    def sha256(self) -> str:
        """Hash of the settings and weights, part of the protocol hash."""
        settings = json.dumps(self.settings, sort_keys=True).encode()
        return hashlib.sha256(settings + self._weights()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write ``judge.safetensors`` and ``judge.json`` into the folder, each in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {"name": self.name, "targets": TARGETS, "settings": self.settings, "facts": self.facts}
        content = {WEIGHTS_FILE: self._weights(), JUDGE_FILE: json.dumps(description, indent=2).encode()}
        for file, data in content.items():
            with whole_output(folder / file) as temporary:
                temporary.write_bytes(data)

    @classmethod
    def load(cls, folder: Path) -> "FrameRegressor":
        """Read a judge that `save` wrote; the folder may come from a stranger, with a dataset.

        Raises:
            UserError: No judge in the folder, or another version's, or a link out of the folder.
        """
        path, weights = Path(folder) / JUDGE_FILE, Path(folder) / WEIGHTS_FILE
        if not path.is_file():
            raise UserError(
                f"{folder}: holds no fitted judge ({JUDGE_FILE}); name the folder 'judge' of a dataset"
            )
        try:
            description = read_plain_json(file_inside(folder, JUDGE_FILE))
            settings, facts = description["settings"], description["facts"]
            if settings.keys() != MAX_SETTINGS.keys() or not isinstance(facts, dict):
                raise ValueError("other settings than a judge's")
            if not all(type(n) is int and 1 <= n <= MAX_SETTINGS[key] for key, n in settings.items()):
                raise ValueError("settings of an absurd size")
            with torch.device("meta"):
                wanted = {name: value.shape for name, value in cls(**settings).state_dict().items()}
            require_shapes(tensor_shapes(file_inside(folder, WEIGHTS_FILE)), wanted, weights)
            judge = cls(**settings)
            state = load_file(weights)
            if not all(value.isfinite().all() for value in state.values()):
                raise ValueError("weights that are NaN or infinite")
            judge.load_state_dict(state)
            judge.facts = facts
        except (UserError, *DAMAGES) as error:
            raise UserError(f"{folder}: holds no judge that can be read ({error}); fit it anew") from error
        return judge.eval()


def reduced(frames: np.ndarray) -> Tensor:
    """Frames ``(N, H, W, 3)`` as uint8 ``(N, 3, S, S)`` of at most the working size."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if images.shape[-1] <= WORKING_SIZE:
        return images
    size = (WORKING_SIZE, WORKING_SIZE)
    small = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)
