"""The displacement fields of a head: a table of what each muscle pulls, and the shapes that no table holds.

A new control of the face needs a row in ``PULLS`` named after it, or a function among those below the table.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from datamodules.synthetic_faces.mesh.geometry import Part, SkinGrid
from datamodules.synthetic_faces.mesh.profiles import bump, falloff, smoothstep
from datamodules.synthetic_faces.mesh.proportions import Proportions

JAW_HINGE = np.array([0.0, 0.38, -0.05])  # opening carries the chin back as much as down
SIDES = (("right", -1), ("left", 1))  # the person's; the right side is at image left


@dataclasses.dataclass(frozen=True)
class Pull:
    """A bell of skin that moves together; several rows of one feature add up."""

    feature: str  # the control it follows; ``*`` stands for left and right, each on its own half
    anchor: str  # where it sits, a name of ``anchors``
    offset: tuple[float, float]  # from there, outwards and up
    radii: tuple[float, float]  # of the bell, sideways and upwards, head radii
    move: tuple[
        float, float, float
    ]  # of its top at strength 1: away from the middle, up, forwards, head radii
    region: str = "face"  # or "neck", or "upper" or "lower": that lip alone, so that the mouth opens
    mirrored: bool = True  # the other side moves mirrored; otherwise both move to image right together


def anchors(m: Proportions) -> dict[str, tuple[float, float]]:
    """Places of the person's left half of the face, in head space ``(x, y)``."""
    return {
        "mouth": (0.0, m.mouth_y),
        "corner": (m.mouth_half, float(m.mouth_line(np.array(m.mouth_half)))),
        "wing": (m.nose_width * 0.86, m.nose_y + 0.055),
        "bridge": (0.07, m.eye_y - 0.10),
        "cheek": (0.42, -0.24),
        "jowl": (0.42, -0.68),
        "chin": (0.0, m.chin_y + 0.14),
        "brow": (0.33, m.brow_y + 0.01),
        "brow_inner": (m.brow_inner + 0.02, m.brow_y),
        "forehead": (0.0, 0.60),
        "throat": (0.0, m.chin_y - 0.12),
    }


PULLS = (
    Pull("smile_*", "corner", (0.01, 0.0), (0.15, 0.14), (0.045, 0.065, -0.030)),
    Pull("smile_*", "cheek", (0.0, 0.0), (0.17, 0.15), (0.012, 0.032, 0.026)),
    Pull("dimple_*", "corner", (0.01, 0.0), (0.10, 0.10), (0.022, 0.0, -0.042)),
    Pull("corner_down_*", "corner", (0.01, 0.0), (0.13, 0.13), (0.010, -0.060, -0.012)),
    Pull("upper_lip_*", "mouth", (0.12, 0.0), (0.14, 0.14), (0.0, 0.055, 0.004), region="upper"),
    Pull("upper_lip_*", "wing", (0.02, -0.03), (0.08, 0.10), (0.004, 0.020, 0.006)),
    Pull("lower_lip_*", "mouth", (0.12, 0.0), (0.14, 0.15), (0.006, -0.065, 0.004), region="lower"),
    Pull("chin_raise", "chin", (0.0, 0.0), (0.17, 0.12), (0.0, 0.048, 0.020)),
    Pull("chin_raise", "mouth", (0.0, -0.06), (0.20, 0.09), (0.0, 0.022, 0.022)),
    Pull("cheek_puff_*", "corner", (0.20, 0.10), (0.18, 0.20), (0.065, 0.0, 0.085)),
    Pull("cheek_puff_*", "mouth", (0.12, 0.13), (0.12, 0.07), (0.0, 0.0, 0.022)),
    Pull("cheek_raise_*", "cheek", (-0.02, 0.05), (0.19, 0.15), (0.006, 0.042, 0.024)),
    Pull("nose_wrinkle", "bridge", (0.0, 0.0), (0.09, 0.12), (0.0, 0.030, 0.012)),
    Pull("nose_wrinkle", "wing", (0.0, 0.0), (0.08, 0.07), (0.010, 0.030, 0.0)),
    Pull("nose_wrinkle", "brow_inner", (0.0, 0.0), (0.13, 0.10), (-0.006, -0.022, 0.0)),
    Pull("nose_wrinkle", "mouth", (0.12, 0.12), (0.14, 0.08), (0.0, 0.018, 0.004)),
    Pull("nostril_flare", "wing", (0.0, -0.01), (0.06, 0.06), (0.036, 0.006, 0.010)),
    Pull("brow_*", "brow", (0.0, 0.0), (0.24, 0.13), (0.0, 0.062, 0.012)),
    Pull("brow_inner_*", "brow_inner", (0.02, 0.01), (0.13, 0.12), (0.0, 0.060, 0.012)),
    Pull("brow_knit", "brow_inner", (0.0, 0.0), (0.13, 0.11), (-0.036, -0.028, 0.012)),
    Pull("scalp", "forehead", (0.0, 0.0), (0.60, 0.20), (0.0, 0.035, 0.0)),
    Pull("swallow", "throat", (0.0, 0.0), (0.13, 0.09), (0.0, 0.045, 0.030), region="neck"),
    Pull("neck_tense", "throat", (0.20, 0.0), (0.06, 0.16), (0.008, 0.0, 0.035), region="neck"),
    # Soft tissue that swings after the head: strength is the way of the loosest point.
    Pull("jowl_x", "jowl", (0.0, 0.0), (0.28, 0.26), (1.0, 0.0, 0.0), mirrored=False),
    Pull("jowl_y", "jowl", (0.0, 0.0), (0.28, 0.26), (0.0, 1.0, 0.0)),
)


