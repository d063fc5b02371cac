"""The DataModule that all data sources share: batches for every stage from a folder of prepared clips."""

import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from datamodules.batches import WholeClip
from datamodules.clips.clip_store import ClipFrames, ClipStore, DeviceFrames
from datamodules.clips.datasets import EpochSampler, MotionWindowDataset, SyncWindowDataset
from datamodules.clips.frame_pairs import FramePairDataset
from datamodules.clips.manifest import (
    MANIFEST_NAME,
    SPLITS,
    ClipRecord,
    read_manifest,
    twins_of,
    without_twins,
)
from datamodules.clips.splits import find_splits, read_splits, require_disjoint, with_splits
from datamodules.errors import UserError
from datamodules.latents import LatentCache, two_lengths
from datamodules.media.audio import fit_length
from datamodules.processes import cores_of_process

log = logging.getLogger(__name__)

Task = Literal["frame_pairs", "motion_windows", "sync_windows"]
ROOM = 0.5
"""Share of a GPU's free memory that frames may take."""
TASKS: tuple[Task, ...] = ("frame_pairs", "motion_windows", "sync_windows")


class TalkingHeadDataModule(LightningDataModule):
    """Serves ``FramePairBatch``, ``MotionWindowBatch`` or ``SyncWindowBatch`` from a prepared folder.

    Training items are a pure function of (seed, epoch, index) and shuffled anew every epoch; validation and
    test items are the same every time, in order, never augmented. Each DDP rank gets its own share.

    Args:
        root: Folder with ``manifest.jsonl`` and ``clips/``.
        size: Edge of the frames in pixels; stored frames of another size are resized with antialiasing.
        task: ``frame_pairs`` (motion autoencoder), ``motion_windows`` (statistics estimator, diffusion) or ``sync_windows``
            (judges of lip sync).
        batch_size: Items in a batch, per rank.
        num_workers: Loader processes, at most as many as there are cores; 0 loads in the training process.
        seed: >= 0; of sampling and order.
        pairs_per_clip: Frame pairs of each clip in an epoch.
        windows_per_clip: Motion or sync windows of each training clip in an epoch; validation takes all motion windows.
        latents: Folder of the latents that ``ifmdm encode`` made; needed by ``motion_windows``.
        augment: Whether to change training items: colours and side of pairs, the voice of log-mel sound of windows.
        cache_frames: Whether to decode every clip once into ``ROOT/frames/SIZE`` (disk for speed).
        blink_share: Share of the training pairs whose driving frame has shut lids (see ``FramePairDataset``).
        mouth_share: Share of the training pairs from shut to open lips (see ``FramePairDataset``).
        background_blur: Pixels of the Gaussian that blurs frame pairs outside the person (see ``FramePairDataset``).
        twin_share: Share of the training pairs of clips with a twin whose motion is read off it (see ``FramePairDataset``).
        deform: Share of the training pairs whose faces are given another place and shape (see ``FramePairDataset``).
        degrade: Share of the training pairs that look as from a worse camera (see ``FramePairDataset``).
        backdrop: Share of the training pairs that are given another background (see ``FramePairDataset``).
        splits: What says which identity is in which split, in place of the manifest: a CSV file, or the name of one that
            comes with the package (``hdtf-test-v1``); who is not listed is left out.
        on_device: Whether frame pairs are made on the training's device from frames that all stay in its memory, without
            loader processes; None: where it is a GPU with room for them.
        undrawn: Speeches that are heard and not drawn, one motion window of each in an epoch beside those of the training
            clips; see ``datamodules/synthetic_faces/undrawn.py``.
        undrawn_seconds: Shortest and longest, silences aside; None: as the clips. Over 5.2 s windows have whole ones before.
        also: Further prepared folders whose training clips join the frame pairs; one that is named twice counts twice.

    Raises:
        UserError: Unknown task, shares that are none, or no such splits.
    """

    origin = "any videos, by `ifmdm prepare folder --raw DIR --output ROOT`"
    """Where prepared clips of this kind come from, for messages."""
    also_origin = f"they come from {origin}"

    def __init__(
        self,
        root: str | Path,
        size: int,
        task: Task = "frame_pairs",
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        pairs_per_clip: int = 8,
        windows_per_clip: int = 4,
        latents: str | Path | None = None,
        augment: bool = False,
        cache_frames: bool = False,
        blink_share: float = 0.0,
        mouth_share: float = 0.0,
        background_blur: int = 0,
        twin_share: float = 0.0,
        deform: float = 0.0,
        degrade: float = 0.0,
        backdrop: float | None = None,
        splits: str | Path | None = None,
        also: Sequence[str | Path] | None = None,
        on_device: bool | None = None,
        undrawn: int = 0,
        undrawn_seconds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if task not in TASKS:
            raise UserError(f"data task {task!r} is unknown; choose one of {', '.join(TASKS)}")
        if min(blink_share, mouth_share) < 0 or blink_share + mouth_share > 1:
            raise UserError(
                f"blink_share {blink_share:g} and mouth_share {mouth_share:g} are shares of the same pairs: 0 to 1 together"
            )
        self.root, self.size, self.task, self.seed = Path(root), size, task, seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.pairs_per_clip, self.windows_per_clip = pairs_per_clip, windows_per_clip
        self.latents = None if latents is None else Path(latents)
        self.augment, self.cache_frames = augment, cache_frames
        shares = {"twin_share": twin_share, "deform": deform, "degrade": degrade, "backdrop": backdrop or 0.0}
        if wrong := [f"{name} {share:g}" for name, share in shares.items() if not 0 <= share <= 1]:
            raise UserError(f"{', '.join(wrong)}: a share of the pairs, 0 to 1")
        self.blink_share, self.mouth_share = blink_share, mouth_share
        if background_blur < 0 or (background_blur and background_blur % 2 == 0):
            raise UserError(
                f"background_blur {background_blur} is the side of a kernel: an odd number, or 0 for none"
            )
        self.background_blur, self.twin_share = background_blur, twin_share
        self.deform, self.degrade, self.backdrop = deform, degrade, backdrop or 0.0
        self.splits = None if splits is None else find_splits(splits)
        self.on_device, self.undrawn = on_device, undrawn
        self.undrawn_seconds = None if undrawn_seconds is None else two_lengths(undrawn_seconds, undrawn)
        self.also = [Path(folder) for folder in also or ()]
        if self.also and task != "frame_pairs":
            raise UserError("data.also is for frame pairs: only they are drawn from several folders")
        self._datasets: dict[str, Dataset] = {}
        self._place: dict[str, int] | None = None

    def store(self) -> ClipStore:
        """Where the clips' files are."""
        return ClipStore(self.root)

    def all_records(self) -> list[ClipRecord]:
        """All clips of all splits, as the manifest lists them; UserError without a good one."""
        return read_manifest(self.root)

    def _split_records(self) -> list[ClipRecord]:
        """Clips of all splits, without twins."""
        records = without_twins(self.all_records())
        return records if self.splits is None else with_splits(records, read_splits(self.splits))

    def records(self, split: str) -> list[ClipRecord]:
        """Clips of ``train``, ``val`` or ``test``, without twins; UserError where there are none."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        records = self._split_records()
        require_disjoint(records, self.root / MANIFEST_NAME)
        chosen = [record for record in records if record.split == split]
        if not chosen:
            place = self.splits or self.root / MANIFEST_NAME
            raise UserError(
                f"{place}: no clips in the split '{split}'; prepare more identities, or give 'splits' a file"
            )
        return chosen

    def chosen_clips(self, split: str, count: int) -> list[ClipRecord]:
        """At most ``count`` clips of a split with sound, else UserError, from all identities in turn; always the same."""
        turns: Counter[str] = Counter()
        ordered = []
        for record in self.records(split):
            if record.audio is not None:
                ordered.append((turns[record.identity], record))
                turns[record.identity] += 1
        if not ordered:
            raise UserError(f"{self.root / MANIFEST_NAME}: no clip of the split '{split}' has sound")
        return [record for _, record in sorted(ordered, key=lambda pair: pair[0])][:count]

    def whole_clip(self, record: ClipRecord, max_frames: int | None = None) -> WholeClip:
        """Read a clip, or its first ``max_frames`` frames, at the size of this module; UserError where it is damaged."""
        count = min(record.frames, max_frames or record.frames)
        store = self.store()
        frames = ClipFrames(store, self.size, self.cache_frames).get(record, np.arange(count))
        waveform = fit_length(store.sound(record), count)
        audio = None
        if self.latents is not None:
            audio = LatentCache(self.latents).load(record.id)["audio"][: 2 * count].float()
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        return WholeClip(record.id, pixels, torch.from_numpy(np.ascontiguousarray(waveform)), audio)

    def prepare_data(self) -> None:
        """Make what is missing: here nothing can be, so UserError says where prepared clips come from."""
        self.require_also()
        if not (self.root / MANIFEST_NAME).is_file():
            raise UserError(f"{self.root}: no prepared clips there; they come from {self.origin}")

    def require_also(self) -> None:
        """UserError where one of the further folders has no manifest: said before anything slow is done."""
        for folder in self.also:
            if not (folder / MANIFEST_NAME).is_file():
                raise UserError(
                    f"{folder}: no prepared clips there, which data.also asks for; {self.also_origin}"
                )

    def setup(self, stage: str) -> None:
        """Build the datasets of a stage (``fit``, ``validate``, ``test``); UserError where clips or latents don't fit."""
        needed: dict[str, Sequence[str]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in needed.get(stage, ()):
            if split not in self._datasets:
                self._datasets[split] = self._dataset(split)

    def _dataset(self, split: str) -> Dataset:
        records, training = self.records(split), split == "train"
        if self.task == "motion_windows":
            if self.latents is None:
                raise UserError(
                    f"{self.root}: motion windows need latents: make them by `ifmdm encode autoencoder=RUN "
                    f"data.root={self.root}` and give the folder that it names as 'latents'"
                )
            cache = LatentCache(self.latents)
            cache.check(records)
            windows = self.windows_per_clip if training else None
            if windows is not None and self.undrawn:  # of these one window each
                undrawn = [
                    dataclasses.replace(records[0], id=name, frames=frames, audio="")
                    for name, frames in cache.first_undrawn(self.undrawn, records, self.undrawn_seconds)
                ]
                records, windows = [*records * windows, *undrawn], 1
            return MotionWindowDataset(cache, records, windows, self.seed, self.augment and training)
        if training and self.also:
            added = [record for folder in self.also for record in _elsewhere(folder)]
            require_disjoint([*self._split_records(), *added], self.root / MANIFEST_NAME)
            records = [*records, *added]
        if self.task == "sync_windows":
            frames = ClipFrames(self.store(), self.size, self.cache_frames)
            return SyncWindowDataset(frames, records, self.windows_per_clip, self.seed)
        twins = twins_of(self.all_records()) if training and self.twin_share else {}
        if training and self.twin_share and not twins:
            log.info("%s: no clip has a twin; motion is read off the driving frames alone", self.root)
        read_off = [twins[record.id] for record in records if record.id in twins]
        device = self._device([*records, *read_off]) if training else None
        return FramePairDataset(
            ClipFrames(self.store(), self.size, self.cache_frames)
            if device is None
            else DeviceFrames(self.store(), self.size, device, self.cache_frames),
            records,
            self.pairs_per_clip,
            self.seed,
            augment=self.augment and training,
            blink_share=self.blink_share if training else 0.0,
            mouth_share=self.mouth_share if training else 0.0,
            background_blur=self.background_blur,
            twins=twins,
            twin_share=self.twin_share,
            deform=self.deform if training else 0.0,
            degrade=self.degrade if training else 0.0,
            backdrop=self.backdrop if training else 0.0,
        )

    def _device(self, records: Sequence[ClipRecord]) -> torch.device | None:
        """Where the frames of all these clips are to stay; None: nowhere, they are read when they are asked for."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if self.on_device is not None:
            return device if self.on_device else None
        if device.type != "cuda":
            return None
        needed = 3 * self.size**2 * sum({record.id: record.frames for record in records}.values())
        free = torch.cuda.mem_get_info(device)[0]
        fits = needed < ROOM * free
        told = "frame pairs are made there" if fits else "frames are read when they are asked for"
        log.info("%s: %.1f GB of frames, %.1f GB free: %s", device, needed / 1e9, free / 1e9, told)
        return device if fits else None

    def state_dict(self) -> dict[str, int]:
        """Where the training is in its data, for checkpoints: the epoch, and how many of its items each process has had."""
        assert self.trainer is not None, "only trainings keep it"
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        shares = {"batch_size": self.batch_size, "ranks": self.trainer.world_size}
        if progress.is_last_batch:
            return {"epoch": self.trainer.current_epoch + 1, "items": 0, **shares}
        items = progress.current.processed * self.batch_size
        return {"epoch": self.trainer.current_epoch, "items": items, **shares}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on there, with a warning where batches are shared out otherwise; to be called before the loaders are made."""
        self._place = {name: state_dict[name] for name in ("epoch", "items")}
        assert self.trainer is not None
        now = {"batch_size": self.batch_size, "ranks": self.trainer.world_size}
        had = {
            name: state_dict.get(name, value) for name, value in now.items()
        }  # older checkpoints don't say
        if had != now and self.trainer.is_global_zero:
            told = "%d process(es) with batches of %d"
            log.warning(
                f"the checkpoint is of {told}, resumed by {told}: from here on the order of batches and random numbers "
                "differ from those of a training that was not interrupted",
                *(had["ranks"], had["batch_size"], now["ranks"], now["batch_size"]),
            )

    def _loader(self, split: str) -> DataLoader:
        dataset, training = self._datasets[split], split == "train"
        rank, ranks = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        on_device = isinstance(dataset, FramePairDataset) and dataset.device is not None
        workers = 0 if on_device else min(self.num_workers, cores_of_process())
        sampler = EpochSampler(dataset, shuffle=training, seed=self.seed, rank=rank, ranks=ranks)
        if training and self._place is not None:
            sampler.resume(**self._place)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            drop_last=training and len(sampler) >= self.batch_size,
            # Workers take a seed, which no item depends on. Drawn from the training's own source when a loader is first
            # used, it would tell a resumed training, whose loaders are new, from another.
            generator=torch.Generator() if workers else None,
        )

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented if asked for; an incomplete last batch is left out."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        """The same batches every time."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """The same batches every time."""
        return self._loader("test")


def _elsewhere(folder: Path) -> list[ClipRecord]:
    """The training clips of another prepared folder, under names and paths that hold everywhere; without twins."""
    records = [record for record in without_twins(read_manifest(folder)) if record.split == "train"]
    if not records:
        raise UserError(f"{folder / MANIFEST_NAME}: no clips in the split 'train', which data.also asks for")
    place, found = folder.resolve(), []
    name = (
        f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"  # folders may be called alike
    )
    for record in records:
        files = {kind: getattr(record, kind) for kind in ("video", "audio", "annotations")}
        placed: dict[str, Any] = {
            kind: None if file is None else str(place / file) for kind, file in files.items()
        }
        found.append(dataclasses.replace(record, id=f"{name}-{record.id}", **placed))
    return found
