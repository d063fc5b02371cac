"""One synthetic clip: narrated, animated, rendered and written with its truth."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np

from datamodules.clips.annotations import write_annotations
from datamodules.clips.manifest import SYNTHETIC_SOURCE, ClipRecord, file_sha256
from datamodules.media.audio import write_wav
from datamodules.media.video import write_video
from datamodules.synthetic_faces.dense_truth import dense_truth
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.landmarks import LANDMARK_NAMES
from datamodules.synthetic_faces.motion.animation import Animation, animate
from datamodules.synthetic_faces.motion.controls import CONTROL_NAMES
from datamodules.synthetic_faces.motion.style import Style, draw_style
from datamodules.synthetic_faces.motion.visemes import PHONEME_TABLE, phoneme_numbers, split_phonemes
from datamodules.synthetic_faces.plans import ClipPlan, Stream
from datamodules.synthetic_faces.renderer import HeadRenderer, Measures, Rendering
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech.narration import Narration, narrate
from datamodules.synthetic_faces.speech.recorded import recordings
from datamodules.synthetic_faces.speech.voices import natural_voice, own_voice, recorded_voice

DENSE_SUFFIX = ".dense.safetensors"


@dataclass(frozen=True)
class Performance:
    """A clip before it is rendered: who is seen, what is said and by whom, how the head moves, and the motion."""

    identity: Identity
    narration: Narration
    style: Style
    animation: Animation


def perform(plan: ClipPlan, settings: Settings, silence: float = 0.0) -> Performance:
    """Identity, sound and motion of a planned clip, with a silence of so many seconds; a function of the arguments alone."""
    rng = {name: plan.rng(name, settings.seed) for name in get_args(Stream)}
    performer = Identity.sample(rng["performer"], settings.domain)
    voice = own_voice(rng["voice"], plan.split, performer.feminine)
    drawn = rng["voice"].random() if plan.split == "train" else 1.0
    if drawn < settings.natural_voices:
        voice = natural_voice(rng["voice"], performer.feminine)
    elif drawn < settings.natural_voices + settings.recorded_voices:
        voice = recorded_voice(rng["voice"], recordings(Path(settings.recordings)))
    noisy = settings.domain == "wide"
    narration = narrate(rng["speech"], voice, plan.split, plan.seconds, noisy=noisy, silence=silence)
    style = draw_style(rng["motion"], performer, narration, settings.intensity, settings.style)
    animation = animate(narration, style, rng["motion"], settings.camera, settings.turns)
    return Performance(Identity.sample(rng["seen"], settings.domain), narration, style, animation)


def make_clip(plan: ClipPlan, settings: Settings, root: Path, device: str = "cpu") -> ClipRecord:
    """Render and write one clip below the existing folder ``root/clips``; returns its row of the manifest.

    Bytes are the same on every CPU run, not between devices.
    """
    performance = perform(plan, settings)
    renderer = HeadRenderer(performance.identity, settings.size, device)
    controls = performance.animation.controls
    rendering = renderer.render(controls)
    stem = f"clips/{plan.clip_id}"
    video, audio, annotations = (root / f"{stem}{suffix}" for suffix in (".mp4", ".wav", ".safetensors"))
    write_video(video, rendering.frames)
    rendering.frames = rendering.mask = np.empty(0)  # a long clip's pictures are large
    write_wav(audio, performance.narration.waveform)
    write_annotations(annotations, _truth(performance, rendering), _metadata(performance, plan, settings))
    if settings.dense:
        write_annotations(root / f"{stem}{DENSE_SUFFIX}", vars(dense_truth(renderer, controls)), {})
    narration = performance.narration
    intensity = {"head_intensity": round(performance.style.head_intensity, 4)}
    return ClipRecord(
        id=plan.clip_id,
        video=f"{stem}.mp4",
        audio=f"{stem}.wav",
        sha256=file_sha256(video),
        identity=f"synthetic_{settings.seed}_{plan.seen:05d}",
        voice=narration.voice.name,
        split=plan.split,
        source=SYNTHETIC_SOURCE,
        start=0.0,
        frames=narration.frames,
        size=settings.size,
        quality=intensity | ({"twin_of": plan.original_id} if plan.is_twin else {}),
        annotations=f"{stem}.safetensors",
    )


def _truth(performance: Performance, rendering: Rendering) -> dict[str, np.ndarray]:
    """Per-frame annotations: those of ``datamodules/clips/annotations.py`` and some that only synthetic clips have."""
    animation = performance.animation
    controls, head = animation.controls, animation.head
    units = split_phonemes(performance.narration.phonemes)

    def columns(*names: str) -> np.ndarray:
        return np.stack([controls[name] for name in names], axis=1)

    intensity = (head.intensity, animation.mouth_intensity, animation.blink_intensity)
    arrays = {
        "rotation": columns("yaw", "pitch", "roll"),
        "translation": columns("shift_x", "shift_y", "shift_z"),
        **{field.name: getattr(rendering, field.name) for field in fields(Measures)},
        "blink": 0.5 * (controls["blink_left"] + controls["blink_right"]),
        "gaze": columns("gaze_x", "gaze_y"),
        "controls": controls.values,  # (T, C) all control curves
        "head_speech": head.speech,  # (T, 3) what the rotation is made of, in degrees
        "head_style": head.style,
        "head_free": head.free,
        "head_turn": head.turn,
        "intensity": np.stack(intensity, axis=1),  # (T, 3) of head, mouth and blinks at the moment
    }
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    return arrays | {
        **{name: getattr(rendering, name) for name in ("surface", "surface_visible", "visible", "person")},
        "phoneme": phoneme_numbers(units, len(controls)),
    }


def _metadata(performance: Performance, plan: ClipPlan, settings: Settings) -> dict:
    narration = performance.narration
    return {
        "plan": asdict(plan),
        "settings": settings.to_dict(),
        "performer": f"synthetic_{settings.seed}_{plan.performer:05d}",
        "twin_of": plan.original_id if plan.is_twin else None,
        "identity": asdict(performance.identity),
        "voice": asdict(narration.voice) | {"recording": Path(narration.voice.recording).name},
        "text": narration.text,
        "speech_level": round(narration.speech_level, 3),
        "style": asdict(performance.style),
        "control_names": list(CONTROL_NAMES),
        "landmark_names": list(LANDMARK_NAMES),
        "phoneme_table": list(PHONEME_TABLE),
    }
