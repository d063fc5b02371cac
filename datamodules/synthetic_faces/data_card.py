"""The data card of a synthetic dataset."""

from collections.abc import Sequence

from datamodules.batches import FPS
from datamodules.clips.manifest import SPLITS, ClipRecord
from datamodules.synthetic_faces.settings import VERSION, Settings

CARD_NAME = "README.md"


def data_card(settings: Settings, records: Sequence[ClipRecord]) -> str:
    """Markdown: what the dataset holds, how it was made, what it is for."""
    rows = []
    for split in SPLITS:
        mine = [record for record in records if record.split == split]
        minutes = sum(record.frames for record in mine) / FPS / 60
        heads = len({record.identity for record in mine})
        voices = len({record.voice for record in mine})
        rows.append(f"| {split} | {len(mine)} | {minutes:.1f} | {heads} | {voices} |")
    natural = ", for some heads of train by hibari, a network that learnt another synthesiser's voice"
    natural = natural if settings.natural_voices else ""
    if settings.recorded_voices:
        natural += ", for some heads of train cut out of recordings of people"
    values = "\n".join(f"- `{name}`: {value}" for name, value in settings.to_dict().items())
    return f"""# Synthetic talking heads

Procedural heads that speak. {_nobody(settings)} Heads,
sentences and motion are drawn by the code that wrote this folder (`datamodules/synthetic_faces`, version {VERSION});
the speech is synthesised by espeak-ng{natural}.

| split | clips | minutes | identities | voices |
|---|---|---|---|---|
{chr(10).join(rows)}

The splits share no identity, voice or sentence.

## Settings

{values}

## Files

`manifest.jsonl` has a row for each clip. `clips/ID.mp4` is the picture (25 fps, H.264), `clips/ID.wav` the sound (16 kHz,
mono, what is heard), `clips/ID.safetensors` the truth of every frame (pose, lips, lids, gaze, speech sounds, landmarks, all
control curves, the parts of the head's motion) and, in its metadata, the identity, voice, text and intensities. Where
`dense` is true, `clips/ID.dense.safetensors` has mask, depth and backward optical flow. A clip named `..._twin` shows the
motion of the clip without that ending on another head.

## Good for, and not

Made for training from scratch, ablations and tests where exact truth is needed. It is a small world: one family of head
shapes, studio-like light, one or two voice engines. Results on it say what a method can learn, not how it looks on real
people.
"""


def _nobody(settings: Settings) -> str:
    if settings.recorded_voices:
        return "Nobody was filmed; no face or scan of anybody is in it, but recorded voices are, under their own licence."
    return "Nobody was filmed or recorded; no face, scan or recording of anybody is in it."
