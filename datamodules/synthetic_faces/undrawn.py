"""Speeches that are heard and not drawn: latents of the people of a dataset, who say what they never said.

To draw a clip takes thirty times as long as to speak it and move its controls, and what sound tells about lips is learnt from
many voices. Motion, before it is bent to coefficients, follows from the controls by a linear map that the drawn clips teach,
about the mean of one of them and with what the map leaves of it, in another order. In some nobody speaks for longer than a
window.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from datamodules.batches import FPS
from datamodules.clips.annotations import read_annotations
from datamodules.clips.clip_store import ClipStore
from datamodules.clips.dataset_folder import SETTINGS_NAME, read_dataset_settings
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.latent_writing import SHARD_FRAMES, stored_latents, write_shard
from datamodules.latents import LatentCache, Seconds, made_from, undrawn_id
from datamodules.processes import process_pool
from datamodules.synthetic_faces.clips import perform
from datamodules.synthetic_faces.plans import ClipPlan, plan_clips
from datamodules.synthetic_faces.settings import VERSION, Settings

OTHER_SEED = 1_000_000
"""What is added to the seed of the dataset: other voices, sentences and motion."""
RIDGE = 30.0
"""Penalty of the map, for controls of unit variance, in frames."""
FEWEST_FRAMES = 500
SILENT_SHARE = 0.2
"""Share of the speeches in which nobody speaks for a while: heads are to be told to keep their mouths shut then."""
SILENCE = (2.7, 7.0)
"""Range of that while in seconds: it may fill a window, which no pause between sentences does."""
ALONE = 0.3
"""Share of these of which the silence is all that is heard."""
FADE = 3.0
"""Frames (std) over which what the map leaves of motion fades where a silence begins."""

Transform = Callable[[Tensor], Tensor]
"""Of motion ``(..., M)``."""


@dataclass(frozen=True)
class Person:
    """What stays of a drawn clip where it says something else, its motion straightened.

    Attributes:
        mean: ``(M,)`` of its motion.
        rest: ``(T, M)`` what the map leaves of its motion.
        appearance: ``(T, A)``.
    """

    mean: Tensor
    rest: Tensor
    appearance: Tensor

    def moved(self, motion: Tensor, spoken: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Motion ``(T', M)`` and appearance ``(T', A)`` of this person for what the map says, motion about 0.

        ``spoken`` ``(T',)`` in [0, 1] says how much of what the map leaves is there, of which the mouth's is of speech.
        """
        there_and_back = torch.cat([torch.arange(len(self.rest)), torch.arange(len(self.rest)).flip(0)])
        start = int(generator.integers(len(there_and_back)))
        order = there_and_back[(start + torch.arange(len(motion))) % len(there_and_back)]
        return self.mean + motion + spoken[:, None] * self.rest[order], self.appearance[order]


@dataclass(frozen=True)
class MotionMap:
    """Linear map from controls to straightened motion, both about their clips' means, and the people that taught it.

    Attributes:
        weights: ``(C, M)``.
        people: one for each clip.
        share: of the variance of motion that it explains.
        key: see `made_from`.
        bend: straightened motion -> coefficients.
    """

    weights: Tensor
    people: list[Person]
    share: float
    key: str
    bend: Transform

    @classmethod
    def fit(
        cls,
        records: Sequence[ClipRecord],
        store: ClipStore,
        cache: LatentCache,
        straighten: Transform,
        bend: Transform,
    ) -> "MotionMap":
        """By ridge regression on clips with controls among their annotations.

        ``straighten`` takes coefficients of motion, which have ends, to values in which motion adds up; ``bend`` back.

        Raises:
            UserError: a clip has none, or there are too few frames.
        """
        controls, motions = [], []  # motion of clips before it was bent
        for record in records:
            path = store.annotations(record)
            arrays = {} if path is None else read_annotations(path).arrays
            if "controls" not in arrays:
                raise UserError(
                    f"{store.root}: {record.id} has no controls among its annotations: only synthetic clips have"
                )
            controls.append(about_mean(torch.from_numpy(arrays["controls"]).float()))
            motions.append(straighten(cache.load(record.id)["motion"].float()))
        inputs, targets = (
            torch.cat(controls).double(),
            torch.cat([about_mean(one) for one in motions]).double(),
        )
        if len(inputs) < FEWEST_FRAMES:
            raise UserError(
                f"{store.root}: {len(inputs)} frames are too few to tell motion from controls by; draw {FEWEST_FRAMES}"
            )
        scale = inputs.std(dim=0).clamp(min=1e-6)
        scaled = inputs / scale
        penalty = RIDGE * torch.eye(scaled.shape[1], dtype=torch.double)
        weights = torch.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ targets) / scale[:, None]
        share = 1 - float((targets - inputs @ weights).square().sum() / targets.square().sum())
        weights, people = weights.float(), []
        for record, said, motion in zip(records, controls, motions, strict=True):
            rest = about_mean(motion) - said @ weights
            people.append(Person(motion.mean(dim=0), rest, cache.load(record.id)["appearance"]))
        return cls(weights, people, share, made_from(records), bend)


def about_mean(values: Tensor) -> Tensor:
    """Values ``(T, D)`` less their mean over time."""
    return values - values.mean(dim=0)


