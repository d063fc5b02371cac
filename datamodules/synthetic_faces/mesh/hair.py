"""Hair: a shell round the skull whose lower edge is the style, with rounded rims, and a bun where there is one."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.geometry import Part, Skull, cap, grid_part
from datamodules.synthetic_faces.mesh.headwear import hair_limit
from datamodules.synthetic_faces.mesh.profiles import falloff, smoothstep

# Lower edge of the hair: height at azimuths in degrees (0 = front, 180 = back); the ear is near 92.
AZIMUTHS = (0, 20, 40, 55, 66, 76, 84, 94, 106, 125, 150, 180)
EDGES = {
    "short": (0.71, 0.70, 0.58, 0.32, 0.13, 0.00, -0.12, 0.12, 0.02, -0.34, -0.50, -0.55),
    "buzz": (0.71, 0.72, 0.64, 0.38, 0.18, 0.02, -0.06, 0.16, 0.04, -0.32, -0.48, -0.52),
    "side_part": (0.71, 0.70, 0.60, 0.34, 0.15, 0.00, -0.12, 0.12, 0.0, -0.36, -0.52, -0.56),
    "fringe": (0.44, 0.43, 0.40, 0.27, 0.12, -0.02, -0.12, 0.10, -0.02, -0.40, -0.55, -0.58),
    "curly": (0.62, 0.60, 0.52, 0.34, 0.16, -0.02, -0.14, -0.18, -0.26, -0.52, -0.62, -0.64),
    "afro": (0.60, 0.58, 0.50, 0.34, 0.14, -0.06, -0.18, -0.24, -0.34, -0.56, -0.66, -0.68),
    "bob": (0.73, 0.68, 0.42, 0.02, -0.50, -0.78, -0.84, -0.86, -0.88, -0.90, -0.90, -0.90),
    "long": (0.74, 0.69, 0.44, 0.05, -0.55, -1.20, -1.50, -1.60, -1.65, -1.70, -1.70, -1.70),
    "wavy": (0.72, 0.66, 0.40, 0.02, -0.52, -1.05, -1.25, -1.32, -1.36, -1.40, -1.40, -1.40),
    "bun": (0.72, 0.70, 0.58, 0.32, 0.14, 0.00, -0.08, 0.16, 0.06, -0.30, -0.46, -0.50),
}
THICKNESS = {
    "short": 0.10, "buzz": 0.022, "side_part": 0.115, "fringe": 0.105, "curly": 0.22,
    "afro": 0.36, "bob": 0.11, "long": 0.105, "wavy": 0.15, "bun": 0.055,
}  # fmt: skip
HANGING = ("long", "wavy", "bob")  # falls over the ears and below the jaw
# Height of the hairline painted on the scalp, front to back, and styles that leave the scalp bare.
SCALP = PchipInterpolator(np.array(AZIMUTHS), np.array(EDGES["short"]))


def hair_edge(person: Identity, azimuth: np.ndarray) -> np.ndarray:
    """Height of the hair's lower edge at ``azimuth`` (radians)."""
    line = PchipInterpolator(np.array(AZIMUTHS), np.array(EDGES[person.hair_style]))
    edge = line(np.rad2deg(np.abs(azimuth)))
    if person.hair_style in ("short", "side_part", "fringe", "curly", "afro"):
        rng = np.random.default_rng(person.seed + 29)
        jag = sum(np.sin(k * azimuth + rng.uniform(0, 2 * np.pi)) for k in (17, 29, 41))
        edge = edge + 0.011 * jag * smoothstep(1.3, 0.9, np.abs(azimuth))
    return edge + 0.05 * np.sin(azimuth) * smoothstep(1.3, 0.6, np.abs(azimuth)) * _parting(person)


def _parting(person: Identity) -> float:
    """The side of the parting: -1, 1, or 0 where there is none."""
    return 0.0 if person.hair_style != "side_part" else 1.0 if person.seed % 2 else -1.0


