"""Metric callbacks for the Trainer: measures of the registry on validation, with sample videos.

The metrics belong to the callback, not to the module, so that no judge's weights get into a checkpoint. Every process
works on its share; the states are reduced when values are computed, so that all processes log the same number.
"""

import logging
import math
import sys
import time
import typing
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, tensor
from torch.utils.data import DistributedSampler

from datamodules.batches import FramePairBatch, WholeClip
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from metrics.evaluation.judges import Judges, load_training_judges
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.protocol_names import TALKING_HEAD
from metrics.evaluation.registry import MEASURES, Measure
from metrics.fvd import draw_windows
from metrics.sample_videos import log_sample, side_by_side, write_sample
from metrics.training_measures import CLIP_KINDS, TrainingMeasures

PREFIX = "val/"
FRAME_PAIRS = "frame_pairs"  # task of the data that `PictureMetrics` judges
LoadJudges = Callable[[Collection[str], Protocol], Judges]
"""Loads the judges of some slots; which are not there is told by ``absent``."""
log = logging.getLogger(__name__)


class Render(typing.Protocol):
    """What renders clips by the module that is being trained.

    It may have ``check(module)``, which raises UserError for a module of another stage before training starts, and
    ``made_for``, that stage's name (see `MetricCallback`).
    """

    def __call__(self, module: LightningModule, clip: WholeClip) -> Tensor:
        """Frames ``(T, 3, H, W)`` uint8 of a clip; the module is in evaluation mode."""


