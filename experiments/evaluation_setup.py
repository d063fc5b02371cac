"""What ``evaluate`` and ``sweep`` of a model begin with: config, clips, model, its options, the judge of motion."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datamodules import assets
from datamodules.assets import MissingAssetError
from datamodules.clips.manifest import ClipRecord, file_sha256, read_manifest, without_twins
from datamodules.errors import UserError
from datamodules.faces.landmarks import MODEL
from experiments.config import compose, hydra_overrides, resolve
from experiments.results import machine_record, plain
from lightning_modules.checkpoints import weights_hash
from lightning_modules.generation.devices import inference_device
from lightning_modules.generation.talking_head import GenerationOptions, TalkingHead
from metrics.evaluation.clips import ClipSet, recorded_clip, reference_clips, spare_clips, with_speakers
from metrics.evaluation.judges import Progress, load_motion_judge
from metrics.evaluation.loading import RenderedClip, rendered_clips
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.protocol_names import SYNTHETIC, TALKING_HEAD, ReadingSettings
from metrics.motion import MotionJudge

TRAINING_GROUPS = {"experiment": "name", "model": "talking_head"}
"""Words that Hydra would take for config groups of training, and the keys of the evaluation that they mean."""
PREPARE_AGAIN = "prepare the data again"
SECONDS_BETWEEN_LINES = 3.0

log = logging.getLogger(__name__)
_said = -SECONDS_BETWEEN_LINES


def log_progress(done: int, total: int, text: str) -> None:
    """Progress as a plain log line, one every few seconds and the last."""
    global _said
    if done == total or time.monotonic() - _said >= SECONDS_BETWEEN_LINES:
        _said = time.monotonic()
        log.info("%s: %d of %d", text, done, total)


def choose_clips(records: Sequence[ClipRecord], split: str, clips: int | None) -> list[ClipRecord]:
    """Clips of a split without twins, at most ``clips`` of them, taken from all identities in turn.

    Raises:
        UserError: The split is empty, or the number of clips is not at least 1.
    """
    if clips is not None and not (isinstance(clips, int) and clips >= 1):
        raise UserError(f"clips={clips}: use a whole number from 1, or null for all")
    groups: dict[str, list[ClipRecord]] = {}
    for record in without_twins(records):
        if record.split == split:
            groups.setdefault(record.identity, []).append(record)
    if not groups:
        raise UserError(f"split '{split}' has no clips; choose another, or prepare more identities")
    turns = zip_longest(*groups.values())
    return [record for turn in turns for record in turn if record is not None][:clips]


def check_options(model: Any, variants: Sequence[Any], seeds: Sequence[int]) -> None:
    """Refuse options that this model can't follow at some seeds, before any work is done.

    Raises:
        UserError: A value of the wrong type or out of range, or no seed.
    """
    if not seeds:
        raise UserError("seeds=[]: give at least one sampling seed")
    for seed in seeds:
        for options in variants:
            try:
                dataclasses.replace(options, seed=seed).check(model)
            except TypeError as error:
                raise UserError(f"generation options: a value is of the wrong type ({error})") from error


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A model, what it is asked for, and what it is judged by."""

    model: Any  # a TalkingHead
    options: Any  # GenerationOptions
    seeds: tuple[int, ...]
    judge: MotionJudge
    data: ClipSet
    split: str
    chosen: tuple[str, ...]  # names of the clips as they were chosen: identities in turn
    protocol: Protocol
    progress: Progress | None
    size: int  # side of the frames that are rendered and compared
    speakers: str | None = None  # folder of further clips that lips are learnt from

    def clips(self, render: Callable[[RenderedClip], RenderedClip]) -> Iterator[RenderedClip]:
        """The clips as ``render`` makes them."""
        return rendered_clips(self.data, self.protocol.reading, render)

    def record(self, started: float) -> dict[str, Any]:
        """By which code, settings and machine, and how far the judge can be trusted; begun at a ``perf_counter``."""
        return {
            **machine_record(),
            "model": {
                "weights": weights_hash(self.model),
                "size": self.model.size,
                "compared_at": self.size,
                "landmarker": _landmarker(),
            },
            "device": str(self.model.device),
            "generation": plain(dataclasses.asdict(self.options)),
            "seeds": list(self.seeds),
            "speakers": self.speakers,
            "judge": {"name": self.judge.name, **plain(getattr(self.judge, "facts", {}))},
            "seconds": round(time.perf_counter() - started, 1),
        }


def _landmarker() -> str | None:
    """SHA-256 of the model that sees lids and lips of portraits, which are drawn down and together by it; None without."""
    try:
        return file_sha256(assets.find(MODEL))
    except MissingAssetError:
        return None


def set_up(
    model: Any,
    root: Path,
    load_judge: Callable[..., MotionJudge] = load_motion_judge,
    judge: str = "regressor",
    judge_seconds: float | None = None,
    options: Any = None,
    seeds: Sequence[int] = (0,),
    variants: Callable[[Any], Sequence[Any]] | None = None,
    split: str = "test",
    clips: int | None = None,
    max_frames: int | None = None,
    compared_at: int | None = None,
    progress: Progress | None = None,
    speakers: str | Path | None = None,
) -> EvaluatedModel:
    """A TalkingHead with ``clips`` of a split of the dataset folder ``root``, in the order of their names.

    It is asked at ``seeds`` and, if given, with the ``variants`` of its options. Frames are rendered and compared at the side
    that `rendered_side` says. Drawn faces are judged by a fitted ``judge``, fitted at most ``judge_seconds`` once options are
    known to be good; real ones, of at most ``max_frames``, by landmarks. Clips of ``speakers`` are learnt from, too.

    Raises:
        UserError: No manifest, no clip in the split, no such judge, or a size or options that the model can't follow.
    """
    options = options or GenerationOptions()
    check_options(model, variants(options) if variants else [options], seeds)
    size = rendered_side(model, compared_at, choose_clips(read_manifest(root), split, clips))
    data, chosen, looks, protocol = open_data(
        root,
        size,
        load_judge,
        judge,
        judge_seconds,
        split,
        clips,
        max_frames,
        progress=progress,
        speakers=speakers,
    )
    learnt = None if speakers is None else str(speakers)
    return EvaluatedModel(
        model, options, tuple(seeds), looks, data, split, chosen, protocol, progress, size, learnt
    )


