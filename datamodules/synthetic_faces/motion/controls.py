"""The animation controls of a synthetic head: what the animation writes and the renderer reads."""

import numpy as np


def pair(name: str) -> tuple[str, str]:
    """The controls of the person's left side (image right) and right side."""
    return f"{name}_left", f"{name}_right"


CONTROL_NAMES = (
    # Head pose: degrees, and offsets in head radii. Signs as seen in the image.
    "yaw",  # > 0: the face turns towards image right
    "pitch",  # > 0: the face looks up
    "roll",  # > 0: the head tilts clockwise in the image
    "shift_x",  # > 0: image right
    "shift_y",  # > 0: image up
    "shift_z",  # > 0: towards the camera
    # Shoulders follow the head with their own lag: offsets in head radii and degrees.
    "shoulder_x",
    "shoulder_y",
    "shoulder_roll",
    "shoulder_yaw",  # degrees, > 0: the chest turns towards image right
    *pair("shoulder"),  # 0..1: raised
    "breath",  # -1..1: chest out and up
    # Mouth, 0 = rest (lips just closed), 1 = full articulation.
    "jaw_open",  # 0..1: chin drops, lower lip and lower teeth with it
    "jaw_forward",  # -1..1
    "jaw_side",  # -1..1: > 0 towards image right
    "lips_part",  # 0..1: lips open further than the jaw carries them (upper up, lower down), teeth show
    "lips_press",  # 0..1: lips held together whatever the jaw does (p, b, m)
    "lips_wide",  # -1..1: corners apart (i, smile of speech) or together
    "lips_round",  # 0..1: protruded and narrowed (u, o, w)
    "lip_tuck",  # 0..1: lower lip to the upper teeth (f, v)
    "lips_tight",  # 0..1: both lips thinned and flattened (AU 23)
    "lip_roll_upper",  # -1..1: rolled in..turned out
    "lip_roll_lower",
    *pair("upper_lip"),  # 0..1: that side of the upper lip raised (AU 10)
    *pair("lower_lip"),  # 0..1: that side of the lower lip drawn down (AU 16)
    "smile",  # -0.5..1: corners up (down) (AU 12)
    "smile_skew",  # -1..1: > 0 the person's left corner (image right) takes more of the smile
    *pair("dimple"),  # 0..1: corner drawn in and back (AU 14)
    *pair("corner_down"),  # 0..1 (AU 15)
    "chin_raise",  # 0..1: chin boss pushed up (AU 17)
    *pair("cheek_puff"),  # 0..1 (AU 34)
    "tongue_up",  # 0..1: tongue tip to the teeth (l, t, d, n, th)
    "tongue_out",  # 0..1: tongue forward between the teeth (th)
    "tongue_side",  # -1..1: > 0 image right
    # Eyes, brows and nose.
    *pair("blink"),  # 0..1: lids closed
    *pair("lid_wide"),  # 0..1: upper lid raised beyond rest (AU 5)
    *pair("squint"),  # 0..1: lower lid drawn up (AU 7)
    "gaze_x",  # degrees, > 0: image right
    "gaze_y",  # degrees, > 0: up
    "vergence",  # degrees by which each eye turns towards the nose
    *pair("brow"),  # -1..1: lowered..raised as a whole (AU 1 + 2)
    *pair("brow_inner"),  # 0..1: inner end raised (AU 1)
    "brow_knit",  # 0..1: brows drawn together (AU 4)
    *pair("cheek_raise"),  # 0..1 (AU 6)
    "nose_wrinkle",  # 0..1 (AU 9)
    "nostril_flare",  # -1..1 (AU 38, 39)
    # Neck, and what swings after the head: soft tissue and hair, in head radii at the loosest point.
    "swallow",  # 0..1: the throat moves up
    "neck_tense",  # 0..1: the bands of the neck stand out (AU 21)
    "jowl_x",  # > 0: image right
    "jowl_y",  # > 0: up
    "scalp",  # -1..1: forehead and hairline down..up
    "hair_x",
    "hair_y",
    "hair_z",
    "hair_twist",  # radians about the vertical
    # The camera: the same move seen from the picture, so that background and person move together.
    "camera_x",  # share of the picture's side by which the content moves, > 0: image right
    "camera_y",  # > 0: image down
    "camera_zoom",  # log of the magnification about the picture's middle
    "camera_roll",  # degrees, > 0: the content turns clockwise
)


class Controls:
    """Control curves of one clip.

    Attributes:
        values: ``(T, C)`` float32, one column per name of ``CONTROL_NAMES``.
    """

    def __init__(self, values: np.ndarray) -> None:
        if values.ndim != 2 or values.shape[1] != len(CONTROL_NAMES):
            raise ValueError(f"controls are (T, {len(CONTROL_NAMES)}), got {values.shape}")
        self.values = np.ascontiguousarray(values, dtype=np.float32)

    @classmethod
    def neutral(cls, frames: int) -> "Controls":
        """Controls of a head at rest that looks into the camera."""
        return cls(np.zeros((frames, len(CONTROL_NAMES)), dtype=np.float32))

    @classmethod
    def of_poses(cls, *poses: dict[str, float]) -> "Controls":
        """One frame for each pose: the controls that it names, all others at rest."""
        controls = cls.neutral(len(poses))
        for t, pose in enumerate(poses):
            for name, value in pose.items():
                controls[name][t] = value
        return controls

    def part(self, start: int, stop: int) -> "Controls":
        """The frames ``start <= t < stop``."""
        return Controls(self.values[start:stop])

    def by_name(self) -> dict[str, np.ndarray]:
        """All curves ``(T,)`` in float64."""
        return dict(zip(CONTROL_NAMES, self.values.astype(np.float64).T, strict=True))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> np.ndarray:
        """The curve ``(T,)`` of one control; a view, so that it can be written to."""
        return self.values[:, CONTROL_NAMES.index(name)]
