"""The rig: one mesh of all parts, its displacement fields, and their evaluation for a stretch of frames."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from datamodules.synthetic_faces import parts as pieces
from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.geometry import Part, SkinGrid, Skull, build_skin, bump, smoothstep
from datamodules.synthetic_faces.hair import build_hair
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.proportions import Proportions

JAW_HINGE = np.array([0.0, -0.12, -0.05])
JAW_RANGE = 0.30  # radians at jaw_open = 1
HEAD_PIVOT = (0.0, -0.72, -0.14)  # head radii; the pose turns about it
SHOULDER_PIVOT = (0.0, -1.9, -0.14)
LID_GAP = 0.012  # skin above the eyeball, head radii
EYE_NAMES = ("right_eye", "left_eye")  # the person's; the right eye is at image left


def lid_closure(m: Proportions, x: np.ndarray) -> np.ndarray:
    """Height of the closed lids' line above the eye line at ``x``."""
    return -0.55 * m.lower_lid(x)


def displacement_fields(
    m: Proportions, skin: SkinGrid, jaw: np.ndarray, vertices: np.ndarray
) -> dict[str, np.ndarray]:
    """Displacements ``(V, 3)`` per unit of each feature; ``vertices`` starts with the skin's, ``jaw`` is their weight."""
    count = len(skin.part.vertices)
    relative = vertices - JAW_HINGE
    fields = {name: np.zeros_like(vertices) for name in FEATURES}
    fields["jaw_sine"][:, 1:] = jaw[:, None] * np.stack([-relative[:, 2], relative[:, 1]], axis=1)
    fields["jaw_cosine"][:, 1:] = jaw[:, None] * relative[:, 1:]
    x, y, z = skin.part.vertices.T
    front = smoothstep(0.0, 0.25, z)
    d = np.abs(y - m.mouth_line(x))
    ax, sign = np.abs(x), np.sign(x)
    opening = np.sqrt(np.clip(1 - (x / m.mouth_half) ** 2, 0, 1))
    beyond = np.maximum(ax - m.mouth_half, 0)
    part = fields["part"][:count]
    part[:, 1] = (
        opening
        * np.where(skin.side > 0, 0.055, -0.075)
        * np.exp(-((d / np.where(skin.side > 0, 0.14, 0.16)) ** 2))
    )
    around = np.exp(-((beyond / 0.16) ** 2) - (d / 0.20) ** 2) * front
    stretch = np.clip(x / m.mouth_half, -1, 1)
    fields["wide"][:count, 0] = 0.062 * stretch * around
    fields["wide"][:count, 2] = -0.035 * stretch**2 * around
    fields["round"][:count, 0] = -0.42 * m.mouth_half * stretch * around
    fields["round"][:count, 2] = 0.085 * np.exp(-((x / 0.24) ** 2) - (d / 0.15) ** 2) * front
    lower = np.exp(-((d / 0.10) ** 2)) * opening * (skin.side < 0)
    fields["tuck"][:count, 2] = -0.045 * lower
    fields["tuck"][:count, 1] = 0.010 * lower
    corner = bump(ax, y, m.mouth_half + 0.01, m.mouth_line(np.array(m.mouth_half)), 0.15, 0.14) * front
    cheek = bump(ax, y, 0.42, -0.24, 0.17, 0.15) * front
    fields["smile"][:count, 0] = sign * (0.045 * corner + 0.012 * cheek)
    fields["smile"][:count, 1] = 0.065 * corner + 0.032 * cheek
    fields["smile"][:count, 2] = -0.030 * corner + 0.026 * cheek
    _lid_fields(m, skin, fields, count)
    for name, side in (("brow_right", -1), ("brow_left", 1)):
        lift = bump(x, y, side * 0.33, m.brow_y + 0.01, 0.24, 0.13) * front
        fields[name][:count, 1] = 0.062 * lift
        fields[name][:count, 2] = 0.012 * lift
    return fields


