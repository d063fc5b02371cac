"""Everything of a head but skin and hair: eyes, ears, the inside of the mouth, clothes, glasses."""

from functools import partial

import numpy as np

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.geometry import Part, SkinGrid, Skull, grid_part
from datamodules.synthetic_faces.mesh.profiles import bump, falloff, smoothstep
from datamodules.synthetic_faces.mesh.proportions import Proportions


def eye_centres(skull: Skull) -> np.ndarray:
    """Centres ``(2, 3)`` of the eyeballs, the person's right eye (image left) first."""
    m = skull.measures
    x = np.array([m.eye_x - m.eye_half, m.eye_x + m.eye_half])
    depth = skull.depth(x, m.eye_line(x))
    z = 0.35 * depth[0] + 0.65 * depth[1] + 0.022 - np.sqrt(m.eyeball**2 - m.eye_half**2)
    return np.array([[-m.eye_x - 0.008, m.eye_y, z], [m.eye_x + 0.008, m.eye_y, z]])


def eyeballs(m: Proportions, centres: np.ndarray) -> list[Part]:
    """Front halves of the eyeballs; rows run from the pupil outwards."""
    ring = np.concatenate([np.linspace(0, np.arcsin(m.iris / m.eyeball), 4), np.linspace(0.45, 1.75, 8)])
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    angle, phi = np.meshgrid(ring, turn, indexing="ij")
    ball = np.stack([np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.cos(angle)], axis=-1)
    names = ("right_eye", "left_eye")
    return [grid_part(n, c + m.eyeball * ball, "eye", wrap=True) for n, c in zip(names, centres, strict=True)]


EYE_IRIS_ROW = 3 / 11  # texture coordinate v of the iris' rim in the part above


def ears(skull: Skull) -> list[Part]:
    """Two shells with helix and concha."""
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    r, phi = np.meshgrid(np.concatenate([np.linspace(0, 1, 7), [1.02, 0.7]]), turn, indexing="ij")
    size = 1 + 0.08 * skull.person["ear_size"]
    q = 0.185 * size * r * np.sin(phi)
    p = 0.115 * size * r * np.cos(phi) * (1 + 1.1 * q) + 0.02
    lift = 0.035 + 0.036 * falloff(r - 0.86, 0.13) - 0.032 * falloff(r - 0.1, 0.42)
    lift[-2], lift[-1] = 0.005, -0.10
    out = np.deg2rad(34 + 6 * skull.person["ear_out"])
    side = skull.width(np.array(0.0)) + 0.015
    normal, back = np.array([np.cos(out), 0, np.sin(out)]), np.array([np.sin(out), 0, -np.cos(out)])
    up = np.array([0.06, 1, -0.16])
    left = np.array([side, -0.01, -0.07]) + p[..., None] * back + q[..., None] * up + lift[..., None] * normal
    right = left * np.array([-1, 1, 1])
    ear = partial(grid_part, tile="ear", wrap=True)
    return [ear("right_ear", right, flip=True), ear("left_ear", left)]


def mouth_inside(skull: Skull) -> list[Part]:
    """Cavity, upper teeth, lower teeth and tongue, all hidden while the lips touch."""
    m = skull.measures
    lip = float(skull.depth(np.array(0.0), np.array(m.mouth_y + 0.03)))
    a, b = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(1, -1, 9))
    x, y = a * 1.15 * m.mouth_half, m.mouth_y + 0.19 * b
    z = skull.depth(x, y) - 0.10 - 0.4 * np.sqrt((1 - a**2) * (1 - b**2))
    cavity = grid_part("cavity", np.stack([x, y, z], axis=-1), "cavity")
    cavity.jaw = ((1 - b) / 2).reshape(-1)
    parts = [cavity]
    for name, width, high, low, back, jaw in (
        ("upper_teeth", 0.80, 0.11, -0.040, 0.092, 0.0),
        ("lower_teeth", 0.76, -0.030, -0.15, 0.122, 1.0),
    ):
        a, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(0, 1, 4))
        x = a * width * m.mouth_half
        edge = (0.012 * a**2) * (1 if jaw == 0 else 0) * v
        y = m.mouth_y + high + (low - high) * v + edge
        z = lip - back - 2.3 * x**2 - 0.02 * (2 * v - 1) ** 2
        parts.append(grid_part(name, np.stack([x, y, z], axis=-1), name, jaw=jaw))
    a, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 1, 8))
    x = a * 0.62 * m.mouth_half * (1 - 0.35 * v**3)
    y = m.mouth_y - 0.125 + 0.035 * (1 - a**2) - 0.05 * v**4 - 0.02 * falloff(a, 0.2) * (1 - v)
    z = lip - 0.42 + 0.27 * v - 0.05 * a**2
    parts.append(grid_part("tongue", np.stack([x, y, z], axis=-1), "tongue", jaw=0.9))
    return parts


def inner_strip(
    skin: SkinGrid, name: str, row: int, columns: np.ndarray, upper: bool, depth: float, tile: str
) -> tuple[Part, np.ndarray, np.ndarray]:
    """A band that leads from a seam's edge inwards, so that an opened lip or lid has thickness.

    Returns:
        The part, and for each of its vertices the skin vertex it follows ``(V,)`` and the offset from it ``(V, 3)``.
    """
    edge = skin.index[row, columns]
    t = np.linspace(0, 1, 3)[:, None]
    inside = np.minimum(1, 3 * np.sin(np.linspace(0, np.pi, len(columns))))[None]
    sign = 1.0 if upper else -1.0
    ways = 0 * t * inside, sign * 0.22 * depth * t**2 * inside, -depth * t * inside
    offset = np.stack(np.broadcast_arrays(*ways), axis=-1)
    points = skin.part.vertices[edge][None] + offset
    part = grid_part(name, points, tile, flip=not upper)
    return part, np.tile(edge, len(t)), offset.reshape(-1, 3)


