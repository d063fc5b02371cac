"""Settings are what functions are given; a measure's hash covers its own and its judges', all that moves it, nothing else."""

import dataclasses
import importlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.clips.phones import Phone
from datamodules.errors import UserError
from metrics.evaluation import registry
from metrics.evaluation.inputs import SpeechInputs
from metrics.evaluation.judges import SyncNetJudge
from metrics.evaluation.protocol import PROTOCOLS, Protocol, get_protocol
from metrics.evaluation.registry import (
    MEASURES,
    SLOTS,
    Measure,
    measure_hashes,
    measure_of,
    measures_of,
    values_of,
)
from metrics.judges.syncnet import SyncNet
from metrics.sync import SyncSettings
from metrics.training_measures import CLIP_KINDS, TrainingMeasures

JUDGES = {slot: slot.ljust(64, "-") for slot in SLOTS}
REGRESSION = {"regression": "e" * 64}
GROUPS = [one.name for one in dataclasses.fields(Protocol) if one.name not in ("name", "task", "reading")]


def hashes(protocol: Protocol, judges: dict[str, str] = JUDGES) -> dict[str, str]:
    return measure_hashes(list(MEASURES.values()), protocol, judges)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    if isinstance(value, str):
        return f"{value}x"
    return value + 1 if isinstance(value, int) else value * 0.5 + 0.01


def variants(protocol: Protocol, group: str) -> Iterator[tuple[str, Protocol]]:
    """The protocol with another value of each setting of a group, and that setting."""
    settings = getattr(protocol, group)
    for field in dataclasses.fields(settings):
        new = dataclasses.replace(settings, **{field.name: other(getattr(settings, field.name))})
        yield f"{group}.{field.name}", dataclasses.replace(protocol, **{group: new})


LATER = (
    "edge_steps", "edge_step_ratio", "head_by_speech", "av_corr_whisper", "av_corr_zero_whisper", "av_lag_whisper",
)  # fmt: skip
"""Measures that came when hashes of the others had been published."""


def test_the_protocols_are_frozen():
    """From the first release on, whoever changes a setting gives the protocol another name."""
    known = [one for one in MEASURES.values() if one.kind != "portrait" and one.name not in LATER]
    frozen = json.dumps(
        [measure_hashes(known, PROTOCOLS[name], JUDGES) for name in ("talking-head-v2", "synthetic-v2")],
        sort_keys=True,
    )
    assert registry.short_hash(frozen) == "e86344b11bc0dd4b"
    known = [one for one in measures_of("free") if one.name not in LATER]
    free = measure_hashes(known, PROTOCOLS["talking-head-free-v1"], JUDGES | REGRESSION)
    assert registry.short_hash(json.dumps(free, sort_keys=True)) == "135f9642acf9b169"


def test_without_real_videos_only_what_needs_none_is_asked_and_under_hashes_of_its_own():
    free, usual = PROTOCOLS["talking-head-free-v1"], PROTOCOLS["talking-head-v2"]
    told = measure_hashes(measures_of("free"), free, JUDGES | REGRESSION)
    assert set(told) == {
        "csim", "head_motion", "mouth_motion", "blink_rate", "jitter", "fine_detail", "flicker", "lse_d", "lse_c",
        "av_offset", "av_corr", "av_corr_zero", "av_lag", "av_retrieval", "edge_steps", "edge_step_ratio",
        "av_corr_whisper", "av_corr_zero_whisper", "av_lag_whisper",
    }  # fmt: skip
    alike = {name for name, sha in hashes(usual).items() if told.get(name) == sha}
    assert alike == {"flicker", "fine_detail"}  # which say the same of a video in both
    others = measure_hashes(measures_of("free"), free, JUDGES | {"regression": "f" * 64})
    by_speech = {name for name in told if name.startswith("av_") and name != "av_offset"}
    assert changed(told, others) == by_speech
    assert set(told) - set(measure_hashes(measures_of("free"), free, JUDGES)) == by_speech


@pytest.mark.parametrize("group", GROUPS)
def test_a_setting_changes_the_hash_of_exactly_the_measures_that_take_it(group):
    protocol = get_protocol("talking-head-v2")
    takers = {name for name, one in MEASURES.items() if group in one.settings}
    assert takers  # a setting that changes no number can't exist
    for name, after in variants(protocol, group):
        assert changed(hashes(protocol), hashes(after)) == takers, name


@pytest.mark.parametrize("change", [{"size": 256}, {"crop": "face"}, {"max_frames": 20}])
def test_how_clips_are_read_is_no_measures_affair(change):
    assert hashes(get_protocol("talking-head-v2")) == hashes(get_protocol("talking-head-v2", **change))


