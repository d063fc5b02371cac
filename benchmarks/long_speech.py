"""Does a long speech stay what its first minute is? Motion, identity, sync and memory by the minute.

Run from the repository's root: ``python benchmarks/long_speech.py --image PORTRAIT --audio SPEECH [--minutes 10]``. The
speech is repeated, so that every minute says much the same. Sync is judged by the shipped SyncNet of drawn faces: of
photographs its value means little, a change of it from minute to minute something.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from printing import markdown_table, one_line_errors

from datamodules.batches import FPS, SAMPLES_PER_FRAME, WINDOW
from datamodules.media.audio import load_audio
from datamodules.media.pictures import read_image
from experiments.generate import face_finder, frame_portrait
from lightning_modules.generation.talking_head import TalkingHead
from metrics.evaluation.judges import Judges, load_judges, load_motion_judge
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.protocol_names import TALKING_HEAD
from metrics.identity import identity_similarity
from metrics.motion import MotionCurves, blink_rate, edge_step_ratio, head_motion, mouth_motion

MINUTE = 60 * FPS // WINDOW * WINDOW
"""Frames of a minute, less what is no whole window: seams are looked for where windows meet."""
PIECE = 10 * FPS
"""Frames that are held at once."""
HEAD = [
    "minute",
    "head (deg)",
    "mouth",
    "blinks",
    "edge ratio",
    "identity",
    "LSE-D",
    "LSE-C",
    "frames/s",
    "MB at most",
]


def most_memory() -> float:
    """MB that the process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def minute_row(
    name: str,
    frames: Iterator[np.ndarray],
    sound: np.ndarray,
    judges: Judges,
    protocol: Protocol,
    face: np.ndarray | None,
) -> list[str]:
    """One minute of frames, looked at piece by piece."""
    rotation, lips, blinks, likeness, sync, seconds, count = [], [], [], [], [], 0.0, 0
    while True:
        began = time.perf_counter()
        piece = list(islice(frames, PIECE))
        seconds += time.perf_counter() - began
        if not piece:
            break
        seen = judges.detect(np.stack(piece), protocol)
        curves: MotionCurves = seen.motion
        rotation.append(curves.rotation)
        lips.append(curves.lip_opening)
        blinks.append(curves.blink)
        if seen.embeddings is not None and face is not None:
            likeness.append(identity_similarity(face, seen.embeddings))
        heard = sound[count * SAMPLES_PER_FRAME : (count + len(piece)) * SAMPLES_PER_FRAME]
        if judges.sync is not None and len(piece) == PIECE:
            sync.append(judges.sync(seen.frames, None, [heard], protocol)[0])
        count += len(piece)
    turned = np.concatenate(rotation)
    return [
        name,
        f"{head_motion(turned):.2f}",
        f"{mouth_motion(np.concatenate(lips)):.3f}",
        f"{blink_rate(np.concatenate(blinks)):.0f}",
        f"{edge_step_ratio(turned):.2f}",
        f"{np.nanmean(np.concatenate(likeness)):.3f}" if likeness else "-",
        *(f"{np.mean([one[key] for one in sync]):.2f}" if sync else "-" for key in ("lse_d", "lse_c")),
        f"{count / seconds:.0f}",
        f"{most_memory():.0f}",
    ]


def main() -> None:
    """Prints a row for each minute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--model", default="synthetic-256")
    parser.add_argument("--minutes", type=int, default=10)
    args = parser.parse_args()
    model = TalkingHead.from_pretrained(args.model)
    portrait, _ = frame_portrait(read_image(args.image), args.image, face_finder("largest"))
    speech = np.resize(load_audio(args.audio), args.minutes * MINUTE * SAMPLES_PER_FRAME)
    size = min(2, model.autoencoder.largest_factor) * model.autoencoder.size
    source = model.prepare_source(portrait, size, lids=True, shut_lips=True)
    began, before = time.perf_counter(), most_memory()
    motion = model.generate_motion(source, speech)
    taken = 1000 * (time.perf_counter() - began) / len(motion)
    print(f"motion: {taken:.2f} ms a frame, {most_memory() - before:.0f} MB more")
    protocol = get_protocol(TALKING_HEAD, size=256, crop="face")
    judges = load_judges(
        {"embedder", "sync"}, protocol, load_motion_judge("landmarks", Path()), sync="expert"
    )
    first = judges.detect(np.stack(list(model.render(source, motion[:1]))), protocol)
    face = None if first.embeddings is None else first.embeddings[0]
    rows = []
    for minute in range(args.minutes):
        part = slice(minute * MINUTE, (minute + 1) * MINUTE)
        sound = speech[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME]
        frames = iter(model.render(source, motion[part]))
        rows.append(minute_row(str(minute + 1), frames, sound, judges, protocol, face))
        print(" ".join(rows[-1]), flush=True)
    print(markdown_table(HEAD, rows))


if __name__ == "__main__":
    one_line_errors(main)