def _lid_fields(m: Proportions, skin: SkinGrid, fields: dict[str, np.ndarray], count: int) -> None:
    x, y, z = skin.part.vertices.T
    d = y - m.eye_line(x)
    above = skin.lid_side > 0
    reach = np.where(above, 0.25, 0.17)
    fall = np.clip(1 - np.abs(d) / reach, 0, 1) ** 2 * (z > 0.2)
    shape = np.clip(1 - m.eye_local(x) ** 2, 0, 1)
    for side, eye in ((-1, "right"), (1, "left")):
        here = fall * (x * side > 0)
        fields[f"open_{eye}"][:count, 1] = here * np.where(above, m.upper_lid(x), -m.lower_lid(x))
        fields[f"close_{eye}"][:count, 1] = here * lid_closure(m, x)
        fields[f"look_{eye}"][:count, 1] = here * shape * np.where(above, 0.075, 0.03)
        fields[f"squint_{eye}"][:count, 1] = here * shape * np.where(above, -0.012, 0.030)


FEATURES = (
    "jaw_sine", "jaw_cosine", "part", "wide", "round", "tuck", "smile", "open_right", "open_left", "close_right",
    "close_left", "look_right", "look_left", "squint_right", "squint_left", "brow_right", "brow_left", "tongue",
)  # fmt: skip


def features(controls: Controls, start: int, stop: int) -> np.ndarray:
    """Strengths ``(T, F)`` of the displacement fields, in the order of ``FEATURES``."""
    c = {name: controls[name][start:stop].astype(np.float64) for name in (
        "jaw_open", "lips_part", "lips_wide", "lips_round", "lip_tuck", "tongue_up", "smile", "blink_left", "blink_right",
        "gaze_y", "brow_left", "brow_right",
    )}  # fmt: skip
    angle = JAW_RANGE * c["jaw_open"]
    look = np.sin(np.deg2rad(np.clip(c["gaze_y"], -35, 35)))
    squint = np.maximum(c["smile"], 0)
    shut = {eye: np.clip(c[f"blink_{eye}"], 0, 1) for eye in ("left", "right")}
    value = {
        "jaw_sine": np.sin(angle), "jaw_cosine": np.cos(angle) - 1, "part": c["lips_part"], "wide": c["lips_wide"],
        "round": c["lips_round"], "tuck": c["lip_tuck"], "smile": c["smile"], "tongue": c["tongue_up"],
        "brow_right": c["brow_right"], "brow_left": c["brow_left"],
    }  # fmt: skip
    for eye in ("right", "left"):
        value[f"open_{eye}"] = 1 - shut[eye]
        value[f"close_{eye}"] = shut[eye]
        value[f"look_{eye}"] = look * (1 - shut[eye])
        value[f"squint_{eye}"] = squint * (1 - shut[eye])
    return np.stack([value[name] for name in FEATURES], axis=1)


@dataclasses.dataclass
class _Seam:
    """Vertices near the mouth, the column of each, and how much of a correction of the gap each takes."""

    upper: Tensor
    lower: Tensor
    near: Tensor
    column: Tensor
    press: Tensor
    tuck: Tensor


