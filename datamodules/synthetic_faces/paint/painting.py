"""Procedural textures, painted once per identity: skin with lips and brows, eyes, hair, mouth, clothes.

Textures hold linear light (the square of the display value) in three channels and gloss 0..1 in the fourth.
"""

import itertools

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.parts import EYE_IRIS_ROW
from datamodules.synthetic_faces.mesh.profiles import falloff, smoothstep
from datamodules.synthetic_faces.mesh.rig import WRINKLES, Rig
from datamodules.synthetic_faces.paint import skin_paint
from datamodules.synthetic_faces.paint.colours import from_hex, mix, natural_lip, noise, skin_colour

PAD = 2  # texels repeated round each tile against bleeding


class Atlas:
    """All textures of a person in one picture.

    Attributes:
        texture: ``(1, 4, H, W)`` float32, linear RGB and gloss.
        wrinkles: ``(1, K, H, W)`` float32, how much each fold of ``WRINKLES`` darkens where it is deepest, 0 .. 0.45; aligned
            with ``texture`` and 0 outside the skin.
        uv: ``(F, 3, 2)`` texture coordinates of the rig's faces in [-1, 1], as ``grid_sample`` wants them.
    """

    def __init__(self, person: Identity, rig: Rig, size: int, device: torch.device) -> None:
        tiles = paint_tiles(person, rig, size)
        padded = [np.pad(tile, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge") for tile in tiles.values()]
        width = max(tile.shape[1] for tile in padded)
        canvas = np.concatenate([np.pad(t, ((0, 0), (0, width - t.shape[1]), (0, 0))) for t in padded])
        height = len(canvas)
        top = dict(zip(tiles, itertools.accumulate(map(len, padded), initial=PAD), strict=False))
        wrinkles = np.zeros((len(WRINKLES), height, width), dtype=np.float32)
        side = len(tiles["skin"])
        folds = skin_paint.paint_wrinkles(person, rig, side)
        wrinkles[:, top["skin"] : top["skin"] + side, PAD : PAD + side] = folds
        self.wrinkles = torch.as_tensor(wrinkles, device=device)[None]
        self.texture = torch.as_tensor(canvas, device=device).permute(2, 0, 1)[None]
        placed = []
        for part in rig.parts:
            h, w = tiles[part.tile].shape[:2]
            u = (PAD + part.uv[..., 0] * w) / width * 2 - 1
            v = (top[part.tile] + part.uv[..., 1] * h) / height * 2 - 1
            placed.append(np.stack([u, v], axis=-1))
        self.uv = torch.as_tensor(np.concatenate(placed), dtype=torch.float32, device=device)


def paint_tiles(person: Identity, rig: Rig, size: int) -> dict[str, np.ndarray]:
    """All tiles ``(h, w, 4)`` by name, with a resolution that suits pictures of ``size`` pixels."""
    scale = int(np.clip(size * 2, 192, 768))
    rng = np.random.default_rng(person.seed)
    mouth = np.random.default_rng((person.seed, 1))
    skin = skin_colour(person)
    lip = mix(natural_lip(person), skin, 0.1)
    tiles = {
        "skin": skin_paint.paint_skin(person, rig, scale, rng),
        "eye": _eye(person, scale // 3, rng),
        "hair": _hair(person, scale // 2, rng),
        "hair_lining": _flat(from_hex(person.hair_colour) * 0.45, 0.05),
        "clothes": _clothes(person, scale // 2, rng),
        "ear": _ear(person, skin, scale // 6),
        "cavity": _flat((0.16, 0.035, 0.04), 0.0),
        "lip": _ramp(lip * 0.55, np.array([0.22, 0.05, 0.05]), 0.35),
        "lash": _flat((0.10, 0.06, 0.05), 0.05),
        "rim": _flat(mix(skin, np.array([0.85, 0.55, 0.52]), 0.5) * 0.8, 0.3),
        "upper_teeth": _teeth(person, scale // 4, True, mouth),
        "lower_teeth": _teeth(person, scale // 4, False, mouth),
        "tongue": _tongue(scale // 8, mouth),
        "headwear": _headwear(person, scale // 2, rng),
        "visor": _flat(from_hex(person.headwear_colour) * 0.9, 0.08),
        "visor_under": _flat(from_hex(person.headwear_colour) * 0.45, 0.05),
        "glasses": _flat(from_hex(person.glasses_colour), 0.7),
    }
    for tile in tiles.values():
        tile[..., :3] = np.clip(tile[..., :3], 0, 1) ** 2
    return tiles


def _texels(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates v and u ``(rows, columns)`` of the centres of a tile's texels."""
    return tuple(np.meshgrid(*((np.arange(n) + 0.5) / n for n in (rows, columns)), indexing="ij"))  # type: ignore


def _tile(colour: np.ndarray, gloss: float) -> np.ndarray:
    """A tile ``(h, w, 4)`` of one gloss."""
    return np.concatenate([colour, np.full((*colour.shape[:2], 1), gloss)], axis=-1).astype(np.float32)


def _flat(colour: np.ndarray | tuple[float, ...], gloss: float) -> np.ndarray:
    return _tile(np.broadcast_to(colour, (4, 4, 3)), gloss)


def _ramp(top: np.ndarray, bottom: np.ndarray, gloss: float) -> np.ndarray:
    """From ``top`` (v = 0) to ``bottom``."""
    ramp = mix(top, bottom, np.linspace(0, 1, 16)[:, None])
    return _tile(np.broadcast_to(ramp[:, None], (16, 4, 3)), gloss)


def _eye(person: Identity, size: int, rng: np.random.Generator) -> np.ndarray:
    """Iris, pupil and white in polar coordinates: v runs outwards, u round."""
    size = max(size, 96)
    v, u = _texels(size, size)
    r = v / EYE_IRIS_ROW  # 1 at the iris' rim
    iris = from_hex(person.iris_colour)
    fibres = gaussian_filter(rng.normal(size=(size, size)), (size / 24, 0.8), mode="wrap")
    fibres /= fibres.std()
    bright = np.clip(0.85 + 0.13 * fibres + 0.35 * (r - 0.5), 0.4, 1.6)[..., None]
    colour = np.clip(iris * bright * 1.15, 0, 1)
    warm = falloff(r - 0.52, 0.12)[..., None] * 0.25
    colour = mix(colour, np.clip(iris * np.array([1.5, 1.15, 0.7]), 0, 1), warm)
    # The upper part of the iris lies in the lid's shadow, the lower part glows.
    below = 0.5 - 0.5 * np.sin(2 * np.pi * u)
    colour = colour * (0.72 + 0.55 * below)[..., None]
    colour *= (1 - 0.65 * smoothstep(0.78, 1.0, r))[..., None]
    colour *= smoothstep(0.36, 0.44, r)[..., None] * 0.97 + 0.03
    white = np.array([0.955, 0.945, 0.935]) - np.array([0.0, 0.05, 0.05]) * smoothstep(1.5, 3.4, r)[..., None]
    veins = gaussian_filter(rng.normal(size=(size, size)), (size / 14, 1.0), mode="wrap")
    veins = np.clip(veins * 14 - 1.0, 0, 1)
    white = white - (np.array([0.0, 0.10, 0.10]) * (veins * smoothstep(2.0, 3.0, r) * 0.5)[..., None])
    return _tile(mix(colour, white, smoothstep(0.97, 1.06, r)[..., None]), 0.95)


def _hair(person: Identity, size: int, rng: np.random.Generator) -> np.ndarray:
    """Strands along v with a soft band of light."""
    base = from_hex(person.hair_colour)
    wide = size * 2
    v = ((np.arange(size) + 0.5) / size)[:, None]
    curly = person.hair_style in ("curly", "afro")
    spread = (1.5, 1.5) if curly else (size / 5, 0.7)
    strands = gaussian_filter(rng.normal(size=(size, wide)), spread, mode="wrap")
    spread = (4, 4) if curly else (size / 10, size / 45)
    locks = gaussian_filter(rng.normal(size=(size, wide)), spread, mode="wrap")
    tone = 1 + 0.16 * strands / strands.std() + 0.14 * locks / locks.std()
    band = falloff(v - 0.42 + 0.03 * locks / locks.std(), 0.11) * (0.15 if curly else 0.5)
    tone = tone * (1 + band) * (1 - 0.35 * smoothstep(0.86, 1.0, v))
    light = base + (0.10 + 0.25 * base) * (band[..., None] * np.clip(tone, 0, 1.6)[..., None]) * 0.4
    colour = np.clip(light * np.clip(tone, 0.35, 1.8)[..., None] + 0.012, 0, 1)
    return _tile(colour, 0.16 if curly else 0.30)


def _clothes(person: Identity, size: int, rng: np.random.Generator) -> np.ndarray:
    """Knitted or woven cloth with a seam at the neckline; a shirt has a collar in its second colour."""
    v, u = _texels(size, 2 * size)
    colour = np.broadcast_to(from_hex(person.clothes_colour), (*v.shape, 3)).copy()
    second = from_hex(person.clothes_colour_2)
    pattern = rng.integers(4)
    if pattern == 1:
        stripes = (np.sin(v * 2 * np.pi * 14) > 0.2)[..., None]
        colour = np.where(stripes & (v > 0.32)[..., None], second, colour)
    elif pattern == 2:
        colour = np.where((np.cos(u * 2 * np.pi) < 0.96)[..., None], colour, mix(colour, second, 0.6))
    if person.clothes_style == "collar":
        colour = np.where((v < 0.36)[..., None], np.clip(second * 0.5 + 0.5, 0, 1), colour)
    cloth = 1 + 0.04 * noise(rng, v.shape, 3) + 0.03 * noise(rng, v.shape, 30)
    knitted = (v < 0.36) & (person.clothes_style != "collar")
    ribs = np.where(knitted, 1 + 0.05 * np.sin(u * 2 * np.pi * 110), 1.0)
    seam = 1 - 0.28 * falloff(v - 0.37, 0.012) - 0.35 * smoothstep(0.12, 0.02, v)
    return _tile(colour * (cloth * ribs * seam)[..., None], 0.05)


def _headwear(person: Identity, size: int, rng: np.random.Generator) -> np.ndarray:
    """Six panels with seams and a button, or ribs with a fold; v runs from the crown to the edge."""
    v, u = _texels(size, 2 * size)
    cloth = 1 + 0.04 * noise(rng, v.shape, 6) + 0.025 * noise(rng, v.shape, 50)
    if person.headwear == "beanie":
        shade = (1 + 0.10 * np.sin(u * 2 * np.pi * 72)) * (1 - 0.30 * falloff(v - 0.62, 0.015))
    else:
        panel = np.abs((u * 6) % 1.0 - 0.5)
        shade = 1 - 0.25 * falloff(panel * v, 0.012) * smoothstep(0.03, 0.08, v)
    shade = shade * (1 - 0.35 * smoothstep(0.90, 0.95, v))
    return _tile(from_hex(person.headwear_colour) * (cloth * shade)[..., None], 0.05)


def _ear(person: Identity, skin: np.ndarray, size: int) -> np.ndarray:
    """Redder and darker towards the concha; v runs from the middle outwards."""
    size = max(size, 24)
    v, _ = _texels(size, size)
    pale, red = skin * np.array([1.0, 0.92, 0.9]), skin * np.array([0.97, 0.80, 0.76])
    colour = mix(np.broadcast_to(pale, (*v.shape, 3)), red, smoothstep(0.75, 0.25, v)[..., None])
    shade = 1 - 0.42 * smoothstep(0.42, 0.05, v) - 0.14 * falloff(v - 0.52, 0.06)
    return _tile(colour * shade[..., None], 0.12)


def _tongue(size: int, rng: np.random.Generator) -> np.ndarray:
    """Rough, with a furrow along its middle; v runs from the root to the tip."""
    size = max(size, 32)
    v, u = _texels(size, size)
    colour = mix(np.array([0.55, 0.22, 0.24]), np.array([0.72, 0.32, 0.34]), v[..., None])
    rough = (
        1 + 0.05 * noise(rng, v.shape, size // 3) - 0.16 * falloff(u - 0.5, 0.05) * smoothstep(1.0, 0.7, v)
    )
    return _tile(colour * rough[..., None], 0.3)


def _teeth(person: Identity, size: int, upper: bool, rng: np.random.Generator) -> np.ndarray:
    """A row of single teeth, darker towards the corners; the gum lies above the upper and below the lower ones.

    Width, tone and length of each are its own; the incisors in the middle are the widest.
    """
    size = max(size, 48)
    v, u = _texels(size, 2 * size)
    along = u - 0.5
    count = 10 if upper else 12
    middle = np.abs(np.arange(count) - (count - 1) / 2)
    widths = 1 + (0.30 if upper else 0.05) * (middle < 1) + 0.06 * rng.normal(size=count).clip(-2, 2)
    borders = np.concatenate([[0.0], np.cumsum(widths) / widths.sum()])
    which = np.clip(np.searchsorted(borders, u, side="right") - 1, 0, count - 1)
    low, high = borders[which], borders[which + 1]
    phase = (u - low) / (high - low)
    from_gap = np.minimum(u - low, high - u) * count  # in tooth widths
    tone = 1 + 0.035 * rng.normal(size=count).clip(-2, 2)
    yellow = 0.03 + 0.10 * person.age * rng.uniform(0.3, 1.0)
    enamel = np.array([0.955, 0.935 - 0.4 * yellow, 0.90 - 1.2 * yellow]) * tone[which][..., None]
    round_tooth = 1 - 0.10 * (2 * phase - 1) ** 2
    colour = enamel * (round_tooth * (1 - 0.42 * falloff(from_gap, 0.05)))[..., None]
    shade = 1 - 0.60 * smoothstep(0.20, 0.52, np.abs(along))
    if not upper:
        v, shade = 1 - v, shade * 0.92
    # Corners of the biting edge are cut: the dark of the mouth shows between two teeth.
    edge = (
        0.97
        - 0.05 * np.abs(rng.normal(size=count).clip(-1.5, 1.5))[which]
        - 0.10 * np.abs(2 * phase - 1) ** 6
    )
    dark = smoothstep(edge - 0.01, edge + 0.02, v)[..., None]
    colour = mix(colour, np.array([0.17, 0.05, 0.05]), dark)
    gum = smoothstep(0.30, 0.22, v + 0.05 * np.cos(2 * np.pi * phase))[..., None]
    return _tile(mix(colour, np.array([0.72, 0.38, 0.38]), gum) * shade[..., None], 0.45)