class MetricCallback(Callback):
    """Judges validations with some measures: the first one, then one whenever enough epochs have passed.

    In between the latest values stay at hand for callbacks that monitor them, but are not logged again.

    Args:
        measures: Names of measures, as in results; null or an empty list: none.
        judges: Loads the judges that they need.
        protocol: Name of the protocol whose settings they are given.
        every_n_epochs: Epochs from one judged validation to the next; 1: every validation.
        required: Whether a judge that can't be loaded is an error; else it is named in a warning before training starts.

    Raises:
        UserError: ``every_n_epochs`` below 1, no such protocol, or a measure that does not fit.
    """

    made_for: str | None = (
        None  # stage of `ifmdm train`, which refuses it elsewhere before any data is made; None: any
    )
    clips = False  # whether whole clips are judged

    def __init__(
        self,
        measures: Sequence[str] | None,
        judges: LoadJudges = load_training_judges,
        protocol: str = TALKING_HEAD,
        every_n_epochs: int = 1,
        required: bool = False,
    ) -> None:
        if every_n_epochs < 1:
            raise UserError(f"every_n_epochs is {every_n_epochs}: use a whole number from 1")
        possible = [name for name, measure in MEASURES.items() if self._fits(measure)]
        if wrong := [name for name in measures or () if name not in possible]:
            raise UserError(f"measures={wrong}: {type(self).__name__} can judge {', '.join(possible)}")
        self.protocol, self.measures = get_protocol(protocol), [MEASURES[name] for name in measures or ()]
        self.load_judges, self.every_n_epochs, self.required = judges, every_n_epochs, required
        self.judging = False
        self.live: TrainingMeasures | None = None  # once the judges are loaded
        self._judged: int | None = None  # epochs done at the latest judgement, and what it found
        self._values: dict[str, float] = {}
        self._started = 0.0

    def _fits(self, measure: Measure) -> bool:
        """Whether a measure can be asked."""
        raise NotImplementedError

    @property
    def state_key(self) -> str:
        """Tells several callbacks of one kind apart in a checkpoint."""
        return self._generate_state_key(measures=[one.name for one in self.measures])

    def state_dict(self) -> dict[str, Any]:
        """The latest judgement in plain values."""
        return {"judged": self._judged, "values": dict(self._values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where the checkpoint was written."""
        self._judged, self._values = state_dict["judged"], dict(state_dict["values"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the judges, once; say what can't be judged.

        Raises:
            UserError: A judge is absent that is required or whose value is monitored.
        """
        if stage not in ("fit", "validate") or self.live is not None:
            return
        with isolate_rng():
            judges = self._load(trainer)
        lost = {one.name: why for one in self.measures if (why := self._problem(trainer, one, judges))}
        there = [one for one in self.measures if one.name not in lost]
        self.live = TrainingMeasures(there, self.protocol, judges, self.clips)
        if not lost:
            return
        reasons: dict[str, list[str]] = {}
        for name, problem in lost.items():
            reasons.setdefault(problem, []).append(PREFIX + name)
        told = "; ".join(f"{', '.join(names)}: {problem}" for problem, names in reasons.items())
        if self.required:
            raise UserError(f"required, but can't be measured: {told}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None) or ""
            if monitor.removeprefix(PREFIX) in lost and monitor.startswith(PREFIX):
                raise UserError(f"{monitor} is monitored, but can't be measured: {told}")
        if trainer.is_global_zero:
            log.warning("this training will not measure %s", told)

    def _load(self, trainer: Trainer) -> Judges:
        """Load the judges on all processes, the first one first: it may leave files for the others."""
        slots = {slot for one in self.measures for slot in one.judges}
        if not trainer.is_global_zero:
            trainer.strategy.barrier()
        judges = self.load_judges(slots, self.protocol)
        if trainer.is_global_zero:
            trainer.strategy.barrier()
        return judges

    def _problem(self, trainer: Trainer, measure: Measure, judges: Judges) -> str | None:
        """Why a measure is not to be used, the same answer on all processes as far as whether; None where it is."""
        problem = next((judges.absent[slot] for slot in measure.judges if slot in judges.absent), None)
        if trainer.strategy.reduce_boolean_decision(problem is None, all=True):
            return None
        return problem or "another process can't load it"

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation is judged."""
        done, training = trainer.current_epoch + 1, trainer.state.fn == "fit"
        due = self._judged is None or self.every_n_epochs == 1 or done - self._judged >= self.every_n_epochs
        self.judging = self.live is not None and not trainer.sanity_checking and (due or not training)
        if self.judging and self.live is not None:
            self._started = time.monotonic()
            self.live.move(pl_module.device)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log on all processes, and let go of what was gathered."""
        if trainer.sanity_checking:
            return
        if not self.judging:  # at hand for monitors, also in a resumed training, and not logged
            trainer.callback_metrics.update({name: tensor(value) for name, value in self._values.items()})
            return
        self.judging, self._judged = False, trainer.current_epoch + 1
        assert self.live is not None
        with isolate_rng():
            self._values.update({PREFIX + name: value for name, value in self.live.compute().items()})
            self.live.release()
        pl_module.log_dict(self._values, batch_size=1, sync_dist=True)
        if not trainer.is_global_zero or not self._values:
            return
        if nothing := [name for name, value in self._values.items() if math.isnan(value)]:
            log.warning("nothing could be judged for %s", ", ".join(nothing))
        told = "  ".join(f"{name} {value:.4g}" for name, value in self._values.items())
        log.info("judged within %.1f s: %s", time.monotonic() - self._started, told)


class PictureMetrics(MetricCallback):
    """Judges the reconstructions of validation batches against their driving frames (stage 1).

    The module's ``validation_step`` returns them under ``frame``.
    """

    made_for = "autoencoder"
    _left = 0

    def _fits(self, measure: Measure) -> bool:
        return bool(measure.metric) and measure.kind in ("pictures", "frame_pairs")  # needs no clip

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As of `MetricCallback`; data that are no frame pairs raise UserError, too."""
        task = getattr(trainer.datamodule, "task", FRAME_PAIRS)  # type: ignore[attr-defined]
        if task != FRAME_PAIRS:
            raise UserError(
                f"PictureMetrics judges {FRAME_PAIRS}, but {type(pl_module).__name__} learns from {task}: choose callbacks "
                "for this stage, such as callbacks=default"
            )
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide, and count this process's own pairs, without those that a sampler serves twice to even out the shares."""
        super().on_validation_epoch_start(trainer, pl_module)
        loader: Any = trainer.val_dataloaders
        sampler, self._left = getattr(loader, "sampler", None), sys.maxsize
        if isinstance(sampler, DistributedSampler):
            self._left = len(range(sampler.rank, len(loader.dataset), sampler.num_replicas))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: FramePairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch; a module that hands out no frames raises UserError."""
        if not self.judging or dataloader_idx:
            return
        if not isinstance(outputs, dict) or "frame" not in outputs:
            who = type(pl_module).__name__
            raise UserError(f"{who} renders no frames in validation; use ClipMetrics for this stage")
        count = min(self._left, len(batch.driving))
        self._left -= count
        if count and self.live is not None:
            with isolate_rng():
                frames = outputs["frame"][:count].float().clamp(-1, 1)
                self.live.add_pictures(batch.driving[:count].float(), frames)


class ClipMetrics(MetricCallback):
    """Judges whole validation clips that the module renders, with the weights that validation uses, and shows some.

    Args:
        measures: See `MetricCallback`.
        render: How a clip is rendered.
        clips: Number of clips, over all processes, taken from all identities in turn.
        max_frames: Only so many frames of each clip; None: all.
        videos: Clips that are shown, real left and rendered right; at most those of the first process.
        folder: Where they are written as ``step_NNNNNN_CLIP.mp4``; None: they go to TensorBoard alone.
        options: See `MetricCallback`.

    Raises:
        UserError: No clips or frames asked for, or nothing that renders them.
    """

    clips = True

    def __init__(
        self,
        measures: Sequence[str] | None,
        render: Render,
        clips: int = 8,
        max_frames: int | None = 125,
        videos: int = 2,
        folder: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(measures, **options)
        if clips < 1 or (max_frames is not None and max_frames < 1):
            raise UserError(f"clips={clips}, max_frames={max_frames}: use whole numbers from 1")
        if not callable(render):
            told = "ClipMetrics needs what renders clips; leave the whole callback out by null"
            raise UserError(f"render={render}: {told}")
        self.render, self.made_for = render, getattr(render, "made_for", None)
        self.most_clips, self.max_frames, self.videos, self.folder = clips, max_frames, videos, folder
        self._records: list[ClipRecord] = []
        self._windows: dict[str, list[int]] = {}

    def _fits(self, measure: Measure) -> bool:
        return measure.kind in CLIP_KINDS

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As of `MetricCallback`; data without whole clips or a module of another stage raise UserError, too."""
        if check := getattr(self.render, "check", None):
            check(pl_module)
        if stage in ("fit", "validate") and not self._records:
            source: Any = trainer.datamodule  # type: ignore[attr-defined]
            if not hasattr(source, "chosen_clips"):
                raise UserError("ClipMetrics needs a TalkingHeadDataModule, which knows whole clips")
            self._records = source.chosen_clips("val", self.most_clips)
            self._windows = self._draw_windows()
        super().setup(trainer, pl_module, stage)

    def _draw_windows(self) -> dict[str, list[int]]:
        """First frames of the windows for FVD in each clip."""
        lengths = [min(record.frames, self.max_frames or record.frames) for record in self._records]
        starts: dict[str, list[int]] = {record.id: [] for record in self._records}
        if max(lengths, default=0) >= self.protocol.fvd.length:
            for place, start in draw_windows(lengths, self.protocol.fvd):
                starts[self._records[place].id].append(start)
        return starts

    def _problem(self, trainer: Trainer, measure: Measure, judges: Judges) -> str | None:
        needed = {"syncnet": self.protocol.sync.minimum_frames, "windows": self.protocol.fvd.length}
        least, lengths = needed.get(measure.kind, 1), [record.frames for record in self._records]
        short = sum(length < least for length in lengths)
        told = f"{short} of {len(lengths)} clips have fewer than {least} frames"
        if short == len(lengths):
            return f"{told}, the longest {max(lengths, default=0)}; judge longer validation clips"
        if self.max_frames is not None and self.max_frames < least:
            return f"max_frames={self.max_frames} cuts all clips to fewer than {least} frames; use {least} or more"
        alike = [one.name for one in self.measures if one.kind == measure.kind]
        if short and trainer.is_global_zero and measure.name == alike[0]:
            log.warning("%s and are not judged for %s", told, ", ".join(PREFIX + name for name in alike))
        return super()._problem(trainer, measure, judges)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Render and judge before the first batch: wherever this callback stands, averaged weights are in place then."""
        if not self.judging or batch_idx or dataloader_idx:
            return
        share = self._records[trainer.global_rank :: trainer.world_size]
        if not self.measures:
            share = share[: self.videos if trainer.is_global_zero else 0]
        with isolate_rng():
            for place, record in enumerate(share):
                self._judge(trainer, pl_module, record, trainer.is_global_zero and place < self.videos)

    def _judge(self, trainer: Trainer, pl_module: LightningModule, record: ClipRecord, shown: bool) -> None:
        """Render one clip, add it to the measures, show it."""
        source: Any = trainer.datamodule  # type: ignore[attr-defined]
        try:
            clip: WholeClip = source.whole_clip(record, self.max_frames)
        except (UserError, OSError, ValueError) as error:
            log.warning("clip %s is not judged: %s", record.id, error)
            return
        rendered = self.render(pl_module, clip)
        assert self.live is not None
        if self.live.measures:
            self.live.add_clip(clip.frames, rendered, clip.waveform, self._windows[record.id])
        if not shown:
            return
        frames = side_by_side(clip.frames, rendered)
        log_sample(trainer.loggers, f"{PREFIX}clip_{record.id}", frames, trainer.global_step)
        if self.folder is not None:
            name = f"step_{trainer.global_step:06d}_{record.id}"
            write_sample(Path(self.folder), name, frames, clip.waveform)
