"""The renderer: controls of one person in, frames and their exact truth out."""

import dataclasses
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.faces.framing import FACE_CENTRE, FACE_SHARE
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh import landmarks
from datamodules.synthetic_faces.mesh.rig import Rig
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.paint.backgrounds import Backdrop
from datamodules.synthetic_faces.paint.painting import Atlas
from datamodules.synthetic_faces.paint.shading import Lights, shade
from datamodules.synthetic_faces.rasteriser import Fragments, rasterise

CAMERA_DISTANCE = 7.0  # head radii from the head's centre
SUPERSAMPLING = 2
MEASURED_AT_ONCE = 64  # frames
FRAMES_AT_ONCE = 64  # drawn on a GPU, of 256 pixels or less: 5 GB
DARKEST_WRINKLE = 0.4  # of the colour around it
SURFACE_POINTS = 768  # vertices, drawn from all of the mesh, which is finest where a face moves most
PERSON_SIDE = 64  # pixels of the small masks; at most those of the frames
M = TypeVar("M")


@dataclasses.dataclass
class Measures:
    """Truth of a stretch of a clip that needs no drawing."""

    # ``(T, L, 2)`` float32, x right and y down, in [0, 1] of the image; the order is ``LANDMARK_NAMES``
    landmarks: np.ndarray
    # ``(T, L, 3)`` float32 in head radii along the camera's axes (x right, y up, z towards the camera), origin at the
    # head's centre in the neutral pose. The camera controls move the image, not these
    landmarks_3d: np.ndarray
    # ``(T,)`` float32, gap between the inner lips over the distance of the eyes' outer corners
    lip_opening: np.ndarray
    lip_width: np.ndarray  # ``(T,)`` float32, distance of the inner lips' corners in the same unit
    regions: np.ndarray  # ``(T, 3, 4)`` float32 boxes of mouth, left eye, right eye: x0, y0, x1, y1 in [0, 1]
    surface: (
        np.ndarray
    )  # ``(T, P, 2)`` float16, further points of the mesh, as ``landmarks``; the same in all of a clip


@dataclasses.dataclass
class Rendering(Measures):
    """Frames and truth of a stretch of a clip."""

    frames: np.ndarray  # ``(T, S, S, 3)`` uint8 RGB
    visible: np.ndarray  # ``(T, L)`` bool, the landmark is not hidden behind anything and lies in the image
    surface_visible: np.ndarray  # ``(T, P)`` bool, likewise
    person: (
        np.ndarray
    )  # ``(T, s, s)`` uint8 mask of ``PERSON_SIDE`` pixels, 255 where the person covers all of one
    mask: np.ndarray  # ``(T, S, S)`` uint8, 255 where the person covers the pixel


@dataclasses.dataclass
class Stage:
    """The mesh of a stretch of frames."""

    shape: Tensor  # ``(T, V, 3)`` before the pose, in head radii
    posed: Tensor  # ``(T, V, 3)`` in camera axes
    image: Tensor  # ``(T, V, 2)`` in the picture, x right and y down, in [0, 1]
    inverse: Tensor  # ``(T, V)`` one over the distance along the camera's axis
    moves: np.ndarray  # ``(T, 2, 3)`` how the camera moves the picture, see ``camera_moves``


def camera_moves(controls: Controls) -> np.ndarray:
    """Affine maps ``(T, 2, 3)`` float64 from where a still camera shows a point, in [0, 1], to where it is shown."""
    c = controls.by_name()
    x, y, zoom, roll = (c[f"camera_{name}"] for name in ("x", "y", "zoom", "roll"))
    angle, scale = np.deg2rad(roll), np.exp(zoom)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
    offset = np.stack([x, y], axis=-1) + 0.5 - 0.5 * turn.sum(axis=-1)
    return np.concatenate([turn, offset[..., None]], axis=-1)


