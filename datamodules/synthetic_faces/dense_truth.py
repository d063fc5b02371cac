"""What is seen at every pixel: person, depth, and where the first frame shows the same point."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.rasteriser import Fragments, rasterise
from datamodules.synthetic_faces.renderer import HeadRenderer, Stage, affine, joined, stretches

REFERENCE_DETAIL = 3  # samples of the first frame along a pixel's side; odd: one lies at its centre
DEPTH_TOLERANCE = 6e-4  # of the distance: nearer surfaces than this hide nothing


@dataclasses.dataclass
class DenseTruth:
    """Truth at the centres of the pixels of a stretch of a clip; what lies between them plays no part."""

    mask: np.ndarray  # ``(T, S, S)`` bool, the person is seen
    depth: (
        np.ndarray
    )  # ``(T, S, S)`` float16 distance from the camera along its axis in head radii; 0: background
    # ``(T, S, S, 2)`` float32 in pixels, x right and y down: the pixel at ``p`` shows the point that the first frame
    # has at ``p + flow``, be it seen there or not. The background moves with the camera alone
    flow: np.ndarray
    seen: (
        np.ndarray
    )  # ``(T, S, S)`` bool, the first frame shows that point: nothing hides it, it lies in the picture


@torch.inference_mode()
def dense_truth(renderer: HeadRenderer, controls: Controls) -> DenseTruth:
    """Dense truth of a whole clip, whose first frame is where the flow leads; the working memory does not grow with it."""
    first = _FirstFrame(renderer, controls.part(0, 1))
    step = max(1, min(16, (512 // renderer.size) ** 2))
    places = stretches(len(controls), step)
    return joined([first.truth(renderer.stage(controls.part(a, b))) for a, b in places])


class _FirstFrame:
    """The frame that the flow leads to: its mesh, and the nearest surface at each sample."""

    def __init__(self, renderer: HeadRenderer, controls: Controls) -> None:
        self.renderer, self.size = renderer, renderer.size
        self.faces = renderer.rig.faces
        self.stage = renderer.stage(controls)
        centre = (torch.arange(self.size, device=self.faces.device, dtype=torch.float32) + 0.5) / self.size
        self.grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)
        self.side = self.size * REFERENCE_DETAIL
        drawn = self._draw(self.stage, self.side, self.stage.posed[..., :0])
        self.face = torch.full((self.side * self.side,), -1, device=self.faces.device)
        self.face[drawn.pixel] = drawn.face
        self.depth = drawn.depth
        self.front, self.plane = self._planes()

    def _draw(self, stage: Stage, side: int, attributes: Tensor) -> Fragments:
        nothing = torch.zeros(len(self.faces), 3, 0, device=self.faces.device)
        return rasterise(stage.image * side, stage.inverse, self.faces, attributes, nothing, side)

    def _planes(self) -> tuple[Tensor, Tensor]:
        """Which faces ``(F,)`` turn to the camera; inverse distance as ``a x + b y + c`` of the image ``(F, 3)``."""
        a, b, c = self.stage.image[0].double()[self.faces].unbind(dim=1)
        p, q, r = self.stage.inverse[0].double()[self.faces].unbind(dim=1)
        u, v = b - a, c - a
        area = v[:, 0] * u[:, 1] - v[:, 1] * u[:, 0]
        safe = torch.where(area.abs() > 0, area, torch.ones_like(area))
        dx = ((r - p) * u[:, 1] - (q - p) * v[:, 1]) / safe
        dy = ((q - p) * v[:, 0] - (r - p) * u[:, 0]) / safe
        plane = torch.stack([dx, dy, p - dx * a[:, 0] - dy * a[:, 1]], dim=1)
        return area > 0, plane

    def truth(self, stage: Stage) -> DenseTruth:
        """Dense truth of a stretch of frames."""
        frames, size = len(stage.moves), self.size
        drawn = self._draw(stage, size, self.stage.posed.expand(frames, -1, -1))
        flow = self._camera_flow(stage.moves)
        sample, inside = self._sample(self.grid + flow)
        seen = (inside & (self.face[sample] < 0)).reshape(-1)
        flow = flow.reshape(-1, 2)
        target, inverse = self.renderer.project(drawn.values.t()[None], self.stage.moves)
        flow[drawn.pixel] = target[0] - self.grid.reshape(-1, 2)[drawn.pixel % (size * size)]
        seen[drawn.pixel] = self._surface_seen(target[0], inverse[0], drawn.face)
        mask = drawn.depth > 0
        depth = torch.where(mask, 1 / drawn.depth.clamp(min=1e-6), torch.zeros_like(drawn.depth))
        arrays = (mask, depth.to(torch.float16), flow * size, seen)
        return DenseTruth(*(x.reshape(frames, size, size, *x.shape[1:]).cpu().numpy() for x in arrays))

    def _camera_flow(self, moves: np.ndarray) -> Tensor:
        """How the image moves as a whole towards the first frame ``(T, S, S, 2)``, in its sides."""
        back = np.linalg.inv(moves[:, :, :2])
        turn = self.stage.moves[0, :, :2] @ back
        offset = self.stage.moves[0, :, 2] - (turn @ moves[:, :, 2:])[..., 0]
        change = np.concatenate([turn - np.eye(2), offset[..., None]], axis=-1)
        return affine(change, *self.grid[None].unbind(dim=-1))

    def _sample(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The sample round each point of the image ``(..., 2)``, and whether there is one."""
        cell = (point * self.side).floor()
        inside = ((cell >= 0) & (cell < self.side)).all(dim=-1)
        column, row = cell.clamp(0, self.side - 1).to(torch.int64).unbind(dim=-1)
        return row * self.side + column, inside

    def _surface_seen(self, point: Tensor, inverse: Tensor, face: Tensor) -> Tensor:
        """Whether points of the faces ``face (P,)`` have nothing in front of them.

        The depth of the sample round a point is taken along its face to the point itself, so that slanted surfaces do
        not hide themselves.
        """
        sample, inside = self._sample(point)
        plane = self.plane[self.face[sample].clamp(min=0)]
        there = plane[:, 0] * point[:, 0] + plane[:, 1] * point[:, 1] + plane[:, 2]
        nearest = torch.minimum(there.float(), self.depth[sample])
        return inside & self.front[face] & (inverse * (1 + DEPTH_TOLERANCE) >= nearest)