def _rows(pull: Pull) -> Iterator[tuple[str, int | None]]:
    """Names of the features of a row, each with its side; ``None`` is both."""
    if "*" not in pull.feature:
        yield pull.feature, None
        return
    for name, side in SIDES:
        yield pull.feature.replace("*", name), side


SHAPES = (
    "jaw_sine", "jaw_cosine", "jaw_forward", "jaw_side", "part", "wide", "round", "tuck", "lips_tight",
    "lip_roll_upper", "lip_roll_lower", "open_right", "open_left", "close_right", "close_left", "look_right", "look_left",
    "squint_right", "squint_left", "lid_wide_right", "lid_wide_left", "tongue_up", "tongue_out", "tongue_side",
    "shoulder_left", "shoulder_right", "breath", "hair_x", "hair_y", "hair_z", "hair_twist",
)  # fmt: skip
FEATURES = (*SHAPES, *dict.fromkeys(name for pull in PULLS for name, _ in _rows(pull)))


def displacement_fields(m: Proportions, skin: SkinGrid, parts: list[Part]) -> dict[str, np.ndarray]:
    """Displacements ``(V, 3)`` of all vertices at strength 1 of each of ``FEATURES``; ``parts`` starts with the skin."""
    vertices = np.concatenate([p.vertices for p in parts])
    fields = {name: np.zeros_like(vertices) for name in FEATURES}
    count = len(skin.part.vertices)
    on_skin = {name: field[:count] for name, field in fields.items()}
    for pull in PULLS:
        for name, side in _rows(pull):
            on_skin[name] += _bell(pull, side, m, skin)
    _jaw(m, skin, parts, vertices, fields)
    _lips(m, skin, on_skin)
    _lids(m, skin, on_skin)
    _tongue(parts, fields)
    _shoulders(parts, fields)
    _hair(parts, fields)
    return fields


