"""The skin's texture: complexion, lips, brows, lashes, stubble and beard, scalp, freckles, painted-in occlusion."""

import numpy as np

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.geometry import bump, smoothstep
from datamodules.synthetic_faces.mesh.hair import SCALP
from datamodules.synthetic_faces.mesh.proportions import Proportions
from datamodules.synthetic_faces.mesh.rig import Rig
from datamodules.synthetic_faces.paint.colours import from_hex, mix, natural_lip, noise, skin_colour


def upsample(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear values of a grid ``(R, C, ...)`` at the centres of ``rows x columns`` texels."""
    r = np.clip((np.arange(rows) + 0.5) / rows * (values.shape[0] - 1), 0, values.shape[0] - 1.001)
    c = np.clip((np.arange(columns) + 0.5) / columns * (values.shape[1] - 1), 0, values.shape[1] - 1.001)
    r0, c0 = r.astype(int), c.astype(int)
    fr, fc = (r - r0)[:, None, None], (c - c0)[None, :, None]
    top = values[r0][:, c0] * (1 - fc) + values[r0][:, c0 + 1] * fc
    low = values[r0 + 1][:, c0] * (1 - fc) + values[r0 + 1][:, c0 + 1] * fc
    return top * (1 - fr) + low * fr


def paint_skin(person: Identity, rig: Rig, size: int, rng: np.random.Generator) -> np.ndarray:
    """The skin tile ``(size, size, 4)``: sRGB and gloss; painted at twice the resolution and averaged down."""
    rows = columns = 2 * size
    points = upsample(rig.skin.points, rows, columns)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    m = rig.proportions
    front = smoothstep(0.0, 0.3, z)
    skin = skin_colour(person)
    colour = np.broadcast_to(skin, (*x.shape, 3)).copy()
    gloss = 0.10 + 0.06 * bump(x, y, 0, m.nose_y + 0.12, 0.10, 0.2) + 0.05 * bump(x, y, 0, 0.5, 0.3, 0.15)
    colour *= (1 + 0.012 * noise(rng, x.shape, 9) + 0.012 * noise(rng, x.shape, 40))[..., None]
    _complexion(person, m, colour, x, y, front, rng)
    _occlusion(m, colour, x, y, z, front)
    _beard(person, m, colour, x, y, z, rng)
    gloss = _lips(person, m, colour, gloss, x, y, front, rng)
    _brows(person, m, colour, x, y, front, rng)
    _lashes(person, m, colour, x, y, front)
    _scalp(person, colour, x, y, z, rng)
    tile = np.concatenate([np.clip(colour, 0, 1), gloss[..., None]], axis=-1)
    return tile.reshape(size, 2, size, 2, 4).mean(axis=(1, 3)).astype(np.float32)


def paint_wrinkles(person: Identity, rig: Rig, size: int) -> np.ndarray:
    """Darkness ``(K, size, size)`` of each fold of ``WRINKLES`` at its deepest, 0 .. 0.45, on the skin tile."""
    points = upsample(rig.skin.points, size, size)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    m, ax = rig.proportions, np.abs(x)

    def line(distance: np.ndarray, width: float) -> np.ndarray:
        return np.exp(-((distance / width) ** 2))

    wave = 0.03 * ax**2 + 0.006 * np.sin(13 * x + person.seed % 7)
    forehead = sum(line(y - m.brow_y - h + wave, 0.014) for h in (0.12, 0.18, 0.24))
    forehead = forehead * smoothstep(0.46, 0.26, ax)
    frown = line(ax - 0.050 - 0.20 * (y - m.brow_y), 0.014) * bump(x, y, 0, m.brow_y + 0.01, 0.3, 0.075)
    frown = frown + 0.7 * line(y - m.eye_y - 0.09, 0.014) * smoothstep(0.09, 0.05, ax)
    top, bottom = m.nose_y + 0.06, m.mouth_y - 0.01
    t = (top - y) / (top - bottom)
    path = m.nose_width * 1.28 + (m.mouth_half + 0.075 - m.nose_width * 1.28) * np.clip(
        t, -0.2, 1.2
    ) ** 2 * np.sign(t)
    nasolabial = line(ax - path, 0.024) * smoothstep(-0.1, 0.12, t) * smoothstep(1.12, 0.8, t)
    dx, dy = ax - (m.eye_x + m.eye_half + 0.015), y - m.eye_y
    crow = sum(line(dy - slope * dx, 0.011) for slope in (-0.55, 0.0, 0.55))
    crow = crow * smoothstep(0.0, 0.03, dx) * smoothstep(0.15, 0.07, dx)
    maps = np.stack([forehead, frown, nasolabial, crow]) * smoothstep(0.0, 0.3, z)
    return (np.clip(maps, 0, 1) * (0.20 + 0.25 * person.age)).astype(np.float32)


def _tint(colour: np.ndarray, target: np.ndarray | tuple[float, float, float], share: np.ndarray) -> None:
    """Moves ``colour`` towards ``target`` in place."""
    colour += (np.asarray(target) - colour) * share[..., None]


def _shade(colour: np.ndarray, amount: np.ndarray) -> None:
    """Darkens in place, blue and green more than red, as light does inside skin."""
    colour *= 1 - amount[..., None] * np.array([0.80, 1.0, 1.04])


def _complexion(
    person: Identity,
    m: Proportions,
    colour: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    front: np.ndarray,
    rng: np.random.Generator,
) -> None:
    ax = np.abs(x)
    skin = skin_colour(person)
    rosy = mix(skin * np.array([0.98, 0.70, 0.68]), np.array([0.86, 0.38, 0.36]), 0.25)
    cheeks = bump(ax, y, 0.43, -0.22, 0.19, 0.16) * (0.9 + 0.15 * noise(rng, x.shape, 12))
    _tint(colour, rosy, np.clip(0.42 * person.blush * cheeks, 0, 1) * front)
    _tint(colour, rosy, (0.10 + 0.14 * person.blush) * bump(x, y, 0, m.nose_y + 0.08, 0.13, 0.10) * front)
    _tint(colour, rosy, 0.10 * bump(x, y, 0, m.chin_y + 0.13, 0.14, 0.10) * front)
    _tint(
        colour, skin * np.array([0.88, 0.80, 0.82]), 0.42 * bump(ax, y, m.eye_x, m.eye_y, 0.20, 0.12) * front
    )
    if person.freckles > 0:
        spots = np.clip(noise(rng, x.shape, 150) - 1.0, 0, 1)
        where = bump(ax, y, 0.28, -0.13, 0.30, 0.17) * front
        _tint(
            colour,
            skin * np.array([0.74, 0.58, 0.48]),
            np.clip(1.3 * person.freckles * spots * where, 0, 0.8),
        )
    if person.age > 0.3:
        deep = (person.age - 0.3) / 0.7
        fold = np.exp(-(((ax - 0.20 - 0.55 * (m.nose_y + 0.02 - y)) / 0.022) ** 2)) * smoothstep(
            m.mouth_y - 0.02, m.mouth_y + 0.1, y
        )
        _shade(colour, 0.16 * deep * fold * smoothstep(m.nose_y + 0.06, m.nose_y, y) * front)
        lines = sum(np.exp(-(((y - h - 0.03 * ax**2) / 0.010) ** 2)) for h in (0.47, 0.54, 0.61))
        _shade(colour, 0.05 * deep * lines * smoothstep(0.45, 0.25, ax) * front)


def _occlusion(
    m: Proportions, colour: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, front: np.ndarray
) -> None:
    """Shadows that geometry of this size would cast on itself."""
    ax = np.abs(x)
    socket = bump(ax, y, m.eye_x - m.eye_half + 0.005, m.eye_y + 0.07, 0.06, 0.09)
    _shade(colour, 0.20 * socket * front)
    _shade(colour, 0.12 * bump(ax, y, m.eye_x, m.eye_y + 0.16, 0.17, 0.05) * front)
    _shade(colour, 0.30 * bump(x, y, 0, m.nose_y - 0.012, m.nose_width * 1.05, 0.035) * front)
    _shade(colour, 0.17 * bump(ax, y, m.nose_width * 1.28, m.nose_y + 0.04, 0.030, 0.07) * front)
    nostril = bump(ax, y, m.nose_width * 0.50, m.nose_y + 0.014, 0.034, 0.016)
    _shade(colour, 0.62 * nostril * front)
    _shade(colour, 0.10 * bump(x, y, 0, m.mouth_y + m.lip_upper + 0.05, 0.022, 0.05) * front)
    _shade(colour, 0.24 * bump(x, y, 0, m.mouth_y - m.lip_lower - 0.03, 0.15, 0.032) * front)
    _shade(
        colour,
        0.22 * bump(ax, y, m.mouth_half + 0.018, m.mouth_line(np.array(m.mouth_half)), 0.03, 0.035) * front,
    )
    under = smoothstep(m.chin_y, m.chin_y - 0.07, y) * smoothstep(-1.65, -1.05, y)
    jaw_side = smoothstep(0.62, 0.38, z) * smoothstep(-0.70, -0.95, y)
    _shade(colour, 0.34 * np.maximum(under, 0.6 * jaw_side))


def _lips(
    person: Identity, m: Proportions, colour: np.ndarray, gloss: np.ndarray, x: np.ndarray, y: np.ndarray,
    front: np.ndarray, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    d = y - m.mouth_line(x)
    s = np.abs(x) / m.mouth_half
    height = np.where(d > 0, m.upper_lip(x), m.lower_lip(x))
    soft = 0.008 if person.lip_colour else 0.013
    mask = smoothstep(height + soft, height - soft, np.abs(d)) * smoothstep(1.03, 0.96, s) * front
    lip = natural_lip(person)
    _tint(colour, lip * np.array([0.93, 0.88, 0.88]), mask * (d > 0) * 0.95)
    _tint(colour, lip, mask * (d <= 0) * 0.92)
    lines = 0.05 * np.sin(x / m.mouth_half * 38 + 2 * noise(rng, x.shape, 20))
    _shade(colour, mask * np.clip(lines, 0, 1))
    crease = np.exp(-((d / 0.012) ** 2)) * smoothstep(1.04, 0.9, s) * front
    _shade(colour, 0.42 * crease)
    return gloss * (1 - mask) + mask * (0.42 if person.lip_colour else 0.24)


def _brows(
    person: Identity,
    m: Proportions,
    colour: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    front: np.ndarray,
    rng: np.random.Generator,
) -> None:
    middle, half, along = m.brow_line(x)
    across = (y - middle) / half
    hairs = np.sin((x * np.sign(x) * 1.0 - (y - middle) * 0.9) * 330 + 1.5 * noise(rng, x.shape, 60))
    mask = (
        smoothstep(1.25, 0.55, np.abs(across + 0.12 * hairs))
        * smoothstep(-0.06, 0.10, along)
        * smoothstep(1.03, 0.80, along)
    )
    grey = from_hex(person.hair_colour)
    brow = mix(grey * 0.72, np.array([0.16, 0.11, 0.08]), 0.35)
    density = 0.82 + 0.12 * hairs
    _tint(colour, brow, np.clip(mask * density * (0.88 + 0.05 * person["brow_thickness"]), 0, 1) * front)


def _lashes(
    person: Identity, m: Proportions, colour: np.ndarray, x: np.ndarray, y: np.ndarray, front: np.ndarray
) -> None:
    d = y - m.eye_line(x)
    s = m.eye_local(x)
    inside = smoothstep(1.10, 0.90, np.abs(s)) * front
    skin = skin_colour(person)
    lid = smoothstep(0.0, 0.01, d) * smoothstep(0.15, 0.05, d)
    _tint(colour, skin * np.array([0.86, 0.72, 0.68]), 0.45 * lid * inside)
    crease = np.exp(-(((d - 0.105 * np.sqrt(np.clip(1.25 - s**2, 0, 2)) * 0.9) / 0.010) ** 2)) * smoothstep(
        1.25, 0.9, np.abs(s)
    )
    _shade(colour, 0.30 * crease * front)
    dark = np.array([0.09, 0.06, 0.05])
    upper = smoothstep(0.030, 0.016, d - 0.012 * np.maximum(s, 0)) * (d >= -0.002)
    _tint(colour, dark, 0.93 * upper * smoothstep(1.12, 0.98, np.abs(s)) * front)
    lower = smoothstep(-0.016, -0.004, d) * (d < 0)
    _tint(colour, dark, 0.38 * lower * inside)


def _beard(
    person: Identity,
    m: Proportions,
    colour: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> None:
    if person.beard_style == "none":
        return
    ax = np.abs(x)
    moustache = (
        smoothstep(0.27, 0.20, ax)
        * smoothstep(m.nose_y - 0.01, m.nose_y - 0.05, y)
        * smoothstep(m.mouth_y - 0.06, m.mouth_y - 0.01, y)
    )
    chin = smoothstep(0.26, 0.17, ax) * smoothstep(m.mouth_y - 0.09, m.mouth_y - 0.15, y)
    beside = bump(ax, y, m.mouth_half + 0.03, m.mouth_y - 0.04, 0.06, 0.13)
    cheek_line = -0.30 - 0.42 * (0.62 - ax)
    jaw = smoothstep(cheek_line + 0.05, cheek_line - 0.06, y) * smoothstep(
        0.08, 0.20, np.hypot(x, (y - m.mouth_y) * 1.2)
    )
    sideburn = smoothstep(0.60, 0.68, ax) * smoothstep(0.15, 0.0, y) * smoothstep(-0.15, 0.05, z)
    area = {
        "stubble": np.maximum.reduce([moustache, chin, 0.9 * jaw, beside]),
        "moustache": moustache,
        "goatee": np.maximum.reduce([moustache, chin, np.clip(1.2 * beside, 0, 1)]),
        "full": np.maximum.reduce([moustache, chin, jaw, sideburn, np.clip(1.2 * beside, 0, 1)]),
    }[person.beard_style]
    area = area * smoothstep(-0.15, 0.05, z) * smoothstep(-1.22, -1.04, y)
    grain = np.clip(0.80 + 0.20 * noise(rng, x.shape, 150), 0, 1.1)
    strength = 0.40 if person.beard_style == "stubble" else 0.55 + 0.42 * person.beard_density
    hair = from_hex(person.hair_colour) * 0.85
    _tint(colour, hair, np.clip(area * grain * strength, 0, 0.96))


def _scalp(
    person: Identity,
    colour: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> None:
    azimuth = np.rad2deg(np.arctan2(np.abs(x), z))
    line = SCALP(np.clip(azimuth, 0, 180))
    if person.hair_style == "bald":
        shadow = smoothstep(line - 0.05, line + 0.12, y) * 0.10
        _tint(colour, from_hex(person.hair_colour), shadow)
        return
    ragged = 0.025 * noise(rng, x.shape, 60)
    under = smoothstep(line - 0.015, line + 0.05, y + ragged)
    _tint(colour, from_hex(person.hair_colour) * 0.8, 0.93 * under)
    _shade(colour, 0.20 * smoothstep(line - 0.14, line, y) * (1 - under))
