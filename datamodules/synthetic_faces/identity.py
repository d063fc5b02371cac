"""Identity of a synthetic head: every number the geometry, the paint, the light and the background depend on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

HAIR_STYLES = ("bald", "buzz", "short", "side_part", "fringe", "curly", "afro", "bob", "long", "wavy", "bun")
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "full")
CLOTHES_STYLES = ("crew", "collar", "turtleneck", "vneck")
GLASSES_STYLES = ("none", "round", "square")
HEADWEAR_STYLES = ("none", "cap", "beanie")
HEADWEAR_SHARES = (0.90, 0.05, 0.05)
BACKGROUNDS = ("gradient", "bokeh", "wall", "window", "shelves", "leaves")
DOMAINS = ("plain", "wide")

# Skin anchors from fair to deep, sRGB; a tone between two anchors is interpolated.
SKIN_ANCHORS = (
    (250, 221, 203), (241, 200, 174), (226, 176, 143), (202, 148, 112), (167, 113, 80), (126, 82, 57), (92, 58, 42),
)  # fmt: skip
HAIR_COLOURS = (
    "#17120f", "#2a1c14", "#3c2618", "#553420", "#7a4a26", "#a8713a", "#cfa35f", "#8c3b1c", "#8b8783", "#d9d4cc",
)  # fmt: skip
HAIR_WEIGHTS = (0.2, 0.18, 0.16, 0.13, 0.08, 0.06, 0.06, 0.05, 0.05, 0.03)
IRIS_COLOURS = (
    "#3a2415", "#4f3119", "#6b4a22", "#7d6a34", "#5f7a45", "#4b7f8c", "#4a78a8", "#6d8796", "#3d5f7a",
)  # fmt: skip
LIPSTICKS = ("#b3263a", "#c2475c", "#a83f55", "#8c2f45", "#d0605e")
CLOTHES_COLOURS = (
    "#2f4858", "#33658a", "#86bbd8", "#f6ae2d", "#d1495b", "#6d597a", "#355070", "#588157", "#3a5a40",
    "#e9edc9", "#f1faee", "#8d99ae", "#2b2d42", "#b56576", "#e07a5f", "#81b29a", "#3d405b", "#efefef",
)  # fmt: skip
BACKGROUND_COLOURS = (
    "#dfe7ec", "#c8d5d9", "#e8dccb", "#d6cfc7", "#b8c4bb", "#a9bcd0", "#8fa3b0", "#6c7a89", "#4a5560",
    "#3b4a54", "#d9b8a0", "#c5a3a3", "#9db4ab", "#7f8fa9", "#efe3d0", "#536878",
)  # fmt: skip
FEMININE_STYLES = {
    "long": 0.18, "wavy": 0.12, "bob": 0.18, "bun": 0.17, "curly": 0.10, "afro": 0.05, "fringe": 0.12,
    "side_part": 0.05, "short": 0.03,
}  # fmt: skip
MASCULINE_STYLES = {
    "short": 0.31, "side_part": 0.21, "buzz": 0.15, "curly": 0.08, "afro": 0.04, "bald": 0.1, "fringe": 0.07, "long": 0.04,
}  # fmt: skip
LEANINGS = {"jaw_width": 0.5, "brow_thickness": 0.7, "neck_width": 0.7, "eye_size": -0.4, "lip_upper": -0.3}
"""What looks masculine, in standard deviations from the population's mean; the contrary looks feminine."""
GLASSES_COLOURS = ("#1c1a19", "#3b2a20", "#5a3a22", "#2d3a55", "#8a8f94", "#6e1f2a")

# Shape parameters in standard deviations of the population, clipped to [-2, 2].
SHAPE_NAMES = (
    "face_width", "jaw_width", "chin_length", "chin_forward", "forehead", "cheekbones", "skull_depth",
    "nose_width", "nose_length", "nose_height", "nose_bridge", "nose_tip",
    "mouth_width", "mouth_height", "lip_upper", "lip_lower", "lip_bow",
    "eye_size", "eye_spacing", "eye_tilt", "eye_open", "eye_height", "iris_size",
    "brow_height", "brow_thickness", "brow_angle", "brow_arch", "brow_spacing",
    "ear_size", "ear_out", "neck_width", "smile_rest",
)  # fmt: skip


