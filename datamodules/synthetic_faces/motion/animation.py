"""Speech, style and chance to the control curves of a synthetic head."""

from dataclasses import dataclass

import numpy as np

from datamodules.synthetic_faces.motion import expressions, eyes, head_motion, visemes
from datamodules.synthetic_faces.motion.controls import Controls
from datamodules.synthetic_faces.motion.curves import changing_level
from datamodules.synthetic_faces.motion.speech_drives import speech_drives, stressed_moments
from datamodules.synthetic_faces.motion.style import Style
from datamodules.synthetic_faces.speech.narration import Narration


@dataclass(frozen=True)
class Animation:
    """The motion of a clip."""

    controls: Controls  # control curves
    head: head_motion.HeadMotion  # the parts that the head's rotation is made of
    mouth_intensity: np.ndarray  # ``(T,)`` articulation strength of the moment
    blink_intensity: np.ndarray  # ``(T,)`` blinks of the moment relative to one every three seconds


def animate(
    narration: Narration, style: Style, rng: np.random.Generator, camera: str = "still", turns: float = 0.0
) -> Animation:
    """Control curves of a clip of ``narration.frames`` frames, in the given style; the camera is ``still`` or ``moving``.

    ``turns`` is the probability that the head looks round, too.

    Every part of the motion has a stream of random numbers of its own, so that a change to one leaves the others.
    """
    frames = narration.frames
    controls = Controls.neutral(frames)
    units = visemes.split_phonemes(narration.phonemes)
    stresses = stressed_moments(units)
    for_mouth, for_head, for_body, for_eyes, for_face, for_camera, for_turns = rng.spawn(7)

    mouth_intensity = style.mouth_intensity * changing_level(frames, 1.4, 0.35, for_mouth)
    loud = visemes.articulation_from_loudness(narration.speech)
    at = np.linspace(0, frames - 1, len(loud))
    articulation = loud * np.interp(at, np.arange(frames), mouth_intensity)
    for name, curve in visemes.mouth_curves(units, articulation, frames).items():
        controls[name][:] = curve
    turn = head_motion.look_round(frames, turns, for_turns)
    motion = head_motion.head_motion(speech_drives(narration, units), style, for_head, turn)
    head_motion.move_head(controls, motion, style, for_head)
    head_motion.move_shoulders(controls, style, for_body)
    head_motion.swing(controls, for_body)
    blinking = style.blink_intensity * changing_level(frames, 2.5, 0.35, for_eyes)
    controls["blink_left"][:], controls["blink_right"][:] = eyes.blink_curves(frames, blinking, for_eyes)
    eyes.move_gaze(controls, style, for_eyes)
    expressions.move_brows(controls, stresses, style, for_face)
    expressions.smile(controls, style, for_face)
    expressions.add_habits(controls, style, for_face)
    head_motion.move_camera(controls, camera, for_camera)
    return Animation(controls, motion, mouth_intensity, blinking)
