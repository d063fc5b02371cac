"""The skin's texture: complexion, lips, brows, lashes, stubble and beard, scalp, freckles, painted-in occlusion."""

import numpy as np

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.hair import SCALP
from datamodules.synthetic_faces.mesh.profiles import bump, falloff, smoothstep
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


class _Canvas:
    """The skin while it is painted: sRGB and gloss of texels whose places in head space are ``x``, ``y`` and ``z``."""

    def __init__(self, person: Identity, rig: Rig, size: int, rng: np.random.Generator) -> None:
        self.person, self.m, self.rng = person, rig.proportions, rng
        points = upsample(rig.skin.points, size, size)
        self.x, self.y, self.z = points[..., 0], points[..., 1], points[..., 2]
        self.ax = np.abs(self.x)
        self.front = smoothstep(0.0, 0.3, self.z)
        self.skin = skin_colour(person)
        self.colour = np.broadcast_to(self.skin, (size, size, 3)).copy()
        self.gloss = np.zeros((size, size))

    def noise(self, cells: int) -> np.ndarray:
        return noise(self.rng, self.x.shape, cells)

    def tint(self, target: np.ndarray | tuple[float, float, float], share: np.ndarray) -> None:
        """Move the colour towards ``target``."""
        self.colour += (np.asarray(target) - self.colour) * share[..., None]

    def shade(self, amount: np.ndarray) -> None:
        """Darken, blue and green more than red, as light does inside skin."""
        self.colour *= 1 - amount[..., None] * np.array([0.80, 1.0, 1.04])


def paint_skin(person: Identity, rig: Rig, size: int, rng: np.random.Generator) -> np.ndarray:
    """The skin tile ``(size, size, 4)``: sRGB and gloss; painted at twice the resolution and averaged down."""
    c = _Canvas(person, rig, 2 * size, rng)
    c.gloss = 0.10 + 0.06 * bump(c.x, c.y, 0, c.m.nose_y + 0.12, 0.10, 0.2)
    c.gloss = c.gloss + 0.05 * bump(c.x, c.y, 0, 0.5, 0.3, 0.15)
    c.colour *= (1 + 0.012 * c.noise(9) + 0.012 * c.noise(40))[..., None]
    for paint in (_grain, _complexion, _occlusion, _beard, _lips, _brows, _lashes, _scalp):
        paint(c, c.m, c.x, c.y)
    tile = np.concatenate([np.clip(c.colour, 0, 1), c.gloss[..., None]], axis=-1)
    return tile.reshape(size, 2, size, 2, 4).mean(axis=(1, 3)).astype(np.float32)


def paint_wrinkles(person: Identity, rig: Rig, size: int) -> np.ndarray:
    """Darkness ``(K, size, size)`` of each fold of ``WRINKLES`` at its deepest, 0 .. 0.45, on the skin tile."""
    points = upsample(rig.skin.points, size, size)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    m, ax = rig.proportions, np.abs(x)
    wave = 0.03 * ax**2 + 0.006 * np.sin(13 * x + person.seed % 7)
    forehead = sum(falloff(y - m.brow_y - h + wave, 0.014) for h in (0.12, 0.18, 0.24))
    forehead = forehead * smoothstep(0.46, 0.26, ax)
    frown = falloff(ax - 0.050 - 0.20 * (y - m.brow_y), 0.014) * bump(x, y, 0, m.brow_y + 0.01, 0.3, 0.075)
    frown = frown + 0.7 * falloff(y - m.eye_y - 0.09, 0.014) * smoothstep(0.09, 0.05, ax)
    top, bottom = m.nose_y + 0.06, m.mouth_y - 0.01
    t = (top - y) / (top - bottom)
    wing = m.nose_width * 1.28
    path = wing + (m.mouth_half + 0.075 - wing) * np.clip(t, -0.2, 1.2) ** 2 * np.sign(t)
    nasolabial = falloff(ax - path, 0.024) * smoothstep(-0.1, 0.12, t) * smoothstep(1.12, 0.8, t)
    dx, dy = ax - (m.eye_x + m.eye_half + 0.015), y - m.eye_y
    crow = sum(falloff(dy - slope * dx, 0.011) for slope in (-0.55, 0.0, 0.55))
    crow = crow * smoothstep(0.0, 0.03, dx) * smoothstep(0.15, 0.07, dx)
    maps = np.stack([forehead, frown, nasolabial, crow]) * smoothstep(0.0, 0.3, z)
    return (np.clip(maps, 0, 1) * (0.20 + 0.25 * person.age)).astype(np.float32)