def clothes(person: Identity) -> Part:
    """Shoulders with a garment; texture coordinate v runs from the neckline (0) to the chest (1)."""
    styles = {
        "crew": (0.09, 2, 0.0),
        "collar": (0.13, 6, 0.09),
        "vneck": (0.30, 5, 0.0),
        "turtleneck": (0.0, 2, 0.13),
    }
    dip, power, rise = styles[person.clothes_style]
    n = 1 + 0.06 * person["neck_width"]
    rings = np.array([
        [-1.25, 0.425 * n, 0.30, 0.45],
        [-1.165 + rise, 0.440 * n, 0.325, 0.47],
        [-1.165 + rise * 0.85, 0.465 * n, 0.350, 0.50],
        [-1.200 + rise * 0.3, 0.490 * n, 0.375, 0.52],
        [-1.240, 0.560 * n, 0.405, 0.54],
        [-1.320, 0.770, 0.450, 0.57],
        [-1.400, 1.020, 0.500, 0.60],
        [-1.520, 1.290, 0.550, 0.62],
        [-1.720, 1.480, 0.600, 0.65],
        [-2.100, 1.560, 0.640, 0.68],
        [-2.700, 1.580, 0.660, 0.70],
    ])  # fmt: skip
    azimuth = np.linspace(-np.pi, np.pi, 49)
    y, width, front, back = (rings[:, i : i + 1] for i in range(4))
    c, s = np.cos(azimuth)[None], np.sin(azimuth)[None]
    depth = np.where(c > 0, front, back) * c - 0.10
    points = np.stack(np.broadcast_arrays(width * s, y, depth), axis=-1)
    fade, ahead = np.clip((y + 1.75) / 0.5, 0, 1), np.maximum(c, 0) ** power
    points[..., 1] -= dip * fade * ahead
    points[..., 2] += 0.25 * dip * fade * ahead
    garment = grid_part("clothes", points, "clothes")
    garment.head[:] = 0.0  # it goes with the shoulders
    return garment


def glasses(skull: Skull, centres: np.ndarray) -> list[Part]:
    """Rims, bridge and temples; empty without glasses."""
    m, style = skull.measures, skull.person.glasses_style
    if style == "none":
        return []
    power, wide, high = (2.2, 0.245, 0.215) if style == "round" else (4.0, 0.27, 0.18)
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    reach = (np.abs(c) ** power + np.abs(s) ** power) ** (-1 / power)
    x, y = m.eye_x + 0.012 + wide * c * reach, m.eye_y - 0.012 + high * s * reach
    bend = 0.55 * np.maximum(x - 0.12, 0) ** 1.6
    clear = skull.depth(x, y) + bend + 0.02  # neither nose nor cheeks touch the rims
    front = max(centres[0, 2] + m.eyeball + 0.06, clear.max())
    parts = []
    for sign, name in ((-1, "right_rim"), (1, "left_rim")):
        path = np.stack([sign * x, y, front - bend], axis=-1)[::sign]
        parts.append(_tube(name, path, 0.017, closed=True))
        hinge = path[0 if sign > 0 else -1].copy()
        hinge[1] += 0.05
        ear = np.array([sign * 0.81, 0.12, -0.08])
        t = np.linspace(0, 1, 5)[:, None]
        temple = hinge + (ear - hinge) * t + np.array([sign * 0.05, 0, 0]) * np.sin(np.pi * t)
        parts.append(_tube(f"{name}_temple", temple, 0.014, closed=False))
    x = np.linspace(-(m.eye_x - wide + 0.03), m.eye_x - wide + 0.03, 6)
    arch = m.eye_y + 0.03 + 0.03 * np.cos(x / x[-1] * np.pi / 2)
    bridge = np.stack([x, arch, front + 0.012 + 0 * x], axis=-1)
    parts.append(_tube("bridge", bridge, 0.014, closed=False))
    return parts


def _tube(name: str, path: np.ndarray, radius: float, closed: bool) -> Part:
    """A square-sectioned tube round a path ``(N, 3)``."""
    tangent = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    helper = np.array([0.0, 0.0, 1.0]) if np.abs(tangent[:, 2]).max() < 0.9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(tangent, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)[:, None, None]
    points = path[None] + radius * (np.cos(turn) * side[None] + np.sin(turn) * up[None])
    rows = np.concatenate([points, points[:1]], axis=0)
    part = grid_part(name, rows, "glasses", wrap=closed)
    a, b, c = (part.vertices[part.faces[:, i]] for i in range(3))
    outward = (a - np.tile(path, (len(rows), 1))[part.faces[:, 0]]) * np.cross(b - a, c - a)
    if outward.sum() < 0:
        part.faces, part.uv = part.faces[:, ::-1].copy(), part.uv[:, ::-1].copy()
    return part


def jaw_weights(m: Proportions, skin: SkinGrid) -> np.ndarray:
    """Share ``(V,)`` of the jaw's rotation: 1 on chin and lower lip, 0 above the mouth, half at its corners."""
    x, y, z = skin.part.vertices.T
    opening = m.opening(x)
    distance = np.abs(y - m.mouth_line(x))
    upper = 0.45 * (1 - opening) * (1 - smoothstep(0.0, 0.36, distance))
    at_seam = 0.45 + 0.55 * opening
    lower = at_seam + (1 - at_seam) * smoothstep(0.0, 0.26, distance)
    weight = np.where(skin.side > 0, upper, lower)
    to_ear = smoothstep(-0.10, 0.30, z)
    neck = smoothstep(-1.22, -1.02, y + 0.10 * bump(x, y, 0, -1.0, 0.5, 0.1))
    return weight * to_ear * neck
