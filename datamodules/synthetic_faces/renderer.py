"""The renderer: controls of one person in, frames and their exact truth out."""

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.faces import FACE_CENTRE, FACE_SHARE
from datamodules.synthetic_faces.backgrounds import paint_background
from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.landmarks import (
    LANDMARK_NAMES,
    landmark_vertices,
    lip_measures,
    region_boxes,
)
from datamodules.synthetic_faces.painting import Atlas
from datamodules.synthetic_faces.rasteriser import Fragments, rasterise
from datamodules.synthetic_faces.rig import Rig
from datamodules.synthetic_faces.shading import Lights, shade

CAMERA_DISTANCE = 7.0  # head radii from the head's centre
SUPERSAMPLING = 2
_OVAL = [i for i, n in enumerate(LANDMARK_NAMES) if n.startswith(("jaw", "forehead"))]


@dataclasses.dataclass
class Rendering:
    """Frames and truth of a stretch of a clip.

    Attributes:
        frames: ``(T, S, S, 3)`` uint8 RGB.
        landmarks: ``(T, L, 2)`` float32, x right and y down, in [0, 1] of the image; the order is ``LANDMARK_NAMES``.
        landmarks_3d: ``(T, L, 3)`` float32 in head radii along the camera's axes (x right, y up, z towards the camera),
            origin at the head's centre in the neutral pose.
        visible: ``(T, L)`` bool, the landmark is not hidden behind anything and lies in the image.
        lip_opening: ``(T,)`` float32, gap between the inner lips over the distance of the eyes' outer corners.
        lip_width: ``(T,)`` float32, distance of the inner lips' corners in the same unit.
        regions: ``(T, 3, 4)`` float32 boxes of mouth, left eye, right eye: x0, y0, x1, y1 in [0, 1].
        mask: ``(T, S, S)`` uint8, 255 where the person covers the pixel.
    """

    frames: np.ndarray
    landmarks: np.ndarray
    landmarks_3d: np.ndarray
    visible: np.ndarray
    lip_opening: np.ndarray
    lip_width: np.ndarray
    regions: np.ndarray
    mask: np.ndarray


