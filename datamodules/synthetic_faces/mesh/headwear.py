"""Caps and beanies: shells over the hair, and how far hair may stand out beneath them."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.geometry import Part, Skull, cap, grid_part
from datamodules.synthetic_faces.mesh.profiles import smoothstep

GROWN = 0.085  # of the shell over the skull, head radii
# Lower edge at azimuths in degrees (0 = front, 180 = back).
AZIMUTHS = (0, 45, 90, 140, 180)
LINES = {"cap": (0.56, 0.50, 0.30, 0.10, 0.02), "beanie": (0.53, 0.46, 0.24, -0.10, -0.18)}
VISOR_HALF = np.deg2rad(62)


def headwear_line(person: Identity, azimuth: np.ndarray) -> np.ndarray:
    """Height of the lower edge at ``azimuth`` (radians)."""
    return PchipInterpolator(AZIMUTHS, LINES[person.headwear])(np.rad2deg(np.abs(azimuth)))


def hair_limit(person: Identity, azimuth: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far hair may stand out from the skull at azimuth and height; broadcasts."""
    if person.headwear == "none":
        return np.full(np.broadcast_shapes(azimuth.shape, y.shape), np.inf)
    line = headwear_line(person, azimuth)
    return 0.035 + 0.30 * smoothstep(line + 0.02, line - 0.30, y)


def build_headwear(skull: Skull) -> list[Part]:
    """The shell and what belongs to it; texture coordinate v runs from the crown to the edge."""
    person = skull.person
    if person.headwear == "none":
        return []
    azimuth = np.linspace(-np.pi, np.pi, 57)
    line = headwear_line(person, azimuth)
    t = np.concatenate([np.linspace(0, 0.9, 12), [0.96, 1.0]])[:, None]
    y, base = skull.shell(azimuth, line, t)
    base[..., 1] = y
    normal = base * np.array([1.0, 0.9, 1.0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    fold = smoothstep(0.62, 0.66, t) if person.headwear == "beanie" else 0.0 * t
    grown = GROWN + 0.045 * fold + 0.03 * smoothstep(0.5, 0.0, t)
    points = cap(base + grown[..., None] * normal, (base + 0.01 * normal)[-1])
    parts = [grid_part("headwear", points, "headwear")]
    if person.headwear == "cap":
        parts += _visor(skull)
    return parts


def _visor(skull: Skull) -> list[Part]:
    """Upper and lower face of the visor, a curved tongue in front of the cap's edge."""
    a = np.linspace(-1, 1, 21)[None]
    out = np.concatenate([np.linspace(0, 1, 7), [1.0]])[:, None]
    azimuth = np.broadcast_to(a * VISOR_HALF, (len(out), 21))
    line = headwear_line(skull.person, azimuth)
    edge = skull.point(azimuth, line, GROWN - 0.02)
    length = 0.40 * np.sqrt(np.clip(1 - np.abs(a) ** 2.4, 0, 1)) * out

    def face(height: float) -> np.ndarray:
        y = height - 0.20 * length - 0.25 * a**2 * length
        return edge + np.stack([0.10 * a * length, y, length], axis=-1)

    upper, under = face(0.02), face(-0.01)[:-1]
    upper[-1, :, 1] -= 0.03  # the rim's thickness
    return [grid_part("visor", upper, "visor"), grid_part("visor_under", under, "visor_under", flip=True)]
