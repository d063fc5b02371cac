"""One synthetic clip: narrated, animated, rendered and written with its truth."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datamodules.annotations import write_annotations
from datamodules.audio import write_wav
from datamodules.manifest import ClipRecord, file_sha256
from datamodules.synthetic_faces.animation import Style, animate
from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.narration import Narration, narrate
from datamodules.synthetic_faces.renderer import LANDMARK_NAMES, HeadRenderer, Rendering
from datamodules.synthetic_faces.visemes import PHONEME_TABLE, phoneme_numbers, split_phonemes
from datamodules.synthetic_faces.voices import voices_of
from datamodules.video import write_video

SOURCE = "synthetic_faces"


@dataclass(frozen=True)
class ClipPlan:
    """All that a clip depends on.

    Attributes:
        index: number of the clip in its dataset.
        identity: number of the identity in its dataset.
        split: ``train``, ``val`` or ``test``.
        size: edge of the frames in pixels.
        seed: seed of the dataset.
        domain: ``plain`` or ``wide``.
        seconds: shortest and longest duration.
    """

    index: int
    identity: int
    split: str
    size: int
    seed: int
    domain: str
    seconds: tuple[float, float]

    @property
    def clip_id(self) -> str:
        """File stem of the clip."""
        return f"synthetic_{self.index:06d}"


@dataclass(frozen=True)
class Performance:
    """A clip before it is rendered.

    Attributes:
        identity: who is seen.
        narration: what is said, and by whom.
        style: how the head moves.
        controls: control curves of the head.
    """

    identity: Identity
    narration: Narration
    style: Style
    controls: Controls


def perform(plan: ClipPlan) -> Performance:
    """Identity, sound and motion of a planned clip; a function of the plan alone."""
    identity_rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(plan.identity,)))
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, plan.index]))
    voices = voices_of(plan.split)
    voice = voices[int(rng.integers(len(voices)))]
    narration = narrate(rng, voice, plan.split, plan.seconds, noisy=plan.domain == "wide")
    style = Style.sample(rng)
    return Performance(
        identity=Identity.sample(identity_rng, plan.domain),
        narration=narration,
        style=style,
        controls=animate(narration, style, rng),
    )


def make_clip(plan: ClipPlan, root: Path) -> ClipRecord:
    """Renders and writes one clip below ``root/clips``.

    Args:
        plan: the clip.
        root: dataset folder with an existing folder ``clips``.

    Returns:
        Its row of the manifest.
    """
    performance = perform(plan)
    rendering = HeadRenderer(performance.identity, plan.size).render(performance.controls)
    stem = f"clips/{plan.clip_id}"
    video, audio, annotations = (root / f"{stem}{suffix}" for suffix in (".mp4", ".wav", ".safetensors"))
    write_video(video, rendering.frames, keyframe_interval=25)
    write_wav(audio, performance.narration.waveform)
    write_annotations(annotations, _truth(performance, rendering), _metadata(performance, plan))
    narration = performance.narration
    return ClipRecord(
        id=plan.clip_id,
        video=f"{stem}.mp4",
        audio=f"{stem}.wav",
        sha256=file_sha256(video),
        identity=f"synthetic_{plan.seed}_{plan.identity:05d}",
        voice=narration.voice.name,
        split=plan.split,
        source=SOURCE,
        start=0.0,
        frames=narration.frames,
        size=plan.size,
        quality={"head_intensity": round(performance.style.head_intensity, 4)},
        annotations=f"{stem}.safetensors",
    )


def _truth(performance: Performance, rendering: Rendering) -> dict[str, np.ndarray]:
    """Per-frame annotations, see ``datamodules/annotations.py``; ``controls`` holds all control curves."""
    controls = performance.controls
    units = split_phonemes(performance.narration.phonemes)

    def columns(*names: str) -> np.ndarray:
        return np.stack([controls[name] for name in names], axis=1)

    arrays = {
        "rotation": columns("yaw", "pitch", "roll"),
        "translation": columns("shift_x", "shift_y", "shift_z"),
        "lip_opening": rendering.lip_opening,
        "lip_width": rendering.lip_width,
        "blink": 0.5 * (controls["blink_left"] + controls["blink_right"]),
        "gaze": columns("gaze_x", "gaze_y"),
        "landmarks": rendering.landmarks,
        "landmarks_3d": rendering.landmarks_3d,
        "regions": rendering.regions,
        "controls": controls.values,
    }
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    arrays["phoneme"] = phoneme_numbers(units, len(controls))
    return arrays


def _metadata(performance: Performance, plan: ClipPlan) -> dict:
    narration = performance.narration
    return {
        "plan": asdict(plan),
        "identity": performance.identity.to_dict(),
        "voice": asdict(narration.voice),
        "text": narration.text,
        "speech_level": round(narration.level, 3),
        "intensity": performance.style.to_dict(),
        "landmark_names": list(LANDMARK_NAMES),
        "phoneme_table": list(PHONEME_TABLE),
    }