def affine(maps: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
    """Images ``(T, ..., 2)`` of the points ``x``, ``y`` ``(T, ...)`` under maps ``(T, 2, 3)``, in float32."""
    m = torch.as_tensor(maps, dtype=torch.float32, device=x.device).reshape(-1, 2, 3, *(1,) * (x.dim() - 1))
    return torch.stack([m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(2)], dim=-1)


class HeadRenderer:
    """Renders one person in square frames of 32 to 1024 pixels, on any device."""

    def __init__(self, identity: Identity, size: int, device: str | torch.device = "cpu") -> None:
        if not 32 <= size <= 1024:
            raise ValueError(f"size is 32 to 1024 pixels, got {size}")
        self.identity, self.size, self.device = identity, size, torch.device(device)
        self.rig = Rig(identity, self.device)
        self.lights = Lights(identity)
        atlas = Atlas(identity, self.rig, size, self.device)
        self._uv = atlas.uv
        # A texel's channels side by side: sampling is several times faster.
        self._texture = atlas.texture.contiguous(memory_format=torch.channels_last)
        self._wrinkles = atlas.wrinkles.contiguous(memory_format=torch.channels_last)
        self._backdrop = Backdrop(identity, size, self.device)
        self._marks = torch.as_tensor(landmarks.landmark_vertices(self.rig), device=self.device)
        self._around = self._incidence()
        rng = np.random.default_rng(identity.seed + 3)
        points = rng.choice(len(self.rig.rest), SURFACE_POINTS, replace=False)
        self._surface = torch.as_tensor(np.sort(points), device=self.device)
        rng = np.random.default_rng(identity.seed + 2)
        grain = rng.normal(size=(3, size + 61, size + 61)) * identity.noise
        self._grain = torch.as_tensor(grain, dtype=torch.float32, device=self.device)
        # The neutral face's box lies where the crop rule of real clips puts it.
        outline = self._marks[landmarks.landmark_numbers("jaw", "forehead")]
        p = self.rig.shape(Controls.neutral(1))[0, outline]
        oval = p[..., :2] / (CAMERA_DISTANCE - p[..., 2:])
        low, high = (np.array(edge.tolist()) for edge in (oval.amin(0), oval.amax(0)))
        self._scale = FACE_SHARE / float((high - low).max())
        self._centre = ((low + high) / 2).tolist()

    def _incidence(self) -> Tensor:
        """Up to eight faces round each vertex ``(V, 8)``; missing ones point to an empty face at the end."""
        faces = self.rig.faces.cpu().numpy()
        vertex = faces.reshape(-1)
        order = np.argsort(vertex, kind="stable")
        counts = np.bincount(vertex, minlength=len(self.rig.rest))
        around = np.full((len(counts), 8), len(faces))
        for v, mine in enumerate(np.split(order // 3, np.cumsum(counts)[:-1])):
            if len(mine) > 8:
                mine = mine[np.linspace(0, len(mine) - 1, 8).astype(int)]
            around[v, : len(mine)] = mine
        return torch.as_tensor(around, device=self.device)

    def render(self, controls: Controls) -> Rendering:
        """Render a whole clip; the memory needed grows with the frames returned only."""
        # What suits a CPU's cache, or fills a GPU.
        step = max(1, min(8, (256 // self.size) ** 2)) if self.device.type == "cpu" else _at_once(self.size)
        return joined([self.render_chunk(controls, a, b) for a, b in stretches(len(controls), step)])

    @torch.inference_mode()
    def measure(self, controls: Controls) -> Measures:
        """The truth of a whole clip that needs no drawing, many times faster than ``render`` and equal to its."""
        places = stretches(len(controls), MEASURED_AT_ONCE)
        return joined([Measures(**self._measures(self.stage(controls.part(a, b)))) for a, b in places])

    @torch.inference_mode()
    def render_chunk(self, controls: Controls, start: int, stop: int) -> Rendering:
        """Render the frames ``start <= t < stop`` in one go; a frame's bytes do not depend on the chunk it is in."""
        controls = controls.part(start, stop)
        stage = self.stage(controls)
        large = self.size * SUPERSAMPLING
        # Plain light is fixed to the head: what it makes of a surface does not change when the head turns.
        normals = self._normals(stage.shape if self.identity.domain == "plain" else stage.posed)
        fragments = rasterise(stage.image * large, stage.inverse, self.rig.faces, normals, self._uv, large)
        picture, cover = self._composite(fragments, self.rig.wrinkle_strengths(controls), stage.moves)
        return Rendering(
            **self._measures(stage),
            frames=self._finish(picture, start).cpu().numpy(),
            visible=self._visible(self._marks, fragments, stage, large).cpu().numpy(),
            surface_visible=self._visible(self._surface, fragments, stage, large).cpu().numpy(),
            mask=(cover * 255).round().to(torch.uint8).cpu().numpy(),
            person=(self._small(cover) * 255).round().to(torch.uint8).cpu().numpy(),
        )

    def stage(self, controls: Controls) -> Stage:
        """The mesh of a stretch of frames; a frame's bits do not depend on the others."""
        shape = self.rig.shape(controls)
        posed = self.rig.pose(shape, controls)
        moves = camera_moves(controls)
        return Stage(shape, posed, *self.project(posed, moves), moves)

    def project(self, p: Tensor, moves: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where the camera shows points.

        Args:
            p: ``(T, N, 3)`` in camera axes, head radii.
            moves: ``(T, 2, 3)``, see ``camera_moves``.

        Returns:
            Positions in the image ``(T, N, 2)`` in [0, 1], and inverse distances ``(T, N)``.
        """
        inverse = 1 / (CAMERA_DISTANCE - p[..., 2])
        x = FACE_CENTRE[0] + self._scale * (p[..., 0] * inverse - self._centre[0])
        y = FACE_CENTRE[1] - self._scale * (p[..., 1] * inverse - self._centre[1])
        return affine(moves, x, y), inverse

    def _measures(self, stage: Stage) -> dict[str, np.ndarray]:
        """Values of the fields of ``Measures``."""
        marks = stage.image[:, self._marks].cpu().numpy()
        opening, width = landmarks.lip_measures(stage.shape[:, self._marks])
        return {
            "landmarks": marks,
            "landmarks_3d": stage.posed[:, self._marks].cpu().numpy(),
            "lip_opening": opening.cpu().numpy(),
            "lip_width": width.cpu().numpy(),
            "regions": landmarks.region_boxes(marks),
            "surface": stage.image[:, self._surface].to(torch.float16).cpu().numpy(),
        }

    def _normals(self, p: Tensor) -> Tensor:
        """Vertex normals ``(T, V, 3)``: sums of the adjoining faces' area vectors, normalised."""
        faces = self.rig.faces
        a, b, c = (p.index_select(1, faces[:, i]) for i in range(3))
        u, v = b - a, c - a
        x = u[..., 1] * v[..., 2] - u[..., 2] * v[..., 1]
        y = u[..., 2] * v[..., 0] - u[..., 0] * v[..., 2]
        z = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
        area = F.pad(torch.stack([x, y, z], dim=-1), (0, 0, 0, 1))
        total = area.index_select(1, self._around[:, 0])
        for i in range(1, self._around.shape[1]):
            total += area.index_select(1, self._around[:, i])
        x, y, z = total.unbind(-1)
        length = torch.sqrt(x * x + y * y + z * z).clamp(min=1e-12)
        return torch.stack([x / length, y / length, z / length], dim=-1)

    def _composite(self, fragments: Fragments, wrinkles: Tensor, moves: np.ndarray) -> tuple[Tensor, Tensor]:
        """Linear pictures ``(T, 3, S, S)`` and coverage ``(T, S, S)`` after averaging the supersamples."""
        frames, pixels = len(moves), (self.size * SUPERSAMPLING) ** 2
        surface = self._paint(self._texture, fragments.values[3:5])
        self._wrinkle(surface, fragments, wrinkles, pixels)
        # Averaging clipped values keeps edges smooth where a highlight is far brighter than white.
        light = shade(fragments.values[:3], surface, self.lights).clamp(0, 1)
        canvas = torch.zeros(4, frames * pixels, device=self.device)
        canvas[:3].index_copy_(1, fragments.pixel, light)
        canvas[3].index_fill_(0, fragments.pixel, 1.0)
        canvas = canvas.reshape(4, frames, self.size, 2, self.size, 2)
        a, b, c, d = (canvas[:, :, :, row, :, column] for row in (0, 1) for column in (0, 1))
        small = 0.25 * (a + b + c + d)
        picture = small[:3] + (1 - small[3]) * self._backdrop.pictures(moves)
        return picture.transpose(0, 1), small[3]

    @staticmethod
    def _paint(texture: Tensor, uv: Tensor) -> Tensor:
        """Samples of ``texture (1, C, H, W)`` at ``uv (2, P)``: ``(C, P)``."""
        samples = F.grid_sample(texture, uv.t()[None, None], padding_mode="border", align_corners=False)
        return samples[0, :, 0]

    def _wrinkle(self, surface: Tensor, fragments: Fragments, strengths: Tensor, pixels: int) -> None:
        """Darkens the skin's colour in place; ``pixels`` is their number in one frame."""
        skin = torch.nonzero(fragments.face < len(self.rig.parts[0].faces))[:, 0]
        if not len(skin) or not (strengths > 0).any():
            return
        maps = self._paint(self._wrinkles, fragments.values[3:5].index_select(1, skin))
        frame = torch.div(fragments.pixel.index_select(0, skin), pixels, rounding_mode="floor")
        strength = strengths.t().contiguous().index_select(1, frame)
        dark = sum(fold * deep for fold, deep in zip(maps, strength, strict=True))
        factor = torch.ones_like(surface[0]).scatter_(0, skin, (1 - dark).clamp(min=DARKEST_WRINKLE))
        surface[:3] *= factor

    def _finish(self, picture: Tensor, start: int) -> Tensor:
        """Display values with sensor noise, ``(T, S, S, 3)`` uint8."""
        shown = 255 * torch.sqrt(picture.clamp(0, 1))
        if self.identity.noise > 0:
            for i in range(len(shown)):
                number = (start + i) * 7919 + self.identity.seed
                dy, dx = number % 61, (number // 61) % 61
                shown[i] += self._grain[:, dy : dy + self.size, dx : dx + self.size]
        return (shown + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _small(self, cover: Tensor) -> Tensor:
        """Coverage ``(T, S, S)`` at ``PERSON_SIDE`` pixels."""
        side = min(PERSON_SIDE, self.size)
        return F.interpolate(cover[:, None], (side, side), mode="area")[:, 0]

    def _visible(self, vertices: Tensor, fragments: Fragments, stage: Stage, large: int) -> Tensor:
        """Whether each of some vertices lies in the image with nothing nearer in front of it."""
        marks, inverse = stage.image[:, vertices], stage.inverse[:, vertices]
        cell = (marks * large).floor().to(torch.int64)
        inside = ((cell >= 0) & (cell < large)).all(dim=-1)
        depth = fragments.depth.reshape(-1, 1, large, large)
        furthest = -F.max_pool2d(-depth, 3, stride=1, padding=1)  # around, for surfaces seen at a slant
        x, y = cell.clamp(0, large - 1).unbind(dim=-1)
        frame = torch.arange(len(marks), device=self.device)[:, None]
        return inside & (inverse * 1.0012 >= furthest[frame, 0, y, x])


def _at_once(size: int) -> int:
    """Frames of a size that a GPU draws in one go."""
    return max(1, min(FRAMES_AT_ONCE, FRAMES_AT_ONCE * 256**2 // size**2))


def stretches(stop: int, step: int) -> list[tuple[int, int]]:
    """Ranges of ``step`` frames up to ``stop``, the last one shorter where need be."""
    return [(t, min(t + step, stop)) for t in range(0, stop, step)]


def joined(pieces: list[M]) -> M:
    """Dataclasses of arrays one after another, field by field."""
    names = [f.name for f in dataclasses.fields(pieces[0])]  # type: ignore[arg-type]
    return type(pieces[0])(**{name: np.concatenate([getattr(p, name) for p in pieces]) for name in names})
