"""What does the sound of the synthetic clips tell about the lips?

    python benchmarks/synthetic_sound.py --clips 1260 --seed 3 [--domain wide] [--workers 2] [--out FILE.json]

Log-mel features of the sound are mapped to the lips by ridge regression and by a small convolutional network, and judged
on speakers, sentences and faces that neither has met. In speech a linear map explains a part, a network most; known
shifts of the sound are found again (a clip counts where all are), and another clip's sound tells nothing. No picture is
rendered.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from printing import markdown_table, one_line_errors
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.augmentation import change_voice
from datamodules.media.audio import MEL_BANDS, log_mel
from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.mesh.landmarks import landmark_vertices, lip_measures
from datamodules.synthetic_faces.mesh.rig import Rig
from datamodules.synthetic_faces.plans import ClipPlan, plan_clips
from datamodules.synthetic_faces.settings import Settings
from experiments.results import write_json
from metrics.motion import correlation

CONTEXT = 8  # frames before and after each frame that both maps see
# Strengths of the regression's penalty; the best on a tenth of the training clips is taken.
RIDGES = (1e2, 1e3, 1e4)
SHIFTS = (-6, -3, 0, 3, 6)  # frames by which the sound is moved against the lips, to be found again
SEARCH = 10  # furthest offset in frames that is tried
TOLERANCE = 1
CHANNELS = 128
BLOCKS = 4
BATCH = 16
STRETCH = 64  # frames of one training example
MEASURES = ("opening", "width")


@dataclass(frozen=True)
class Clip:
    """Sound and lips of one clip."""

    held_out: bool  # whether nothing is fitted to it
    waveform: np.ndarray  # ``(640 T,)`` float32, 16 kHz
    sound: np.ndarray  # ``(T, 320)`` float32 log-mel features, those of 40 ms in a row
    # ``(T, 2)`` float32 in eye distances: gap between the lips, and distance of the corners less its mean over the
    # clip, which is a trait of the face
    lips: np.ndarray

    @classmethod
    def of(cls, split: str, waveform: np.ndarray, opening: np.ndarray, width: np.ndarray) -> "Clip":
        """A clip from ``(S,)`` samples and ``(T,)`` measures of the lips."""
        frames = min(len(opening), len(waveform) // SAMPLES_PER_FRAME)
        waveform = waveform[: frames * SAMPLES_PER_FRAME]
        lips = np.stack([opening, width - width.mean()], axis=1)[:frames]
        return cls(split != "train", waveform, features(waveform), lips.astype(np.float32))

    def delayed(self, frames: int) -> np.ndarray:
        """Features ``(T, 320)`` of the sound ``frames`` later (earlier, where negative), with silence in the gap."""
        samples = abs(frames) * SAMPLES_PER_FRAME
        gap = np.zeros(samples, np.float32)
        if frames >= 0:
            return features(np.concatenate([gap, self.waveform])[: len(self.waveform)])
        return features(np.concatenate([self.waveform[samples:], gap]))


def features(waveform: np.ndarray) -> np.ndarray:
    """``(640 T,)`` -> ``(T, 320)`` log-mel features."""
    mel = log_mel(torch.as_tensor(waveform[None]))[0]  # (2T, 160)
    return mel.reshape(len(waveform) // SAMPLES_PER_FRAME, -1).numpy()


def planned_clips(clips: int, seed: int, domain: str, workers: int) -> Iterator[Clip]:
    """Clips as ``prepare_synthetic`` would make them, every one of another person, without pictures."""
    settings = Settings(clips=clips, seed=seed, domain=domain, identities=clips)
    settings.check()
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(partial(planned_clip, settings=settings), plan_clips(settings), chunksize=4)


def planned_clip(plan: ClipPlan, settings: Settings) -> Clip:
    """Sound and lips of one clip."""
    torch.set_num_threads(1)
    performance = perform(plan, settings)
    controls = performance.animation.controls
    rig = Rig(performance.identity, torch.device("cpu"))
    lips = lip_measures(rig.shape(controls)[:, torch.as_tensor(landmark_vertices(rig))])
    return Clip.of(plan.split, performance.narration.waveform, *(curve.numpy() for curve in lips))


class Standard:
    """Mean and deviation per feature of the training clips, so that both maps see zero mean and unit variance.

    Attributes:
        sound, lips: ``(2, C)`` mean and standard deviation.
    """

    def __init__(self, clips: list[Clip]) -> None:
        sound, lips = (np.concatenate(a) for a in ([c.sound for c in clips], [c.lips for c in clips]))
        self.sound, self.lips = (np.stack([x.mean(axis=0), x.std(axis=0) + 1e-6]) for x in (sound, lips))

    def of_sound(self, sound: np.ndarray) -> np.ndarray:
        """Features ``(T, C)`` in these units."""
        return (sound - self.sound[0]) / self.sound[1]

    def of_lips(self, lips: np.ndarray) -> np.ndarray:
        """Lips ``(T, 2)`` in these units."""
        return (lips - self.lips[0]) / self.lips[1]

    def apply(self, clip: Clip) -> Clip:
        """The clip with features and lips in these units."""
        return replace(clip, sound=self.of_sound(clip.sound), lips=self.of_lips(clip.lips))


def with_context(sound: np.ndarray) -> np.ndarray:
    """``(T, C)`` -> ``(T, 17 * 80 + 1)``: the spectra of the frames round each frame, and a constant."""
    spectra = sound.reshape(len(sound), -1, MEL_BANDS).mean(axis=1)
    padded = np.pad(spectra, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    parts = [padded[i : i + len(sound)] for i in range(2 * CONTEXT + 1)]
    return np.concatenate([*parts, np.ones((len(sound), 1), np.float32)], axis=1)


def fit_ridge(clips: list[Clip]) -> np.ndarray:
    """Weights ``(17 * 80 + 1, 2)`` of the regression, from sums over the clips."""
    tuned_on = clips[::10]
    tuning, fitted = (_sums(group) for group in (tuned_on, [clip for i, clip in enumerate(clips) if i % 10]))
    tries = {strength: _solve(*fitted, strength) for strength in RIDGES}
    true = [clip.lips[:, 0] for clip in tuned_on]

    def score(strength: float) -> float:
        return explained([with_context(clip.sound) @ tries[strength][:, 0] for clip in tuned_on], true)

    best = max(RIDGES, key=score)
    return _solve(fitted[0] + tuning[0], fitted[1] + tuning[1], best)


def _sums(clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Products of the features with themselves, and with the lips, summed over the clips."""
    size = (2 * CONTEXT + 1) * MEL_BANDS + 1
    gram, target = np.zeros((size, size), np.float32), np.zeros((size, len(MEASURES)), np.float32)
    for clip in clips:
        features = with_context(clip.sound)
        gram += features.T @ features
        target += features.T @ clip.lips
    return gram, target