@dataclass(frozen=True)
class Speech:
    """What is heard, and what the head does.

    Attributes:
        waveform: ``(640 T,)`` float32.
        controls: ``(T, C)`` float32, about their mean while somebody speaks.
        spoken: ``(T,)`` float32 in [0, 1], 0 inside of a silence.
    """

    waveform: np.ndarray
    controls: np.ndarray
    spoken: np.ndarray

    @classmethod
    def of(cls, plan: ClipPlan, settings: Settings) -> "Speech":
        """That of a plan, which may have a silence beside its seconds, or be one."""
        rng = np.random.default_rng((settings.seed, plan.speech, 1))
        silent, alone, seconds = rng.random() < SILENT_SHARE, rng.random() < ALONE, rng.uniform(*SILENCE)
        performance = perform(plan, settings, seconds if silent else 0.0)
        narration, controls = performance.narration, performance.animation.controls.values
        begin, spoken = np.arange(len(controls)) / FPS, np.ones(len(controls), dtype=np.float32)
        for unit in narration.phonemes:
            if not unit.ipa and unit.end - unit.start >= SILENCE[0]:
                spoken[(begin >= unit.start) & (begin + 1 / FPS <= unit.end)] = 0.0
        kept, whole = spoken > 0, narration.waveform.reshape(len(controls), -1)
        controls = (controls - controls[kept].mean(axis=0)).astype(np.float32)
        if silent and alone and not kept.all():
            return cls(whole[~kept].reshape(-1), controls[~kept], spoken[~kept])
        return cls(narration.waveform, controls, gaussian_filter1d(spoken, FADE, mode="nearest"))


def undrawn_settings(root: Path, count: int, seconds: Seconds | None = None) -> Settings:
    """Settings of the further speeches of a synthetic dataset, a voice for each; of other lengths than its clips, if wanted.

    Raises:
        UserError: the folder holds no synthetic clips, or those of another version; or these are no numbers of speeches and
            seconds.
    """
    if count < 1:
        raise UserError(f"data.undrawn={count}: is no number of speeches, 0 or more")
    values = dict(read_dataset_settings(root) or {})
    if values.pop("version", None) != VERSION or "draws" not in values:
        raise UserError(
            f"{root / SETTINGS_NAME}: tells of no synthetic heads of this version, to which speeches could be added; leave "
            "data.undrawn out"
        )
    known = {name: values[name] for name in {one.name for one in fields(Settings)} & values.keys()}
    heads = 10 * ceil(count / 8)  # of every ten, eight are for training
    others: dict[str, Any] = {
        "clips": heads,
        "identities": heads,
        "seed": values["seed"] + OTHER_SEED,
        "seconds": seconds or tuple(values["seconds"]),
        "draws": 1,
        "long_clips": 0,
        "twins": False,
        "train_twins": 0.0,
        "recordings": "",  # of which the folder is not known
        "recorded_voices": 0.0,
        "dense": False,
    }
    return Settings(**known | others)


def write_undrawn(
    root: Path,
    folder: Path,
    motion_map: MotionMap,
    hear: Callable[[np.ndarray], Tensor],
    count: int,
    seconds: Seconds | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write latents of ``count`` speeches into the cache of a synthetic dataset; what is there already is kept.

    Args:
        root: folder of the dataset.
        folder: of its latents.
        motion_map: fitted on the drawn clips.
        hear: waveform ``(S,)`` -> ``(2 T, D)`` audio features.
        count: number of speeches.
        seconds: the shortest and the longest; None: as the clips.
        workers: processes that speak; 0: this one.
        progress: called with (finished, all) speeches.

    Raises:
        UserError: see `undrawn_settings`; or a process died.
    """
    settings = undrawn_settings(root, count, seconds)
    plans = [plan for plan in plan_clips(settings) if plan.split == "train"][:count]
    known = LatentCache(folder).undrawn(motion_map.key, seconds)
    todo = [plan for number, plan in enumerate(plans) if undrawn_id(number, seconds) not in known]
    numbers = {plan: number for number, plan in enumerate(plans)}
    tensors: dict[str, Tensor] = {}
    contents: dict[str, tuple[str, int]] = {}
    done = count - len(todo)
    for plan, speech in _spoken(settings, todo, workers, folder):
        name, generator = (
            undrawn_id(numbers[plan], seconds),
            np.random.default_rng((settings.seed, plan.speech)),
        )
        person = motion_map.people[int(generator.integers(len(motion_map.people)))]
        moved = torch.from_numpy(speech.controls) @ motion_map.weights
        motion, appearance = person.moved(moved, torch.from_numpy(speech.spoken), generator)
        latents = {
            "motion": motion_map.bend(motion),
            "appearance": appearance,
            "audio": hear(speech.waveform),
        }
        tensors |= stored_latents(name, latents, len(motion))
        contents[name] = (motion_map.key, len(motion))
        done += 1
        progress(done, count)
        if sum(frames for _, frames in contents.values()) >= SHARD_FRAMES:
            write_shard(folder, tensors, contents)
            tensors, contents = {}, {}
    if contents:
        write_shard(folder, tensors, contents)


def _spoken(
    settings: Settings, plans: Sequence[ClipPlan], workers: int, folder: Path
) -> Iterator[tuple[ClipPlan, Speech]]:
    """Plans and what is spoken, in order."""
    job = partial(_speak, settings)
    if workers == 0 or not plans:
        yield from map(job, plans)
        return
    with process_pool(min(workers, len(plans)), "a speaking", folder) as pool:
        yield from pool.map(job, plans, chunksize=4)


def _speak(settings: Settings, plan: ClipPlan) -> tuple[ClipPlan, Speech]:
    return plan, Speech.of(plan, settings)