def _bell(pull: Pull, side: int | None, m: Proportions, skin: SkinGrid) -> np.ndarray:
    """Displacements ``(V, 3)`` of one row of the table on one side or both."""
    x, y, z = skin.part.vertices.T
    ax, ay = anchors(m)[pull.anchor]
    across, outwards = (np.abs(x), np.clip(x / 0.08, -1, 1)) if side is None else (side * x, float(side))
    height = bump(across, y, ax + pull.offset[0], ay + pull.offset[1], *pull.radii)
    if pull.region == "neck":
        height = height * smoothstep(m.chin_y - 0.015, m.chin_y - 0.05, y) * smoothstep(-0.2, 0.0, z)
    else:
        height = height * smoothstep(0.0, 0.25, z)
    if pull.region in ("upper", "lower"):
        height = height * m.opening(x) * (skin.side > 0 if pull.region == "upper" else skin.side < 0)
    sideways, up, forwards = pull.move
    move = sideways * (outwards if pull.mirrored else 1.0) * height
    return np.stack([move, up * height, forwards * height], axis=1)


def _jaw(
    m: Proportions, skin: SkinGrid, parts: list[Part], vertices: np.ndarray, fields: dict[str, np.ndarray]
) -> None:
    jaw = np.concatenate([p.jaw for p in parts])
    relative = vertices - JAW_HINGE
    fields["jaw_sine"][:, 1:] = jaw[:, None] * np.stack([-relative[:, 2], relative[:, 1]], axis=1)
    fields["jaw_cosine"][:, 1:] = jaw[:, None] * relative[:, 1:]
    # Where the lips meet they share the jaw's slide, so that closed lips don't part.
    count = len(skin.part.vertices)
    x, y, _ = skin.part.vertices.T
    near = falloff(y - m.mouth_line(x), 0.13) * m.opening(x)
    slide = jaw.copy()
    slide[:count] += (0.5 - slide[:count]) * near
    fields["jaw_forward"][:, 2] = 0.060 * slide
    fields["jaw_side"][:, 0] = 0.065 * slide


