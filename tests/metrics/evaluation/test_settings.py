"""Whatever setting moves a value moves the hash that the value is ranked by."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import torch

from datamodules.clips.phones import Phone
from metrics.evaluation.inputs import SpeechInputs
from metrics.evaluation.judges import SyncNetJudge
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.registry import MEASURES, measure_hashes, values_of
from metrics.judges.syncnet import SyncNet
from metrics.sync import SyncSettings
from metrics.training_measures import CLIP_KINDS, TrainingMeasures

FRAMES = 36
GROUPS = [one.name for one in dataclasses.fields(Protocol) if one.name not in ("name", "task", "reading")]
MOVING = {"landmarks", "keypoints", "jitter", "still_face", "sync", "mfcc", "face_crops", "faceless"}  # fmt: skip
"""Groups that are seen to move a value of the clip below, at least."""


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    if isinstance(value, str):
        return f"{value}x"
    return value + 1 if isinstance(value, int) else value * 0.5 + 0.01


def values(studio: Any, judges: Any, protocol: Protocol) -> dict[str, float]:
    """What the measures of one clip say by a protocol, of a trembling face that is missing in one frame of ten."""
    lips, speech = studio.spoken(0, FRAMES)
    sway = np.random.default_rng(0).uniform(-1, 1, FRAMES)
    real, made = studio.draw(lips, 0.3 * sway, 0), studio.draw(0.5 * lips, sway, 0)
    made[20:23] = 0
    clips = (torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in (real, made))
    measures = TrainingMeasures([o for o in MEASURES.values() if o.kind in CLIP_KINDS], protocol, judges)
    measures.add_clip(*clips, torch.from_numpy(speech), [0, 16])
    phones = [Phone("m", k / 25, (k + 1) / 25) for k in np.flatnonzero(lips < np.quantile(lips, 0.3))]
    inputs = SpeechInputs(protocol, 0.5 * lips + 0.1 * sway, lips, phones=phones, true_lips=lips)
    spoken = [MEASURES[name] for name in ("lip_closure", "lip_corr", "lip_corr_zero", "lip_lag")]
    return measures.compute() | values_of(spoken, inputs)


def test_a_setting_that_moves_a_value_moves_its_hash(studio):
    torch.manual_seed(0)
    judges = studio.all_judges(sync=SyncNetJudge(SyncNet(0.02, 51), boxes=True))
    names = dict.fromkeys(("phones", "truth"), "0" * 64) | judges.hashes
    protocol = get_protocol("talking-head-v2", size=studio.SIZE)
    protocol = dataclasses.replace(protocol, sync=SyncSettings(minimum_frames=FRAMES))
    warnings.simplefilter("ignore")  # of empty means, under settings that nobody would choose

    def hashes(protocol: Protocol) -> dict[str, str]:
        return measure_hashes(list(MEASURES.values()), protocol, names)

    before, kept = values(studio, judges, protocol), hashes(protocol)
    assert values(studio, judges, protocol).keys() == before.keys()
    moving = set()
    for group in GROUPS:
        settings = getattr(protocol, group)
        for field in dataclasses.fields(settings):
            new = dataclasses.replace(settings, **{field.name: other(getattr(settings, field.name))})
            changed = dataclasses.replace(protocol, **{group: new})
            try:
                after = values(studio, judges, changed)
            except (ValueError, IndexError, RuntimeError):  # no clip can be judged so
                continue
            moved = {name for name in before if not np.isclose(before[name], after[name], equal_nan=True)}
            moving |= {group} if moved else set()
            same = {name for name in moved if kept[name] == hashes(changed)[name]}
            assert not same, f"{group}.{field.name}"
    assert moving >= MOVING, MOVING - moving