class Rig:
    """The mesh of one person and how the controls move it.

    Attributes:
        parts: the parts in the order of the mesh. first: first vertex of each part by name.
        faces: ``(F, 3)`` int64. rest: ``(V, 3)`` positions with eyes and mouth closed.
        skin: the skin grid. proportions: the facial measures. skull: the profiles.
    """

    def __init__(self, person: Identity, device: torch.device) -> None:
        self.device = device
        m = self.proportions = Proportions.of(person)
        self.skull = Skull(person)
        skin = self.skin = build_skin(person, m, self.skull)
        skin.part.jaw = pieces.jaw_weights(m, skin)
        self.eye_centres = pieces.eye_centres(person, m, self.skull)
        self._deforming = [skin.part, *pieces.mouth_inside(person, m, self.skull)]
        strips = [
            pieces.inner_strip(
                "upper_lip_inside", skin, skin.mouth_rows, skin.mouth_columns, True, 0.075, "lip"
            ),
            pieces.inner_strip(
                "lower_lip_inside", skin, skin.mouth_rows, skin.mouth_columns, False, 0.085, "lip"
            ),
        ]
        for name, columns in zip(EYE_NAMES, skin.eye_columns, strict=True):
            strips.append(
                pieces.inner_strip(f"{name}_upper_rim", skin, skin.eye_rows, columns, True, 0.03, "lash")
            )
            strips.append(
                pieces.inner_strip(f"{name}_lower_rim", skin, skin.eye_rows, columns, False, 0.03, "rim")
            )
        covered = person.hair_style in ("long", "bob")  # the ears
        rigid = [
            *([] if covered else pieces.ears(person, self.skull)),
            *build_hair(person, self.skull),
            pieces.clothes(person),
        ]
        rigid += pieces.glasses(person, m, self.eye_centres)
        balls = pieces.eyeballs(m, self.eye_centres)
        self.parts: list[Part] = [*self._deforming, *(s[0] for s in strips), *balls, *rigid]
        sizes = np.cumsum([0, *(len(p.vertices) for p in self.parts)])
        self.first = {p.name: int(n) for p, n in zip(self.parts, sizes, strict=False)}
        self.faces = torch.as_tensor(
            np.concatenate([p.faces + n for p, n in zip(self.parts, sizes, strict=False)]), device=device
        )
        rest = np.concatenate([p.vertices for p in self.parts])
        self.rest = self._tensor(rest)
        self.head = self._tensor(np.concatenate([p.head for p in self.parts]))[:, None]
        self._follow = torch.as_tensor(np.concatenate([s[1] for s in strips]), device=device)
        self._offset = self._tensor(np.concatenate([s[2] for s in strips]))
        self._count = int(sum(len(p.vertices) for p in self._deforming))
        self._fields = self._build_fields(rest[: self._count])
        self._seam = self._build_seam()
        self._lids = self._build_lids()

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)

    def _build_fields(self, rest: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        jaw = np.concatenate([p.jaw for p in self._deforming])
        fields = displacement_fields(self.proportions, self.skin, jaw, rest)
        first = self.first["tongue"]
        tongue = self._deforming[-1].vertices
        tip = smoothstep(tongue[:, 2].min(), tongue[:, 2].max(), tongue[:, 2])
        fields["tongue"][first : first + len(tongue), 1] = 0.085 * tip
        fields["tongue"][first : first + len(tongue), 2] = 0.035 * tip
        result = []
        for name in FEATURES:
            moved = np.flatnonzero(np.abs(fields[name]).max(axis=1) > 1e-6)
            result.append((torch.as_tensor(moved, device=self.device), self._tensor(fields[name][moved])))
        return result

    def _build_seam(self) -> _Seam:
        skin, m = self.skin, self.proportions
        columns = skin.mouth_columns[1:-1]
        column_of = np.full(len(skin.part.vertices), -1)
        for number, column in enumerate(columns):
            column_of[skin.index[:, column]] = number
        x, y, _ = skin.part.vertices.T
        d = np.abs(y - m.mouth_line(x))
        near = np.flatnonzero((column_of >= 0) & (d < 0.40))
        lower = skin.side[near] < 0
        share = np.where(
            lower, 0.62 * np.exp(-((d[near] / 0.17) ** 2)), -0.38 * np.exp(-((d[near] / 0.13) ** 2))
        )
        depth = np.where(
            lower, np.exp(-((d[near] / 0.17) ** 2)), 0.0
        )  # the upper lip stays in front of its teeth
        share = np.stack([share, share, depth], axis=1)
        tuck = np.where(lower, np.exp(-((d[near] / 0.15) ** 2)), 0.0)
        rows = skin.mouth_rows
        index = [torch.as_tensor(skin.index[r, columns], device=self.device) for r in rows]
        near_t, column_t = (torch.as_tensor(a, device=self.device) for a in (near, column_of[near]))
        return _Seam(index[0], index[1], near_t, column_t, self._tensor(share), self._tensor(tuck)[:, None])

    def _build_lids(self) -> list[tuple[Tensor, float, float, float]]:
        x, y, z = self.skin.part.vertices.T
        result = []
        for cx, cy, cz in self.eye_centres:
            near = np.flatnonzero((np.hypot(x - cx, y - cy) < 0.34) & (z > 0.2))
            result.append((torch.as_tensor(near, device=self.device), float(cx), float(cy), float(cz)))
        return result

    def shape(self, controls: Controls, start: int, stop: int) -> Tensor:
        """Positions ``(T, V, 3)`` in head space, before the pose, of the frames ``start <= t < stop``."""
        strength = self._tensor(features(controls, start, stop))
        frames = len(strength)
        p = self.rest[: self._count].expand(frames, -1, -1).clone()
        for number, (moved, field) in enumerate(self._fields):
            p[:, moved] += strength[:, number, None, None] * field
        self._close_seam(p, controls, start, stop)
        for near, cx, cy, cz in self._lids:
            q = p[:, near]
            dx, dy = q[..., 0] - cx, q[..., 1] - cy
            # The ball's front as a series in the distance from its axis, so that it goes on falling beyond the ball.
            radius = self.proportions.eyeball + LID_GAP
            square = (dx * dx + dy * dy) / (radius * radius)
            ball = cz + radius * (1 - 0.5 * square - 0.125 * square * square)
            difference = q[..., 2] - ball
            q[..., 2] = 0.5 * (q[..., 2] + ball + torch.sqrt(difference * difference + 1.5e-4))
            p[:, near] = q
        follow = p[:, self._follow] + self._offset
        rest = self.rest[self._count + len(self._offset) :].expand(frames, -1, -1)
        p = torch.cat([p, follow, rest], dim=1)
        self._turn_eyes(p, controls, start, stop)
        return p

    def _close_seam(self, p: Tensor, controls: Controls, start: int, stop: int) -> None:
        """Takes the gap between the lips back where they are pressed or the lower lip is tucked; never lets them cross."""
        seam = self._seam
        gap = p[:, seam.upper] - p[:, seam.lower]
        press = self._tensor(np.clip(controls["lips_press"][start:stop], 0, 1))[:, None, None]
        tuck = 0.75 * self._tensor(np.clip(controls["lip_tuck"][start:stop], 0, 1))[:, None, None]
        press = torch.where(gap[..., 1:2] < 0, torch.ones_like(press), press)
        closed = press * gap
        p[:, seam.near] += closed[:, seam.column] * seam.press
        tucked = tuck * (gap - closed)
        p[:, seam.near] += tucked[:, seam.column] * seam.tuck

    def _turn_eyes(self, p: Tensor, controls: Controls, start: int, stop: int) -> None:
        yaw = np.deg2rad(np.clip(controls["gaze_x"][start:stop].astype(np.float64), -40, 40))
        pitch = np.deg2rad(np.clip(controls["gaze_y"][start:stop].astype(np.float64), -35, 35))
        turn = self._tensor(rotation(yaw, pitch, 0 * yaw))
        for name, centre in zip(EYE_NAMES, self.eye_centres, strict=True):
            first = self.first[name]
            ball = slice(first, first + len(self.parts[[q.name for q in self.parts].index(name)].vertices))
            middle = self._tensor(centre)
            p[:, ball] = rotate(turn, p[:, ball] - middle) + middle

    def pose(self, p: Tensor, controls: Controls, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Moves head and shoulders; returns positions ``(T, V, 3)`` in camera axes and the head's rotation ``(T, 3, 3)``."""
        c = {name: controls[name][start:stop].astype(np.float64) for name in (
            "yaw", "pitch", "roll", "shift_x", "shift_y", "shift_z", "shoulder_x", "shoulder_y", "shoulder_roll",
        )}  # fmt: skip
        turn = self._tensor(rotation(*(np.deg2rad(c[n]) for n in ("yaw", "pitch", "roll"))))
        shift = self._tensor(np.stack([c["shift_x"], c["shift_y"], c["shift_z"]], axis=1))[:, None]
        pivot = self._tensor(np.array(HEAD_PIVOT))
        head = rotate(turn, p - pivot) + pivot + shift
        zero = 0 * c["yaw"]
        lean = self._tensor(rotation(zero, zero, np.deg2rad(c["shoulder_roll"])))
        shift = self._tensor(np.stack([c["shoulder_x"], c["shoulder_y"], zero], axis=1))[:, None]
        pivot = self._tensor(np.array(SHOULDER_PIVOT))
        shoulders = rotate(lean, p - pivot) + pivot + shift
        return shoulders + self.head * (head - shoulders), turn


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices ``(T, 3, 3)`` = yaw * pitch * roll (roll first, in the head's own axes), angles in radians.

    Signs as seen in the image: yaw > 0 towards image right, pitch > 0 up, roll > 0 clockwise.
    """
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([np.stack(r, axis=-1) for r in rows], axis=-2)

    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    about_y = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    about_x = matrix((one, zero, zero), (zero, cp, sp), (zero, -sp, cp))
    about_z = matrix((cr, sr, zero), (-sr, cr, zero), (zero, zero, one))
    return about_y @ about_x @ about_z


def rotate(turn: Tensor, p: Tensor) -> Tensor:
    """Applies ``turn (T, 3, 3)`` to ``p (T, V, 3)``, element by element so that the bits depend on no batch size."""
    rows = [
        turn[:, i, 0, None] * p[..., 0] + turn[:, i, 1, None] * p[..., 1] + turn[:, i, 2, None] * p[..., 2]
        for i in range(3)
    ]
    return torch.stack(rows, dim=-1)