class HeadRenderer:
    """Renders one person.

    Args:
        identity: the person, light and background.
        size: side of the square frames in pixels, 32 to 1024.
        device: where to compute.

    Raises:
        ValueError: the size is out of range.
    """

    def __init__(self, identity: Identity, size: int, device: str | torch.device = "cpu") -> None:
        if not 32 <= size <= 1024:
            raise ValueError(f"size is 32 to 1024 pixels, got {size}")
        self.identity, self.size, self.device = identity, size, torch.device(device)
        self.rig = Rig(identity, self.device)
        self.lights = Lights(identity)
        self._atlas = Atlas(identity, self.rig, size, self.device)
        background = paint_background(identity, size)
        self._background = torch.as_tensor(background, dtype=torch.float32, device=self.device).permute(
            2, 0, 1
        )
        self._marks = torch.as_tensor(landmark_vertices(self.rig), device=self.device)
        self._around = self._incidence()
        rng = np.random.default_rng(identity.seed + 2)
        grain = rng.normal(size=(3, size + 61, size + 61)) * identity.noise
        self._grain = torch.as_tensor(grain, dtype=torch.float32, device=self.device)
        self._scale, self._centre = 1.0, (0.0, 0.0)
        self._frame_camera()

    def _incidence(self) -> Tensor:
        """Up to eight faces round each vertex ``(V, 8)``; missing ones point to an empty face at the end."""
        faces = self.rig.faces.cpu().numpy()
        vertex = faces.reshape(-1)
        order = np.argsort(vertex, kind="stable")
        start = np.searchsorted(vertex[order], np.arange(len(self.rig.rest) + 1))
        around = np.full((len(self.rig.rest), 8), len(faces))
        for v, (low, high) in enumerate(itertools.pairwise(start)):
            mine = order[low:high] // 3
            if len(mine) > 8:
                mine = mine[np.linspace(0, len(mine) - 1, 8).astype(int)]
            around[v, : len(mine)] = mine
        return torch.as_tensor(around, device=self.device)

    def _frame_camera(self) -> None:
        """Places the neutral face's box where the crop rule of real clips puts it."""
        neutral = Controls.neutral(1)
        p = self.rig.shape(neutral, 0, 1)
        nearness = 1 / (CAMERA_DISTANCE - p[..., 2:])
        oval = (p[..., :2] * nearness)[0, self._marks[_OVAL]]
        low, high = oval.amin(0).tolist(), oval.amax(0).tolist()
        self._scale = FACE_SHARE / max(high[0] - low[0], high[1] - low[1])
        self._centre = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)

    def render(self, controls: Controls) -> Rendering:
        """Renders a whole clip; the memory needed grows with the frames returned only."""
        step = max(1, min(8, (256 // self.size) ** 2))
        pieces = [
            self.render_chunk(controls, t, min(t + step, len(controls)))
            for t in range(0, len(controls), step)
        ]
        fields = [f.name for f in dataclasses.fields(Rendering)]
        return Rendering(**{name: np.concatenate([getattr(p, name) for p in pieces]) for name in fields})

    @torch.inference_mode()
    def render_chunk(self, controls: Controls, start: int, stop: int) -> Rendering:
        """Renders the frames ``start <= t < stop`` in one go; a frame's bytes do not depend on the chunk it is in.

        Raises:
            ValueError: the range is empty or outside the clip.
        """
        if not 0 <= start < stop <= len(controls):
            raise ValueError(f"frames {start}..{stop} of a clip of {len(controls)}")
        shape = self.rig.shape(controls, start, stop)
        posed, _ = self.rig.pose(shape, controls, start, stop)
        image, inverse = self._project(posed)
        large = self.size * SUPERSAMPLING
        attributes = torch.stack(self._normals(posed), dim=-1)
        fragments = rasterise(
            image * large, inverse, self.rig.faces, attributes, self._atlas.uv, large, large
        )
        frames, cover = self._composite(fragments, stop - start, large)
        marks = image[:, self._marks]
        opening, width = lip_measures(shape[:, self._marks])
        return Rendering(
            frames=self._finish(frames, start).cpu().numpy(),
            landmarks=marks.cpu().numpy(),
            landmarks_3d=posed[:, self._marks].cpu().numpy(),
            visible=self._visible(fragments, marks, inverse[:, self._marks], large).cpu().numpy(),
            lip_opening=opening.cpu().numpy(),
            lip_width=width.cpu().numpy(),
            regions=region_boxes(marks.cpu().numpy()),
            mask=(cover * 255).round().to(torch.uint8).cpu().numpy(),
        )

    def _project(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the image ``(T, V, 2)`` in [0, 1], and inverse distances ``(T, V)``."""
        inverse = 1 / (CAMERA_DISTANCE - p[..., 2])
        x = FACE_CENTRE[0] + self._scale * (p[..., 0] * inverse - self._centre[0])
        y = FACE_CENTRE[1] - self._scale * (p[..., 1] * inverse - self._centre[1])
        return torch.stack([x, y], dim=-1), inverse

    def _normals(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vertex normals, three times ``(T, V)``: sums of the adjoining faces' area vectors, normalised."""
        faces = self.rig.faces
        a = p[:, faces[:, 0]]
        u, v = p[:, faces[:, 1]] - a, p[:, faces[:, 2]] - a
        x = u[..., 1] * v[..., 2] - u[..., 2] * v[..., 1]
        y = u[..., 2] * v[..., 0] - u[..., 0] * v[..., 2]
        z = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
        area = F.pad(torch.stack([x, y, z], dim=-1), (0, 0, 0, 1))
        total = area[:, self._around[:, 0]]
        for i in range(1, self._around.shape[1]):
            total = total + area[:, self._around[:, i]]
        x, y, z = total.unbind(-1)
        length = torch.sqrt(x * x + y * y + z * z).clamp(min=1e-12)
        return x / length, y / length, z / length

    def _composite(self, fragments: Fragments, frames: int, large: int) -> tuple[Tensor, Tensor]:
        """Linear pictures ``(T, 3, S, S)`` and coverage ``(T, S, S)`` after averaging the supersamples."""
        uv = fragments.values[3:5].t()[None, None]
        surface = F.grid_sample(
            self._atlas.texture, uv, mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0]
        light = shade(fragments.values[:3], surface, self.lights)
        # Averaging clipped values keeps edges smooth where a highlight is far brighter than white.
        light = light.clamp(0, 1)
        canvas = torch.zeros(4, frames * large * large, device=self.device)
        canvas[:3, fragments.pixel] = light
        canvas[3, fragments.pixel] = 1.0
        canvas = canvas.reshape(4, frames, self.size, 2, self.size, 2)
        small = 0.25 * (
            canvas[:, :, :, 0, :, 0]
            + canvas[:, :, :, 0, :, 1]
            + canvas[:, :, :, 1, :, 0]
            + canvas[:, :, :, 1, :, 1]
        )
        cover = small[3]
        picture = small[:3] + (1 - cover) * self._background[:, None]
        return picture.transpose(0, 1), cover

    def _finish(self, picture: Tensor, start: int) -> Tensor:
        """Display values with sensor noise, ``(T, S, S, 3)`` uint8."""
        shown = 255 * torch.sqrt(picture.clamp(0, 1))
        if self.identity.noise > 0:
            for i in range(len(shown)):
                number = (start + i) * 7919 + self.identity.seed
                dy, dx = number % 61, (number // 61) % 61
                shown[i] += self._grain[:, dy : dy + self.size, dx : dx + self.size]
        return (shown + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _visible(self, fragments: Fragments, marks: Tensor, inverse: Tensor, large: int) -> Tensor:
        """Whether each landmark lies in the image with nothing nearer in front of it."""
        cell = (marks * large).floor().to(torch.int64)
        inside = ((cell >= 0) & (cell < large)).all(dim=-1)
        frame = torch.arange(len(marks), device=self.device)[:, None]
        nearest = torch.full_like(inverse, 1.0)
        for dy in (-1, 0, 1):  # the pixels around, for surfaces seen at a slant
            for dx in (-1, 0, 1):
                x, y = (cell[..., 0] + dx).clamp(0, large - 1), (cell[..., 1] + dy).clamp(0, large - 1)
                nearest = torch.minimum(nearest, fragments.depth[(frame * large + y) * large + x])
        return inside & (inverse * 1.0012 >= nearest)