def _lips(m: Proportions, skin: SkinGrid, fields: dict[str, np.ndarray]) -> None:
    x, y, z = skin.part.vertices.T
    front = smoothstep(0.0, 0.25, z)
    height = y - m.mouth_line(x)
    d, upper = np.abs(height), skin.side > 0
    opening = m.opening(x) * front
    beyond = np.maximum(np.abs(x) - m.mouth_half, 0)
    stretch = np.clip(x / m.mouth_half, -1, 1)
    around = bump(beyond, d, 0, 0, 0.16, 0.20) * front
    reach = np.where(upper, 0.14, 0.16)
    fields["part"][:, 1] = opening * np.where(upper, 0.022, -0.108) * falloff(d, reach)
    fields["wide"][:, 0] = 0.062 * stretch * around
    fields["wide"][:, 2] = -0.035 * stretch**2 * around
    fields["round"][:, 0] = -0.42 * m.mouth_half * stretch * around
    fields["round"][:, 2] = 0.085 * bump(x, d, 0, 0, 0.24, 0.15) * front
    # What is drawn together slides along the teeth, not through them.
    seam = skin.index[skin.mouth_rows[0], skin.mouth_columns]
    corner, middle = seam[-1], seam[len(seam) // 2]
    bend = (z[middle] - z[corner]) / (x[corner] ** 2)
    drawn = x + fields["round"][:, 0]
    fields["round"][:, 2] += 1.2 * bend * (x**2 - drawn**2)
    lower = falloff(d, 0.10) * opening * ~upper
    fields["tuck"][:, 2] = -0.045 * lower
    fields["tuck"][:, 1] = 0.010 * lower
    share = d / np.where(upper, m.lip_upper, m.lip_lower)
    red = falloff(share, 1.3) * front * (beyond < 1e-6) * opening
    fields["lips_tight"][:, 1] = -0.45 * height * red
    fields["lips_tight"][:, 2] = -0.022 * red
    for name, chosen in (("lip_roll_upper", upper), ("lip_roll_lower", ~upper)):
        # Turning out carries the red away from the mouth line and forwards; the line itself stays.
        fields[name][:, 1] = 0.40 * height * red * chosen
        full = np.sin(np.pi * np.clip(share / 1.6, 0, 1))
        fields[name][:, 2] = 0.050 * full * opening * chosen * front


def _lids(m: Proportions, skin: SkinGrid, fields: dict[str, np.ndarray]) -> None:
    x, y, z = skin.part.vertices.T
    d = y - m.eye_line(x)
    above = skin.lid_side > 0
    reach = np.where(above, 0.25, 0.17)
    fall = np.clip(1 - np.abs(d) / reach, 0, 1) ** 2 * (z > 0.2)
    shape = np.clip(1 - m.eye_local(x) ** 2, 0, 1)
    for eye, side in SIDES:
        here = fall * (x * side > 0)
        fields[f"open_{eye}"][:, 1] = here * np.where(above, m.upper_lid(x), -m.lower_lid(x))
        fields[f"close_{eye}"][:, 1] = here * -0.55 * m.lower_lid(x)
        fields[f"look_{eye}"][:, 1] = here * shape * np.where(above, 0.075, 0.03)
        fields[f"squint_{eye}"][:, 1] = here * shape * np.where(above, -0.012, 0.030)
        fields[f"lid_wide_{eye}"][:, 1] = here * np.where(above, 0.38 * m.upper_lid(x), 0)


def _spans(parts: list[Part], *names: str) -> Iterator[tuple[slice, np.ndarray]]:
    """Vertices of the parts of these names: their range and their positions."""
    first = 0
    for part in parts:
        if part.name in names:
            yield slice(first, first + len(part.vertices)), part.vertices
        first += len(part.vertices)


def _tongue(parts: list[Part], fields: dict[str, np.ndarray]) -> None:
    for span, points in _spans(parts, "tongue"):
        tip = smoothstep(points[:, 2].min(), points[:, 2].max(), points[:, 2])
        fields["tongue_up"][span, 1:] = tip[:, None] * (0.085, 0.035)
        fields["tongue_out"][span, 1:] = tip[:, None] * (0.085, 0.175)
        fields["tongue_side"][span, 0] = 0.075 * tip


def _shoulders(parts: list[Part], fields: dict[str, np.ndarray]) -> None:
    for span, points in _spans(parts, "clothes"):
        x, y, z = points.T
        for name, side in SIDES:
            raised = smoothstep(0.35, 1.05, side * x)
            fields[f"shoulder_{name}"][span, 1] = 0.16 * raised
            fields[f"shoulder_{name}"][span, 0] = -0.05 * side * raised
        body = smoothstep(-1.2, -1.6, y)
        fields["breath"][span, 1] = 0.030 * body
        fields["breath"][span, 2] = 0.045 * body * smoothstep(-0.1, 0.3, z)


def _hair(parts: list[Part], fields: dict[str, np.ndarray]) -> None:
    hanging = any(p.name == "hair_lining" for p in parts)
    for span, points in _spans(parts, "hair", "hair_lining", "bun"):
        loose = hair_looseness(points, hanging)
        for axis, name in enumerate(("hair_x", "hair_y", "hair_z")):
            fields[name][span, axis] = loose
        fields["hair_twist"][span, 0] = loose * (points[:, 2] + 0.14)
        fields["hair_twist"][span, 2] = -loose * points[:, 0]
    for span, points in _spans(parts, "hair"):  # the hairline follows the forehead
        edge = bump(points[:, 0], points[:, 1], 0.0, 0.62, 0.60, 0.20) * smoothstep(0.0, 0.25, points[:, 2])
        fields["scalp"][span, 1] = 0.035 * edge


def hair_looseness(points: np.ndarray, hanging: bool) -> np.ndarray:
    """Share ``(V,)`` of a swing that hair at ``points`` takes: all at the ends of hanging strands, a little on top."""
    y = points[:, 1]
    return hanging * smoothstep(0.15, -1.55, y) + 0.10 * smoothstep(0.70, 1.15, y)