def _solve(gram: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    return np.linalg.solve(gram.astype(np.float64) + strength * np.eye(len(gram)), target).astype(np.float32)


class _Block(nn.Module):
    """Two convolutions in time over a residual path, ``(B, C, T)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(channels), nn.GELU(), nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels), nn.GELU(), nn.Dropout(0.1), nn.Conv1d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def fit_network(clips: list[Clip], standard: Standard, steps: int, seed: int = 0) -> nn.Module:
    """A network ``(B, C, T)`` -> ``(B, 2, T)`` that sees ``CONTEXT`` frames to either side, in standard units.

    Every example is in another voice, so that voices are not learnt by heart.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = nn.Sequential(
        nn.Conv1d(clips[0].sound.shape[1], CHANNELS, 1),
        *(_Block(CHANNELS) for _ in range(BLOCKS)),
        nn.Conv1d(CHANNELS, len(MEASURES), 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        examples = [_stretch(clips[int(rng.integers(len(clips)))], standard, rng) for _ in range(BATCH)]
        sound, lips = (torch.as_tensor(np.stack(a)).float().mT for a in zip(*examples, strict=True))
        loss = F.mse_loss(network(sound), lips)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _stretch(clip: Clip, standard: Standard, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``(64, C)`` in another voice and ``(64, 2)`` from anywhere in a clip; a shorter clip is held at its end."""
    start = int(rng.integers(max(1, len(clip.lips) - STRETCH + 1)))
    frames = np.minimum(np.arange(start, start + STRETCH), len(clip.lips) - 1)
    sound = change_voice(torch.from_numpy(clip.sound[frames]), rng).numpy()
    return standard.of_sound(sound), standard.of_lips(clip.lips[frames])


def explained(predicted: list[np.ndarray], true: list[np.ndarray]) -> float:
    """R2 over all frames."""
    p, t = np.concatenate(predicted), np.concatenate(true)
    return float(1 - np.square(p - t).sum() / np.square(t - t.mean()).sum())


def found_offset(predicted: np.ndarray, true: np.ndarray) -> int:
    """Frames by which the sound that a prediction ``(T,)`` was made from is late."""
    scores = []
    for k in range(-SEARCH, SEARCH + 1):
        late, early = (predicted[k:], true[: len(true) - k]) if k >= 0 else (predicted[:k], true[-k:])
        scores.append(np.nan_to_num(correlation(late, early), nan=-1.0))
    return int(np.argmax(scores)) - SEARCH


Map = Callable[[np.ndarray], np.ndarray]  # from features ``(T, C)`` in standard units to lips ``(T, 2)``


def judge(predict: Map, standard: Standard, held_out: list[Clip]) -> dict[str, dict[str, float]]:
    """Measures by name of the lips, over held-out clips in standard units."""
    long = [clip for clip in held_out if len(clip.lips) > 4 * SEARCH]
    found = [[predict(standard.of_sound(clip.delayed(shift))) for shift in SHIFTS] for clip in long]
    still = [predict(clip.sound) for clip in held_out]
    result = {}
    for i, name in enumerate(MEASURES):
        predicted, true = [p[:, i] for p in still], [clip.lips[:, i] for clip in held_out]
        right = []
        for moved, clip in zip(found, long, strict=True):
            errors = [found_offset(p[:, i], clip.lips[:, i]) - k for p, k in zip(moved, SHIFTS, strict=True)]
            right.append(max(map(abs, errors)) <= TOLERANCE)
        others = predicted[1:] + predicted[:1]
        own = [correlation(p, t) for p, t in zip(predicted, true, strict=True)]
        shuffled = [correlation(p[: len(t)], t[: len(p)]) for p, t in zip(others, true, strict=True)]
        result[name] = {
            "R2": explained(predicted, true),
            "R2, clip means off": explained(*([x - x.mean() for x in xs] for xs in (predicted, true))),
            "correlation": float(np.nanmedian(own)),
            "offset found": float(np.mean(right)) if right else float("nan"),
            "shuffled": float(np.nanmean(shuffled)),
        }
    return result


def measure(clips: list[Clip], steps: int) -> dict[str, dict[str, float]]:
    """Measures by ``map, lips``."""
    fitted = [clip for clip in clips if not clip.held_out]
    standard = Standard(fitted)
    held_out = [standard.apply(clip) for clip in clips if clip.held_out]
    known = [standard.apply(clip) for clip in fitted]
    weights = fit_ridge(known)
    network = fit_network(fitted, standard, steps)

    def by_network(sound: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.as_tensor(sound.T[None]))[0].T.numpy()

    known = known[: len(held_out)]
    maps: dict[str, Map] = {"ridge": lambda sound: with_context(sound) @ weights, "network": by_network}
    judged = {name: judge(predict, standard, held_out) for name, predict in maps.items()}
    for name, predict in maps.items():
        predicted = [predict(clip.sound) for clip in known]
        for i, lips in enumerate(MEASURES):
            both = [p[:, i] for p in predicted], [clip.lips[:, i] for clip in known]
            judged[name][lips]["R2, fitted speakers"] = explained(*both)
    return {f"{name}, {lips}": judged[name][lips] for lips in MEASURES for name in maps}


def table(measures: dict[str, dict[str, float]]) -> str:
    """The measures as markdown."""
    columns = list(next(iter(measures.values())))
    rows = [[name, *(f"{row[column]:.3f}" for column in columns)] for name, row in measures.items()]
    return markdown_table(["map, lips", *columns], rows)


def main() -> None:
    """Gather the clips, fit, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=300, help="number of clips")
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--domain", default="wide", choices=("plain", "wide"), help="of the clips")
    parser.add_argument("--workers", type=int, default=1, help="processes that plan clips")
    parser.add_argument("--steps", type=int, default=6000, help="training steps of the network")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()

    torch.set_num_threads(1)
    start = time.monotonic()
    clips = list(planned_clips(args.clips, args.seed, args.domain, args.workers))
    held_out = sum(clip.held_out for clip in clips)
    told = f"{len(clips)} clips, {held_out} held out, {time.monotonic() - start:.0f} s"
    print(told, file=sys.stderr, flush=True)
    measures = measure(clips, args.steps)
    print(f"measured after {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(table(measures))
    if args.out:
        write_json(args.out, {"clips": len(clips), "held out": held_out, "measures": measures})


if __name__ == "__main__":
    one_line_errors(main)
