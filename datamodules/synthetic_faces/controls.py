"""The animation controls of a synthetic head: what the animation writes and the renderer reads."""

import numpy as np

CONTROL_NAMES = (
    # Head pose: degrees, and offsets in head radii. Signs as seen in the image.
    "yaw",  # > 0: the face turns towards image right
    "pitch",  # > 0: the face looks up
    "roll",  # > 0: the head tilts clockwise in the image
    "shift_x",  # > 0: image right
    "shift_y",  # > 0: image up
    "shift_z",  # > 0: towards the camera
    # Shoulders follow the head with their own lag: offset in head radii and degrees.
    "shoulder_x",
    "shoulder_y",
    "shoulder_roll",
    # Mouth, 0 = rest (lips just closed), 1 = full articulation.
    "jaw_open",  # 0..1: chin drops, lower lip and lower teeth with it
    "lips_part",  # 0..1: lips open further than the jaw carries them (upper up, lower down), teeth show
    "lips_press",  # 0..1: lips held together whatever the jaw does (p, b, m)
    "lips_wide",  # -1..1: corners apart (i, smile of speech) or together
    "lips_round",  # 0..1: protruded and narrowed (u, o, w)
    "lip_tuck",  # 0..1: lower lip to the upper teeth (f, v)
    "tongue_up",  # 0..1: tongue tip to the teeth (l, t, d, n, th)
    "smile",  # -0.5..1: corners up (down)
    # Eyes and brows.
    "blink_left",  # 0..1: lids closed; left = the person's left eye (image right)
    "blink_right",
    "gaze_x",  # degrees, > 0: image right
    "gaze_y",  # degrees, > 0: up
    "brow_left",  # -1..1: lowered..raised
    "brow_right",
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

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> np.ndarray:
        """The curve ``(T,)`` of one control; a view, so that it can be written to."""
        return self.values[:, CONTROL_NAMES.index(name)]