@dataclasses.dataclass
class Identity:
    """Plain numbers and strings that describe one synthetic person in one set-up of light and background."""

    seed: int = 0  # seeds every texture and noise pattern of this person, 0 <= seed < 2**31
    domain: str = "wide"  # "plain" (calm light, smooth background, no sensor noise) or "wide"
    feminine: bool = False  # which way hair, beard, colours and some shapes lean; the voice goes with it
    # In standard deviations, one per name of ``SHAPE_NAMES``; missing ones are 0.
    shape: dict[str, float] = dataclasses.field(default_factory=dict)
    skin_tone: float = 0.25  # 0 (fair) .. 1 (deep)
    skin_warmth: float = 0.0  # -1 (rosy) .. 1 (olive)
    blush: float = 0.5  # 0 .. 1, as freckles and age
    freckles: float = 0.0
    age: float = 0.2
    lip_colour: str = ""  # ``#rrggbb`` in sRGB, as all colours; empty: a natural one
    iris_colour: str = "#4f3119"
    hair_style: str = "short"
    hair_colour: str = "#3c2618"
    hair_volume: float = 0.0  # -1 .. 1
    beard_style: str = "none"
    beard_density: float = 0.6  # 0 .. 1
    glasses_style: str = "none"
    glasses_colour: str = "#1c1a19"
    headwear: str = "none"
    headwear_colour: str = "#2b2d42"
    clothes_style: str = "crew"
    clothes_colour: str = "#33658a"
    clothes_colour_2: str = "#f1faee"
    background: str = "gradient"
    background_colour: str = "#c8d5d9"
    background_colour_2: str = "#8fa3b0"
    key_azimuth: float = 30.0  # direction of the main light in degrees, > 0 from image right
    key_elevation: float = 35.0
    key_warmth: float = 0.2  # -1 (cold) .. 1 (warm)
    key_strength: float = 1.0  # about 1, as those of fill and rim
    fill_strength: float = 1.0
    rim_strength: float = 0.6
    noise: float = 0.0  # standard deviation of the sensor noise in 8-bit steps

    def __post_init__(self) -> None:
        if unknown := set(self.shape) - set(SHAPE_NAMES):
            raise ValueError(f"unknown shape parameters {sorted(unknown)}")
        choices = {
            "domain": DOMAINS, "hair_style": HAIR_STYLES, "beard_style": BEARD_STYLES, "glasses_style": GLASSES_STYLES,
            "clothes_style": CLOTHES_STYLES, "background": BACKGROUNDS, "headwear": HEADWEAR_STYLES,
        }  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def __getitem__(self, name: str) -> float:
        """Shape parameter ``name`` in standard deviations."""
        if name not in SHAPE_NAMES:
            raise KeyError(name)
        return float(self.shape.get(name, 0.0))

    @classmethod
    def sample(cls, rng: np.random.Generator, domain: str = "wide") -> "Identity":
        """Draw a person with light and background; the domain is ``"plain"`` or ``"wide"``."""
        shape = {name: float(np.clip(rng.normal(), -2, 2)) for name in SHAPE_NAMES}
        tone = rng.uniform(0, 1) ** 1.15
        feminine = rng.random() < 0.5
        looks = _sample_looks(rng, shape, tone, feminine)
        setting = _sample_setting(rng, domain)
        seed = int(rng.integers(2**31))
        other = np.random.default_rng((seed, 47))
        looks["headwear"] = str(other.choice(HEADWEAR_STYLES, p=HEADWEAR_SHARES))
        looks["headwear_colour"] = str(other.choice(CLOTHES_COLOURS))
        return cls(seed, domain, feminine, shape, tone, **looks, **setting)


def _sample_looks(
    rng: np.random.Generator, shape: dict[str, float], tone: float, feminine: bool
) -> dict[str, Any]:
    """Hair, beard, colours and clothes; nudges the shape towards what goes with them."""

    def pick(options: Sequence[str], shares: Sequence[float] | np.ndarray | None = None) -> str:
        return str(rng.choice(options, p=shares))

    for name, push in LEANINGS.items():
        shape[name] = float(np.clip(shape[name] - push if feminine else shape[name] + push, -2, 2))
    light, bright = np.arange(len(HAIR_COLOURS)) >= 4, np.arange(len(IRIS_COLOURS)) >= 3
    hair_weights = np.array(HAIR_WEIGHTS) * np.where(light, max(0.12, 1 - 1.3 * tone), 1)
    iris_weights = np.where(bright, max(0.05, 1 - 1.4 * tone), 1.6)
    styles = FEMININE_STYLES if feminine else MASCULINE_STYLES
    beard = "none" if feminine else pick(BEARD_STYLES, (0.45, 0.22, 0.06, 0.1, 0.17))
    lipstick = feminine and rng.random() < 0.45
    return {
        "skin_warmth": rng.uniform(-1, 1),
        "blush": rng.uniform(0.2, 1.0) if feminine else rng.uniform(0.05, 0.7),
        "freckles": rng.uniform(0.3, 1) if rng.random() < 0.22 * (1 - tone) else 0.0,
        "age": rng.uniform(0, 1) ** 1.6,
        "lip_colour": pick(LIPSTICKS) if lipstick else "",
        "iris_colour": pick(IRIS_COLOURS, iris_weights / iris_weights.sum()),
        "hair_style": pick(list(styles), list(styles.values())),
        "hair_colour": pick(HAIR_COLOURS, hair_weights / hair_weights.sum()),
        "hair_volume": rng.uniform(-1, 1),
        "beard_style": beard,
        "beard_density": rng.uniform(0.35, 0.95),
        "glasses_style": pick(GLASSES_STYLES, (0.78, 0.12, 0.10)),
        "glasses_colour": pick(GLASSES_COLOURS),
        "clothes_style": pick(CLOTHES_STYLES, (0.4, 0.25, 0.15, 0.2)),
        "clothes_colour": pick(CLOTHES_COLOURS),
        "clothes_colour_2": pick(CLOTHES_COLOURS),
    }


def _sample_setting(rng: np.random.Generator, domain: str) -> dict[str, Any]:
    """Light, background and sensor; the plain domain keeps them calm."""
    colours = [str(c) for c in rng.choice(BACKGROUND_COLOURS, size=2, replace=False)]
    setting: dict[str, Any] = {"background_colour": colours[0], "background_colour_2": colours[1]}
    side = float(rng.choice((-1.0, 1.0)))
    if domain == "plain":
        return setting | {"background": "gradient", "key_azimuth": 25.0 * side, "noise": 0.0}
    return setting | {
        "background": str(rng.choice(BACKGROUNDS)),
        "key_azimuth": side * rng.uniform(5, 60),
        "key_elevation": rng.uniform(15, 55),
        "key_warmth": rng.uniform(-0.6, 1.0),
        "key_strength": rng.uniform(0.85, 1.15),
        "fill_strength": rng.uniform(0.75, 1.2),
        "rim_strength": rng.uniform(0.1, 1.1),
        "noise": rng.uniform(0.4, 1.6),
    }