def _complexion(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    rosy = mix(c.skin * np.array([0.98, 0.70, 0.68]), np.array([0.86, 0.38, 0.36]), 0.25)
    cheeks = bump(c.ax, y, 0.43, -0.22, 0.19, 0.16) * (0.9 + 0.15 * c.noise(12))
    c.tint(rosy, np.clip(0.42 * c.person.blush * cheeks, 0, 1) * c.front)
    c.tint(rosy, (0.10 + 0.14 * c.person.blush) * bump(x, y, 0, m.nose_y + 0.08, 0.13, 0.10) * c.front)
    c.tint(rosy, 0.10 * bump(x, y, 0, m.chin_y + 0.13, 0.14, 0.10) * c.front)
    socket = 0.42 * bump(c.ax, y, m.eye_x, m.eye_y, 0.20, 0.12)
    c.tint(c.skin * np.array([0.88, 0.80, 0.82]), socket * c.front)
    if c.person.freckles > 0:
        spots = np.clip(c.noise(150) - 1.0, 0, 1)
        where = bump(c.ax, y, 0.28, -0.13, 0.30, 0.17) * c.front
        share = np.clip(1.3 * c.person.freckles * spots * where, 0, 0.8)
        c.tint(c.skin * np.array([0.74, 0.58, 0.48]), share)
    if c.person.age > 0.3:
        deep = (c.person.age - 0.3) / 0.7
        fold = falloff(c.ax - 0.20 - 0.55 * (m.nose_y + 0.02 - y), 0.022)
        fold = fold * smoothstep(m.mouth_y - 0.02, m.mouth_y + 0.1, y)
        c.shade(0.16 * deep * fold * smoothstep(m.nose_y + 0.06, m.nose_y, y) * c.front)
        lines = sum(falloff(y - h - 0.03 * c.ax**2, 0.010) for h in (0.47, 0.54, 0.61))
        c.shade(0.05 * deep * lines * smoothstep(0.45, 0.25, c.ax) * c.front)


def _grain(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    """Pores and blotches: rougher where somebody is older, redder here and paler there."""
    rng = np.random.default_rng((c.person.seed, 2))
    rough = rng.uniform(0.4, 1.0) + 0.6 * c.person.age
    pores, fine = (noise(rng, x.shape, cells) for cells in (110, 260))
    c.shade(0.020 * rough * np.clip(pores, -2, 2) + 0.022 * rough * np.clip(fine, -2, 2))
    red = noise(rng, x.shape, 22) * rng.uniform(0.2, 1.0)
    c.colour *= 1 + 0.012 * red[..., None] * np.array([1.0, -1.2, -1.0])


def _occlusion(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    """Shadows that geometry of this size would cast on itself."""
    corner = float(m.mouth_line(np.array(m.mouth_half)))
    shadows = (
        (0.20, m.eye_x - m.eye_half + 0.005, m.eye_y + 0.07, 0.06, 0.09),
        (0.12, m.eye_x, m.eye_y + 0.16, 0.17, 0.05),
        (0.30, 0, m.nose_y - 0.012, m.nose_width * 1.05, 0.035),
        (0.17, m.nose_width * 1.28, m.nose_y + 0.04, 0.030, 0.07),
        (0.62, m.nose_width * 0.50, m.nose_y + 0.014, 0.034, 0.016),  # nostrils
        (0.10, 0, m.mouth_y + m.lip_upper + 0.05, 0.022, 0.05),
        (0.24, 0, m.mouth_y - m.lip_lower - 0.03, 0.15, 0.032),
        (0.22, m.mouth_half + 0.018, corner, 0.03, 0.035),
    )
    for depth, *place in shadows:
        c.shade(depth * bump(c.ax, y, *place) * c.front)
    under = smoothstep(m.chin_y, m.chin_y - 0.07, y) * smoothstep(-1.65, -1.05, y)
    jaw_side = smoothstep(0.62, 0.38, c.z) * smoothstep(-0.70, -0.95, y)
    c.shade(0.34 * np.maximum(under, 0.6 * jaw_side))


def _lips(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    d = y - m.mouth_line(x)
    s = np.abs(x) / m.mouth_half
    height = np.where(d > 0, m.upper_lip(x), m.lower_lip(x))
    soft = 0.008 if c.person.lip_colour else 0.013
    mask = smoothstep(height + soft, height - soft, np.abs(d)) * smoothstep(1.03, 0.96, s) * c.front
    lip = natural_lip(c.person)
    c.tint(lip * np.array([0.93, 0.88, 0.88]), mask * (d > 0) * 0.95)
    c.tint(lip, mask * (d <= 0) * 0.92)
    lines = 0.05 * np.sin(x / m.mouth_half * 38 + 2 * c.noise(20))
    c.shade(mask * np.clip(lines, 0, 1))
    crease = falloff(d, 0.012) * smoothstep(1.04, 0.9, s) * c.front
    c.shade(0.42 * crease)
    c.gloss = c.gloss * (1 - mask) + mask * (0.42 if c.person.lip_colour else 0.24)


def _brows(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    middle, half, along = m.brow_line(x)
    across = (y - middle) / half
    hairs = np.sin((x * np.sign(x) * 1.0 - (y - middle) * 0.9) * 330 + 1.5 * c.noise(60))
    ends = smoothstep(-0.06, 0.10, along), smoothstep(1.03, 0.80, along)
    mask = smoothstep(1.25, 0.55, np.abs(across + 0.12 * hairs)) * ends[0] * ends[1]
    brow = mix(from_hex(c.person.hair_colour) * 0.72, np.array([0.16, 0.11, 0.08]), 0.35)
    density = 0.82 + 0.12 * hairs
    c.tint(brow, np.clip(mask * density * (0.88 + 0.05 * c.person["brow_thickness"]), 0, 1) * c.front)


def _lashes(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    d = y - m.eye_line(x)
    s = m.eye_local(x)
    inside = smoothstep(1.10, 0.90, np.abs(s)) * c.front
    lid = smoothstep(0.0, 0.01, d) * smoothstep(0.15, 0.05, d)
    c.tint(c.skin * np.array([0.86, 0.72, 0.68]), 0.45 * lid * inside)
    crease = falloff(d - 0.105 * np.sqrt(np.clip(1.25 - s**2, 0, 2)) * 0.9, 0.010)
    c.shade(0.30 * (crease * smoothstep(1.25, 0.9, np.abs(s))) * c.front)
    dark = np.array([0.09, 0.06, 0.05])
    upper = smoothstep(0.030, 0.016, d - 0.012 * np.maximum(s, 0)) * (d >= -0.002)
    c.tint(dark, 0.93 * upper * smoothstep(1.12, 0.98, np.abs(s)) * c.front)
    lower = smoothstep(-0.016, -0.004, d) * (d < 0)
    c.tint(dark, 0.38 * lower * inside)


def _beard(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    if c.person.beard_style == "none":
        return
    moustache = smoothstep(0.27, 0.20, c.ax) * smoothstep(m.nose_y - 0.01, m.nose_y - 0.05, y)
    moustache = moustache * smoothstep(m.mouth_y - 0.06, m.mouth_y - 0.01, y)
    chin = smoothstep(0.26, 0.17, c.ax) * smoothstep(m.mouth_y - 0.09, m.mouth_y - 0.15, y)
    corners = bump(c.ax, y, m.mouth_half + 0.03, m.mouth_y - 0.04, 0.06, 0.13)
    cheek_line = -0.30 - 0.42 * (0.62 - c.ax)
    round_mouth = np.hypot(x, (y - m.mouth_y) * 1.2)
    jaw = smoothstep(cheek_line + 0.05, cheek_line - 0.06, y) * smoothstep(0.08, 0.20, round_mouth)
    sideburn = smoothstep(0.60, 0.68, c.ax) * smoothstep(0.15, 0.0, y) * smoothstep(-0.15, 0.05, c.z)
    thick = np.clip(1.2 * corners, 0, 1)
    areas = {
        "stubble": (moustache, chin, 0.9 * jaw, corners),
        "moustache": (moustache,),
        "goatee": (moustache, chin, thick),
        "full": (moustache, chin, jaw, sideburn, thick),
    }
    area = np.maximum.reduce(areas[c.person.beard_style])
    area = area * smoothstep(-0.15, 0.05, c.z) * smoothstep(-1.22, -1.04, y)
    grain = np.clip(0.80 + 0.20 * c.noise(150), 0, 1.1)
    strength = 0.40 if c.person.beard_style == "stubble" else 0.55 + 0.42 * c.person.beard_density
    hair = from_hex(c.person.hair_colour) * 0.85
    c.tint(hair, np.clip(area * grain * strength, 0, 0.96))


def _scalp(c: _Canvas, m: Proportions, x: np.ndarray, y: np.ndarray) -> None:
    line = SCALP(np.clip(np.rad2deg(np.arctan2(np.abs(x), c.z)), 0, 180))
    if c.person.hair_style == "bald":
        c.tint(from_hex(c.person.hair_colour), smoothstep(line - 0.05, line + 0.12, y) * 0.10)
        return
    ragged = 0.025 * c.noise(60)
    under = smoothstep(line - 0.015, line + 0.05, y + ragged)
    c.tint(from_hex(c.person.hair_colour) * 0.8, 0.93 * under)
    c.shade(0.20 * smoothstep(line - 0.14, line, y) * (1 - under))
