"""The head's own geometry: skull profiles, the face's relief, and the skin as one grid with seams at mouth and eyes."""

import dataclasses
import itertools

import numpy as np
from scipy.interpolate import PchipInterpolator

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.profiles import bump, falloff, smoothstep
from datamodules.synthetic_faces.mesh.proportions import Proportions


@dataclasses.dataclass
class Part:
    """A piece of the mesh."""

    name: str  # what it is; the landmarks and the tests find parts by it
    vertices: np.ndarray  # ``(V, 3)`` rest positions in head radii
    faces: np.ndarray  # ``(F, 3)`` vertex indices, counter-clockwise seen from outside
    uv: np.ndarray  # ``(F, 3, 2)`` texture coordinates of each face's corners in [0, 1] of ``tile``
    tile: str  # name of the texture
    head: np.ndarray  # ``(V,)`` share of the head's motion against the shoulders', 0 .. 1
    jaw: np.ndarray  # ``(V,)`` share of the jaw's rotation, 0 .. 1


def grid_part(
    name: str, points: np.ndarray, tile: str, wrap: bool = False, flip: bool = False, jaw: float = 0.0
) -> Part:
    """A part from a grid of points ``(R, C, 3)``; rows run downwards and columns to the right when it is seen from outside.

    ``wrap``: the last column joins the first; ``flip`` turns the faces round; ``jaw`` weighs all vertices, ``head`` is 1.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    if wrap:
        index = np.concatenate([index, index[:, :1]], axis=1)
    faces, uv = grid_faces(index)
    if flip:
        faces, uv = faces[:, ::-1].copy(), uv[:, ::-1].copy()
    count = rows * columns
    return Part(name, points.reshape(-1, 3), faces, uv, tile, np.ones(count), np.full(count, jaw))


def grid_faces(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles ``(F, 3)`` and corner coordinates ``(F, 3, 2)`` of a grid of vertex indices ``(R, C)``."""
    rows, columns = index.shape
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    corner = np.stack([u, v], axis=-1)

    def pick(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
        return np.stack([a, b, c], axis=2), np.stack([b, d, c], axis=2)

    faces = np.stack(pick(index), axis=2).reshape(-1, 3)
    uv = np.stack(pick(corner), axis=2).reshape(-1, 3, 2)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return faces[proper], uv[proper]


FRONT_DEPTH = 1.44  # the front's depth over what its width would give: a face is far from a half circle
SECTIONS = np.array([
    [-1.0, -0.92, -0.75, -0.5, -0.2, 0.1, 0.4, 0.65, 0.85, 0.98, 1.06, 1.10],  # height
    [0.565, 0.60, 0.65, 0.695, 0.740, 0.775, 0.79, 0.745, 0.61, 0.44, 0.26, 0.0],  # half the width
    [0.74, 0.795, 0.815, 0.80, 0.770, 0.740, 0.735, 0.670, 0.555, 0.39, 0.22, 0.0],  # front, over ``FRONT_DEPTH``
    [0.42, 0.44, 0.50, 0.62, 0.80, 0.94, 0.99, 0.93, 0.74, 0.54, 0.32, 0.0],  # back
    [1.72, 1.76, 1.86, 2.0, 2.05, 2.05, 2.15, 2.2, 2.1, 2.0, 2.0, 2.0],  # power of the super-ellipse
])  # fmt: skip


class Skull:
    """Cross-sections of a person's head against height: super-ellipses with their own width, front and back.

    Attributes:
        person: whose head it is. measures: of the face. top: height of the crown.
    """

    def __init__(self, person: Identity) -> None:
        self.person, self.measures = person, Proportions(person)
        y, width, front, back, power = SECTIONS.copy()
        top = self.top = 1.10 + 0.025 * person["forehead"]
        y = np.where(y > 0.65, 0.65 + (y - 0.65) * (top - 0.65) / 0.45, y)
        width[4:6] += 0.018 * person["cheekbones"]
        front[:2] += 0.02 * person["chin_forward"]
        jaw = 1 + 0.05 * person["jaw_width"]
        width *= 1 + 0.035 * person["face_width"]
        self.width = PchipInterpolator(y, width * (1 + (jaw - 1) * smoothstep(-0.1, -0.75, y)))
        self.front = PchipInterpolator(y, FRONT_DEPTH * (1 + 0.02 * person["skull_depth"]) * front)
        self.back = PchipInterpolator(y, back * (1 + 0.03 * person["skull_depth"]))
        self.power = PchipInterpolator(y, power)

    def point(self, azimuth: np.ndarray, height: np.ndarray, grow: np.ndarray | float = 0.0) -> np.ndarray:
        """Surface points ``(..., 3)`` at azimuth (radians, 0 = front, > 0 = image right) and height, grown outwards."""
        height = np.clip(height, -1.0, self.top)
        width, front, back = (profile(height) + grow for profile in (self.width, self.front, self.back))
        return section(azimuth, height, width, front, back, self.power(height))

    def shell(self, azimuth: np.ndarray, edge: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heights ``(R, C)`` and surface points ``(R, C, 3)`` of rows ``t (R, 1)`` from the crown, 0, to ``edge (C,)``, 1."""
        y = self.top - (self.top - edge) * (1 - np.cos(t * np.pi / 2))
        return y, self.point(azimuth, y)

    def depth(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Depth ``z`` of the front of the face at ``(x, y)``."""
        power = self.power(y)
        share = np.clip(np.abs(x) / self.width(y), 0, 0.98)
        return self.front(y) * (1 - share**power) ** (1 / power) + relief(self, x, y)


def section(azimuth, y, width, front, back, power) -> np.ndarray:
    """Points ``(..., 3)`` of super-ellipses; all arguments broadcast."""
    s, c = np.sin(azimuth), np.cos(azimuth)
    power = np.where(c > 0, power, 2.0)
    reach = (np.abs(s) ** power + np.abs(c) ** power) ** (-1 / power)
    z = np.where(c > 0, front, back) * c * reach
    return np.stack(np.broadcast_arrays(width * s * reach, y, z), axis=-1)


def relief(skull: Skull, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the face's features above the skull's section at ``(x, y)``, for the front of the face."""
    person, m, ax = skull.person, skull.measures, np.abs(x)
    z = 0.035 * bump(x, y, 0, m.brow_y - 0.03, 0.42, 0.09)
    z -= 0.085 * bump(ax, y, m.eye_x - 0.03, m.eye_y + 0.01, 0.17, 0.13)
    z += (0.03 + 0.008 * person["cheekbones"]) * bump(ax, y, 0.43, -0.16, 0.17, 0.15)
    z += 0.045 * bump(x, y, 0, m.mouth_y + 0.02, 0.30, 0.21)
    z += (0.05 + 0.012 * person["chin_forward"]) * bump(x, y, 0, m.chin_y + 0.12, 0.16, 0.11)
    z -= 0.028 * bump(x, y, 0, m.mouth_y - m.lip_lower - 0.055, 0.19, 0.045)
    z -= 0.012 * bump(ax, y, m.mouth_half + 0.03, m.mouth_y, 0.05, 0.07)
    z -= 0.008 * bump(x, y, 0, m.mouth_y + m.lip_upper + 0.06, 0.028, 0.07)
    # Nose: a bridge that widens and rises downwards, tip, wings; cut off below by its underside.
    t = np.clip((0.20 - y) / (0.20 - m.nose_y), 0, 1)
    ridge = (0.065 + 0.015 * person["nose_bridge"]) * (1 - t) + 0.72 * m.nose_height * t
    sigma = 0.055 + 0.036 * t
    nose = ridge * falloff(x, sigma) * smoothstep(0.34, 0.10, y)
    tip_y = m.nose_y + 0.095 + 0.012 * person["nose_tip"]
    nose += 0.40 * m.nose_height * bump(x, y, 0, tip_y, 0.095, 0.085)
    nose += 0.38 * m.nose_height * bump(ax, y, m.nose_width * 0.86, m.nose_y + 0.055, 0.058, 0.06)
    z += nose * smoothstep(m.nose_y - 0.035, m.nose_y + 0.045, y)
    return z + lip_relief(m, x, y)


def lip_relief(m: Proportions, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rounding of the lips: full in the middle of the red, rolled in at the mouth line."""
    s = np.clip(np.abs(x) / m.mouth_half, 0, 1)
    envelope = (1 - s**2) ** 0.6
    d = y - m.mouth_line(x)
    upper, lower = m.lip_upper * (0.4 + 0.6 * (1 - s**2)), m.lip_lower * (0.4 + 0.6 * (1 - s**2))
    t = np.where(d > 0, d / upper, -d / lower)
    full = np.where(d > 0, 0.040, 0.055) * falloff(t - 0.55, 0.50)
    crease = 0.038 * falloff(t, 0.30) * (1 - s**6)
    return envelope * full - crease


def cap(points: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """A shell's ``points (R, C, 3)`` with its crown closed and another row, ``rim (C, 3)``, that turns its edge inwards."""
    points = np.concatenate([points, rim[None]], axis=0)
    points[0] = points[0].mean(axis=0)
    return points


@dataclasses.dataclass
class SkinGrid:
    """The skin: a part, and the grid it came from, whose last column repeats the first."""

    part: Part  # vertices after welding
    index: np.ndarray  # ``(R, C + 1)`` vertex of each grid point
    points: np.ndarray  # ``(R, C + 1, 3)`` rest positions of the grid points, eyes and mouth closed
    mouth_rows: tuple[int, int]  # the two rows that coincide along the mouth (upper, lower)
    eye_rows: tuple[int, int]
    mouth_columns: np.ndarray  # from corner to corner
    eye_columns: tuple[np.ndarray, np.ndarray]  # of the person's right eye (image left) and left eye
    side: np.ndarray  # ``(V,)`` -1 for vertices below the mouth line, 1 above
    lid_side: np.ndarray  # the same for the eyes


def _spaced(*stops: tuple[float, int]) -> np.ndarray:
    """Values through ``stops``, with as many steps into each stop as it says."""
    values = [stops[0][0]]
    for (start, _), (end, steps) in itertools.pairwise(stops):
        values.extend(np.linspace(start, end, steps + 1)[1:])
    return np.array(values)


def _columns(skull: Skull) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Azimuths of the columns, one exactly at each corner of mouth and eyes; and the corners' steps from the middle."""
    m, grid = skull.measures, np.linspace(0, np.pi / 2, 2000)

    def azimuth(x: float, y: float) -> float:
        return float(np.interp(x, skull.point(grid, np.full_like(grid, y))[:, 0], grid))

    inner = azimuth(m.eye_x - m.eye_half, m.eye_y)
    outer = azimuth(m.eye_x + m.eye_half, m.eye_y)
    mouth = azimuth(m.mouth_half, m.mouth_y)
    right = _spaced((0, 0), (inner, 6), (mouth, 4), (outer, 7), (np.pi / 2, 10), (np.pi, 7))
    return np.concatenate([-right[:0:-1], right]), (6, 10, 17)


def _row_sections(skull: Skull) -> tuple[np.ndarray, int, int]:
    """Rows from crown to neck (y, width, front, back, power, lift, shift of z), and the rows of eyes and mouth."""
    m = skull.measures
    crown = skull.top - (skull.top - 0.62) * (1 - np.cos(np.linspace(0, 1, 9) * np.pi / 2))
    below = _spaced(
        (0.62, 0), (0.42, 3), (m.eye_y + 0.17, 4), (m.eye_y, 8), (m.eye_y - 0.14, 6), (m.nose_y + 0.13, 4),
        (m.nose_y - 0.03, 5), (m.mouth_y + m.lip_upper + 0.02, 3), (m.mouth_y, 6),
        (m.mouth_y - m.lip_lower - 0.02, 6), (-0.80, 3), (-0.92, 3), (-1.0, 3),
    )  # fmt: skip
    y = np.concatenate([crown, below[1:]])
    eye_row = int(np.argmin(np.abs(y - m.eye_y)))
    mouth_row = int(np.argmin(np.abs(y - m.mouth_y)))
    lift = 0.35 * smoothstep(-0.25, -1.0, y)
    head = np.stack([y, skull.width(y), skull.front(y), skull.back(y), skull.power(y), lift, 0 * y], axis=1)
    n = 1 + 0.07 * skull.person["neck_width"]
    chin = head[-1]
    j = chin[1] / 0.565
    neck = np.array([
        [-1.030, 0.535 * j, chin[2] - 0.06, 0.42, 1.9, 0.33, 0.0],
        [-1.035, 0.485 * j, chin[2] - 0.16, 0.42, 1.95, 0.26, 0.0],
        [-1.040, 0.44 * n, 0.34, 0.43, 2.0, 0.16, -0.03],
        [-1.090, 0.41 * n, 0.29, 0.44, 2.0, 0.08, -0.06],
        [-1.180, 0.405 * n, 0.285, 0.46, 2.0, 0.03, -0.08],
        [-1.300, 0.42 * n, 0.29, 0.48, 2.0, 0.0, -0.10],
        [-1.450, 0.46 * n, 0.31, 0.50, 2.0, 0.0, -0.12],
        [-1.700, 0.60 * n, 0.36, 0.52, 2.0, 0.0, -0.14],
    ])  # fmt: skip
    rows = np.concatenate([head, neck])
    rows[:, 0] += (m.chin_y + 1.0) * smoothstep(-0.72, -1.0, rows[:, 0])
    return rows, eye_row, mouth_row


def build_skin(skull: Skull) -> SkinGrid:
    """The skin of head and neck as one grid, eyes and mouth closed."""
    m = skull.measures
    azimuth, (inner, mouth, outer) = _columns(skull)
    rows, eye_row, mouth_row = _row_sections(skull)
    rows = np.insert(rows, [eye_row, mouth_row], rows[[eye_row, mouth_row]], axis=0)
    mouth_row += 1
    y, width, front, back, power, lift, shift = (rows[:, i : i + 1] for i in range(7))
    turn = np.abs(azimuth)[None] / (np.pi / 2)
    points = section(azimuth[None], y + lift * np.minimum(turn, 1) ** 1.7, width, front, back, power)
    points[..., 2] += shift
    x, height = points[..., 0], points[..., 1]
    # Bend the rows so that the seams follow the mouth line and the lines through the eyes' corners.
    face = smoothstep(1.15, 0.75, turn)
    mouth_x, seam = points[mouth_row, :, 0], points[mouth_row, :, 1]
    fade = falloff(np.maximum(np.abs(mouth_x) - m.mouth_half, 0), 0.14)
    height = height + face * (fade * (m.mouth_line(mouth_x) - seam)) * falloff(y - m.mouth_y, 0.16)
    height = height + face * (m.eye_line(x) - m.eye_y) * falloff(y - m.eye_y, 0.16)
    points[..., 1] = height
    under = smoothstep(-1.02, -0.985, y - (m.chin_y + 1.0))
    points[..., 2] += face * under * relief(skull, x, height)
    index, side, lid_side = _weld(points, eye_row, mouth_row, (inner, mouth, outer))
    faces, uv = grid_faces(index)
    opening = np.zeros(len(faces), dtype=bool)  # no skin between the two edges of a seam
    for upper in (eye_row, mouth_row):
        v = uv[..., 1] * (len(rows) - 1)
        opening |= (v.min(axis=1) > upper - 0.5) & (v.max(axis=1) < upper + 1.5)
    faces, uv = faces[~opening], uv[~opening]
    vertices = np.zeros((index.max() + 1, 3))
    vertices[index] = points
    below = np.zeros(len(vertices))
    below[index] = np.broadcast_to(rows[:, :1], index.shape)
    head = smoothstep(-1.65, -1.12, below)
    part = Part("skin", vertices, faces, uv, "skin", head, np.zeros(len(vertices)))
    middle = len(azimuth) // 2
    eyes = (np.arange(middle - outer, middle - inner + 1), np.arange(middle + inner, middle + outer + 1))
    columns = np.arange(middle - mouth, middle + mouth + 1)
    seams = (mouth_row, mouth_row + 1), (eye_row, eye_row + 1)
    return SkinGrid(part, index, points, *seams, columns, eyes, side, lid_side)


def _weld(
    points: np.ndarray, eye_row: int, mouth_row: int, steps: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertex of each grid point: seam rows stay apart only inside mouth and eyes; the back and the crown close."""
    inner, mouth, outer = steps
    rows, columns = points.shape[:2]
    step = np.abs(np.arange(columns) - columns // 2)
    index = np.arange(rows * columns).reshape(rows, columns)
    index[eye_row + 1] = np.where((step > inner) & (step < outer), index[eye_row + 1], index[eye_row])
    index[mouth_row + 1] = np.where(step < mouth, index[mouth_row + 1], index[mouth_row])
    index[:, -1] = index[:, 0]
    index[0] = index[0, 0]
    used, compact = np.unique(index, return_inverse=True)
    row_of = used // columns
    side = np.where(row_of <= mouth_row, 1.0, -1.0)
    lid_side = np.where(row_of <= eye_row, 1.0, -1.0)
    return compact.reshape(rows, columns), side, lid_side