def rendered_side(model: Any, asked: int | None, records: Sequence[ClipRecord]) -> int:
    """Side in pixels at which a model renders, and is judged on, these clips: as ``asked``, one of the model's ``sizes``.

    None: the largest of them that neither the clips nor what `ifmdm generate` writes exceed, at least the model's own. So
    clips of the model's size are judged at that, larger ones as the videos that people get.

    Raises:
        UserError: The model renders no frames of that size.
    """
    if asked is None:
        most = min(model.usual_size, *(record.size for record in records))
        return max((one for one in model.sizes if one <= most), default=model.size)
    if type(asked) is not int or asked not in model.sizes:
        known = ", ".join(map(str, model.sizes))
        raise UserError(
            f"compared_at={asked}: this model renders frames of {known} pixels; give one of these sides"
        )
    return asked


def open_data(
    root: Path,
    size: int,
    load_judge: Callable[..., MotionJudge] = load_motion_judge,
    judge: str = "regressor",
    judge_seconds: float | None = None,
    split: str = "test",
    clips: int | None = None,
    max_frames: int | None = None,
    task: str = "generation",
    progress: Progress | None = None,
    speakers: str | Path | None = None,
) -> tuple[ClipSet, tuple[str, ...], MotionJudge, Protocol]:
    """Clips of a dataset folder, their names as they were chosen, the judge of their motion, and the protocol of ``task``.

    Frames are judged at ``size``; the rest as `set_up`.
    """
    records = choose_clips(read_manifest(root), split, clips)
    judged = [recorded_clip(root, record) for record in sorted(records, key=lambda record: record.id)]
    spare = spare_clips(judged, list(reference_clips(root, split).values()))
    data = with_speakers(ClipSet(tuple(judged), spare), None if speakers is None else Path(speakers))
    looks = load_judge(judge, root, seconds=judge_seconds, progress=progress, size=size)
    own = all(record.size == size for record in records)
    if hasattr(looks, "look"):
        protocol = get_protocol(TALKING_HEAD, task, size=size, max_frames=max_frames)
    else:  # fitted on drawn faces, which are judged at their own size
        protocol = get_protocol(SYNTHETIC, task, size=None if own else size, max_frames=max_frames)
    return data, tuple(record.id for record in records), looks, protocol


def compose_evaluation(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Compose ``configs/NAME.yaml``; ``experiment=X`` takes the dataset of that training config.

    Raises:
        UserError: The overrides do not compose, an experiment is named without the model that came of it, or no dataset is
            named.
    """
    pairs = [word.partition("=") for word in hydra_overrides(overrides)]
    words = [f"{TRAINING_GROUPS.get(key, key)}{sign}{value}" for key, sign, value in pairs]
    config = resolve(compose(words, name))
    if config["name"] and not any(key in ("model", "talking_head") for key, _, _ in pairs):
        raise UserError(
            f"experiment={config['name']} names the data alone; give model=DIR, the folder that `ifmdm package` wrote, too"
        )
    if config["name"] and config["data"]["root"] is None:
        config["data"]["root"] = compose([f"experiment={config['name']}"]).data.get("root")
    if config["data"]["root"] is None:
        raise UserError(
            "no dataset: give data.root=FOLDER, or experiment=NAME whose data is meant "
            "(`ifmdm evaluate --help` tells of videos and of the self-test)"
        )
    return config


def load_model(name: str | Path, speech_model: str | None = None, hears: bool = True) -> TalkingHead:
    """A model as `TalkingHead.from_pretrained` reads it, on the `inference_device`; errors are those of both."""
    device = inference_device()
    return TalkingHead.from_pretrained(name, speech_model, hears).to(device)


def set_up_config(
    config: dict[str, Any],
    variants: Callable[[Any], Sequence[Any]] | None = None,
    load_model: Callable[[str, str | None], Any] = load_model,
    load_judge: Callable[..., MotionJudge] = load_motion_judge,
) -> EvaluatedModel:
    """What a config names, see `set_up`.

    Raises:
        UserError: No such model, speech model or judge, a size or options that the model can't follow, or a number that
            makes no sense.
    """
    most, seeds, least = config["max_frames"], config["seeds"], ReadingSettings().shortest
    if most is not None and not (isinstance(most, int) and most >= least):
        raise UserError(f"max_frames={most}: use a whole number from {least}, or null for all")
    if not isinstance(seeds, list) or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds}: give a list such as [0,1,2], no seed twice")
    root = Path(config["data"]["root"])
    choose_clips(read_manifest(root), config["split"], config["clips"])  # before a model is loaded
    model = load_model(config["talking_head"], config["speech_model"])
    try:
        options = GenerationOptions(**config["generation"])
    except TypeError as error:
        raise UserError(f"generation options: {error}") from error
    keys = ("judge", "judge_seconds", "seeds", "split", "clips", "max_frames", "compared_at", "speakers")
    given = {key: config[key] for key in keys}
    return set_up(model, root, load_judge, options=options, variants=variants, progress=log_progress, **given)