@pytest.mark.parametrize("slot", sorted(SLOTS))
def test_a_judge_changes_the_hash_of_its_measures_alone(slot):
    protocol, users = (
        get_protocol("talking-head-v2"),
        {n for n, one in MEASURES.items() if slot in one.judges},
    )
    assert changed(hashes(protocol), hashes(protocol, {**JUDGES, slot: "f" * 64})) == users
    absent = hashes(protocol, {name: sha for name, sha in JUDGES.items() if name != slot})
    assert set(hashes(protocol)) - set(absent) == users  # and a missing one changes nothing for the others
    assert changed(hashes(protocol), absent) == users


def test_one_more_measure_changes_no_other_hash():
    more = Measure(
        "mole", "Moles", "", "lower", "generation", "frames", "Number.", ("motion:head_motion", "row")
    )
    protocol = get_protocol("talking-head-v2")
    after = measure_hashes([*MEASURES.values(), more], protocol, JUDGES)
    assert changed(hashes(protocol), after) == {"mole"}


def test_the_task_is_part_of_what_both_tasks_have():
    """A reconstruction's lip sync must not be ranked beside that of a free generation."""
    both = {name for name, one in MEASURES.items() if one.family in ("identity", "sync", "motion")}
    tasks = [hashes(get_protocol("talking-head-v2", task)) for task in ("generation", "reconstruction")]
    assert changed(*tasks) == both


def test_every_entry_names_what_exists():
    protocol = get_protocol("talking-head-v2")
    for one in MEASURES.values():
        assert all(hasattr(protocol, name) for name in one.settings), one.name
        for call in filter(None, (one.call, one.metric, one.pool)):
            module, _, name = call[0].partition(":")
            assert callable(getattr(importlib.import_module(f"metrics.{module}"), name))
        assert one.meaning.endswith(".")
        assert one.title
    assert json.loads(json.dumps(protocol.settings())) == json.loads(json.dumps(protocol.settings()))


def test_protocols_differ_in_what_they_must():
    real, drawn = (PROTOCOLS[name].settings() for name in ("talking-head-v2", "synthetic-v2"))
    assert {name for name in real if real[name] != drawn[name]} == {"reading", "sync"}
    assert (real["sync"]["minimum_frames"], drawn["sync"]["minimum_frames"]) == (100, 50)
    assert (real["reading"]["size"], drawn["reading"]["size"]) == (512, None)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("v1", {}, "talking-head-v2"),
        ("talking-head-v2", {"task": "both"}, "generation or reconstruction"),
        ("synthetic-v2", {"crop": "face"}, "leave out the crop"),
    ],
)
def test_what_does_not_exist_is_refused(name, changes, told):
    with pytest.raises(UserError, match=told):
        get_protocol(name, **changes)


def test_the_families_never_mix():
    generation, reconstruction = (
        {one.name for one in measures_of(task)} for task in ("generation", "reconstruction")
    )
    assert {"psnr", "ssim", "l1", "lpips", "akd", "aed", "lmd"} <= reconstruction - generation
    assert {"fid", "kid", "fvd", "mouth_lmd", "fid_floor"} <= generation - reconstruction
    assert {"csim", "lse_d", "av_corr", "head_motion", "lse_d_share"} <= generation & reconstruction
    model = {name for name, one in MEASURES.items() if one.family in ("model", "portrait")}
    assert generation | reconstruction | model == set(MEASURES)
    assert not model & (generation | reconstruction)


@pytest.mark.parametrize(
    ("name", "measure", "better"),
    [
        ("csim", "csim", "higher"),
        ("lse_d_shuffled", "lse_d", "lower"),
        ("lse_d_share", "lse_d_share", "higher"),
        ("mouth_lmd_best_of_3", "mouth_lmd_best", "lower"),
        ("head_motion_real", "head_motion", "real"),
        ("sharpness_mouth_codec", "sharpness_mouth", "real"),
        ("fps", "fps", "none"),
    ],
)
def test_names_of_rows_lead_to_their_measure(name, measure, better):
    assert (measure_of(name).name, measure_of(name).better) == (measure, better)
    assert measure_of("nonsense") is None


FRAMES = 36
MOVING = {"landmarks", "keypoints", "jitter", "still_face", "sync", "mfcc", "face_crops", "faceless"}  # fmt: skip
"""Groups that are seen to move a value of the clip below, at least."""


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

    before, kept = values(studio, judges, protocol), hashes(protocol, names)
    assert values(studio, judges, protocol).keys() == before.keys()
    moving = set()
    for group in GROUPS:
        for name, changed in variants(protocol, group):
            try:
                after = values(studio, judges, changed)
            except (ValueError, IndexError, RuntimeError):  # no clip can be judged so
                continue
            moved = {one for one in before if not np.isclose(before[one], after[one], equal_nan=True)}
            moving |= {group} if moved else set()
            assert not {one for one in moved if kept[one] == hashes(changed, names)[one]}, name
    assert moving >= MOVING, MOVING - moving