def build_hair(skull: Skull) -> list[Part]:
    """The parts of the hair; empty for a bald head. Texture coordinate v runs from the crown to the edge."""
    person = skull.person
    if person.hair_style == "bald":
        return []
    right = np.r_[np.linspace(0, 60, 13), np.linspace(60, 100, 9)[1:], np.linspace(100, 180, 7)[1:]]
    azimuth = np.deg2rad(np.concatenate([-right[:0:-1], right]))
    edge = hair_edge(person, azimuth)
    thick = THICKNESS[person.hair_style] * (1 + 0.22 * person.hair_volume)
    t = np.concatenate([np.linspace(0, 0.86, 14), [0.93, 0.975, 1.0]])[:, None]
    y, base = skull.shell(azimuth, edge, t)
    if person.hair_style in HANGING:
        base = _curtain(skull, azimuth, y, base, person.hair_style != "bob")
    base[..., 1] = y
    normal = base * np.array([1.0, 0.75, 1.0]) - np.array([0, 0.15, 0.0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    rim = np.sqrt(np.clip(1 - t**10, 0, 1))
    depth = thick * _profile(person, y) * rim - 0.015 * (1 - rim)
    depth += _volume(person, azimuth, y, thick) * rim
    depth = np.minimum(depth, hair_limit(person, azimuth[None], y))
    points = cap(base + depth[..., None] * normal, (base - 0.05 * normal)[-1])
    hair = grid_part("hair", points, "hair")
    hair.head = (0.35 + 0.65 * smoothstep(-1.6, -0.6, points[..., 1])).reshape(-1)
    parts = [hair]
    if person.hair_style in HANGING:  # what hangs free is seen from within, too
        inside = points - 0.02 * np.concatenate([normal, normal[-1:]])
        lining = grid_part("hair_lining", inside, "hair_lining", flip=True)
        lining.head = hair.head
        parts.append(lining)
    if person.hair_style == "bun" and person.headwear == "none":
        angle, phi = np.meshgrid(np.linspace(0, np.pi, 10), np.linspace(-np.pi, np.pi, 18), indexing="ij")
        ball = np.stack([np.sin(angle) * np.sin(phi), np.cos(angle), np.sin(angle) * np.cos(phi)], axis=-1)
        centre = np.array([0.0, skull.top + 0.10, -0.28])
        parts.append(grid_part("bun", centre + 0.27 * ball * np.array([1.0, 0.85, 1.0]), "hair"))
    return parts


def _curtain(skull: Skull, azimuth: np.ndarray, y: np.ndarray, base: np.ndarray, long: bool) -> np.ndarray:
    """Below the temples hanging hair keeps the skull's widest section instead of following the jaw."""
    widest = skull.point(azimuth, np.full_like(y, 0.15))
    hang = smoothstep(0.25, -0.15, y)[..., None]
    flare = 1 + (0.05 if long else 0.09) * smoothstep(0.0, -0.9, y)[..., None]
    hanging = widest * flare
    hanging[..., 2] -= 0.10 * smoothstep(0.0, -0.8, y)
    return base * (1 - hang) + hanging * hang


def _volume(person: Identity, azimuth: np.ndarray, y: np.ndarray, thick: float) -> np.ndarray:
    """Extra thickness: lumps of curls, a quiff, a parting."""
    a = azimuth[None]
    rng = np.random.default_rng(person.seed + 17)
    if person.hair_style == "curly":
        p = rng.uniform(0, 2 * np.pi, 6)
        lumps = np.sin(7 * a + p[0] + 3 * y) * np.sin(9 * y + p[1])
        lumps = lumps + np.sin(11 * a + p[2]) * np.sin(13 * y + p[3] + 2 * a)
        return 0.16 * thick * lumps * smoothstep(1.08, 0.95, y)
    if person.hair_style == "wavy":
        p = rng.uniform(0, 2 * np.pi, 2)
        waves = np.sin(9 * a + p[0] + 1.2 * np.sin(6 * y + p[1])) + 0.8 * np.sin(7 * y + 2 * a + p[1])
        return 0.22 * thick * waves * smoothstep(0.6, -0.1, y)
    if person.hair_style in ("short", "side_part"):
        quiff = falloff(a, 0.6) * smoothstep(0.55, 0.8, y) * smoothstep(1.09, 0.93, y)
        lean = _parting(person) * np.sin(a) * smoothstep(0.5, 0.8, y) * smoothstep(1.09, 0.93, y)
        waves = 0.10 * np.sin(9 * a + rng.uniform(0, 6)) * smoothstep(0.2, 0.7, y)
        return thick * (0.55 * quiff * np.ones_like(y) + 0.35 * lean + waves * smoothstep(1.09, 0.93, y))
    if person.hair_style in ("long", "bob", "fringe"):
        waves = np.sin(8 * a + rng.uniform(0, 6)) + 0.7 * np.sin(13 * a + rng.uniform(0, 6))
        return 0.10 * thick * waves * smoothstep(0.8, 0.2, y)
    return np.zeros_like(y * a)


def _profile(person: Identity, y: np.ndarray) -> np.ndarray:
    """Thickness against height: cropped sides under a full top for short styles, even for others."""
    if person.hair_style in ("short", "side_part"):
        return 0.28 + 0.72 * smoothstep(0.30, 0.85, y)
    if person.hair_style == "fringe":
        return 0.5 + 0.5 * smoothstep(0.0, 0.5, y)
    return np.ones_like(y)
