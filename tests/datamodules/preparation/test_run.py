"""Preparing many sources: resumed, sharded, in processes; with a stand-in for the work on one video."""

import errno
import json
import os
import time
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from datamodules.clips.manifest import SPLITS, ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.preparation import run
from datamodules.preparation.pipeline import Outcome, prepare_safely
from datamodules.preparation.processes import in_processes
from datamodules.preparation.run import Prepared, prepare
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import DEVELOPMENT, Rejection, Shard, Source, Span

SETTINGS = PreparationSettings(size=64)


def stand_in(source: Source, output: Path, *_: object) -> Outcome:
    """Does to a source what its name says."""
    if "crash" in source.name:
        os._exit(1)
    if "hang" in source.name:
        time.sleep(600)
    if "full" in source.name:
        raise OSError(errno.ENOSPC, "No space left on device")
    if "raise" in source.name:
        raise RuntimeError("first line\nsecond line")
    if "bad" in source.name:
        return Outcome(rejections=[Rejection(source.name, "no face", "none")], seconds=2.0)
    video = f"clips/{source.id}.mp4"
    digest = sha256(b"copy" if "copy" in source.name else source.id.encode()).hexdigest()
    (output / video).write_bytes(b"video")
    record = ClipRecord(
        source.id,
        video,
        None,
        digest,
        source.identity,
        source.identity,
        "train",
        source.name,
        0.0,
        50,
        64,
    )
    return Outcome([record], [], 2.0, {"looking": 1.0})


class Dataset:
    """A dataset in the making: ``calls`` are the names of the sources that were worked on, in order."""

    def __init__(self, root: Path) -> None:
        self.raw, self.out, self.calls = root / "raw", root / "out", list[str]()
        self.raw.mkdir()

    def prepare(self, sources: list[Source], settings: PreparationSettings = SETTINGS, **options) -> Prepared:
        def noted(source: Source, *rest) -> Outcome:
            self.calls.append(source.name)
            return stand_in(source, *rest)

        options = {"output": self.out, "workers": 0, "prepare_one": noted} | options
        return prepare(sources, settings=settings, **options)

    def sources(self, *names: str) -> list[Source]:
        return sources(self.raw, *names)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def sources(raw: Path, *names: str) -> list[Source]:
    raw.mkdir(exist_ok=True)
    for name in names:
        (raw / name).write_bytes(b"x")
    return [Source(name.split(".")[0], name, raw / name, None, name.split("_")[0]) for name in names]


def test_a_recording_of_two_people_is_kept_once(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    prepared = dataset.prepare(dataset.sources("ann_copy.mp4", "ann_1.mp4", "bob_copy.mp4"))
    assert [record.id for record in read_manifest(dataset.out)] == ["ann_1", "ann_copy"]
    assert [(one.source, one.reason, one.detail) for one in prepared.rejections] == [
        ("bob_copy.mp4", "duplicate", "the same pictures as ann_copy.mp4")
    ]
    told = "ann_copy.mp4 and bob_copy.mp4 are the same recording: "
    assert [told in one for one in caplog.messages].count(True) == 1
    assert prepared.outcomes["bob_copy"].records == []


def test_what_is_done_is_not_done_twice(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4", "ann_2.mp4", "bad_1.mp4")
    progress: list[tuple[int, int]] = []
    made = dataset.prepare(found, progress=lambda *n: progress.append(n))
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [record.id for record in read_manifest(dataset.out)] == ["ann_1", "ann_2"]
    assert made.reasons() == {"no face": 1}
    assert json.loads((dataset.out / "rejected.jsonl").read_text()) == {
        "source": "bad_1.mp4", "clip": None, "start": 0.0, "end": None, "reason": "no face", "detail": "none"
    }  # fmt: skip
    clips = dataset.out / "clips"
    files = {path: path.stat().st_mtime_ns for path in clips.iterdir()}
    dataset.prepare(found)
    assert dataset.calls == ["ann_1.mp4", "ann_2.mp4", "bad_1.mp4"]
    assert files == {path: path.stat().st_mtime_ns for path in clips.iterdir()}
    (clips / "ann_2.mp4").unlink()
    dataset.prepare([*found, *dataset.sources("new_1.mp4")])
    assert dataset.calls[3:] == ["ann_2.mp4", "new_1.mp4"]
    assert len(read_manifest(dataset.out)) == 3


def test_a_changed_video_is_done_again(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4")
    dataset.prepare(found)
    found[0].video.write_bytes(b"longer")
    dataset.prepare(found)
    dataset.prepare([replace(found[0], spans=(Span("x", 0, 1),))])
    assert len(dataset.calls) == 3


def test_leftovers_of_a_killed_run_are_gone(dataset: Dataset) -> None:
    clips = dataset.out / "clips"
    clips.mkdir(parents=True)
    (dataset.out / "dataset.json").write_text(json.dumps(SETTINGS.to_dict()))
    others = ["other.mp4", "bad_1_more.mp4", "bad_1.part2_000.mp4", ".other.0123456789ab.part.mp4"]
    for name in ("bad_1.mp4", "bad_1_003.wav", "bad_1_1003.mp4", ".bad_1_000.0123456789ab.part.mp4", *others):
        (clips / name).write_bytes(b"half")
    dataset.prepare(dataset.sources("bad_1.mp4", "ann_1.mp4"))
    assert {path.name for path in clips.iterdir()} == {"ann_1.mp4", *others}


def test_shards_share_the_work_and_the_last_one_lists_all(dataset: Dataset) -> None:
    found = dataset.sources(*(f"p{n}_1.mp4" for n in range(7)))
    first = dataset.prepare(found, shard=Shard(0, 2))
    assert 0 < len(first.records) < 7
    assert len(first.missing) == 7 - len(first.records)
    # who else is listed changes nobody's shard
    fewer = [one for one in found if one.id not in first.missing[:1]]
    assert Shard(0, 2).of(fewer) == Shard(0, 2).of(found)
    second = dataset.prepare(found, shard=Shard(1, 2))
    assert sorted(dataset.calls) == sorted(source.name for source in found)
    assert second.missing == []
    assert len(read_manifest(dataset.out)) == 7


def test_who_sees_a_new_source_after_writing_writes_again(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4", "bob_1.mp4")
    [theirs] = Shard(1, 2).of(found)
    missing: list[list[str]] = []

    def write_while_the_other_shard_ends() -> Prepared:
        prepared = run.write_lists(found, dataset.out, SETTINGS)
        if not missing:
            run.save(dataset.out, theirs, stand_in(theirs, dataset.out), judged=False)
        missing.append(prepared.missing)
        return prepared

    dataset.prepare(found, shard=Shard(0, 2))
    made = run.until_settled(dataset.out, write_while_the_other_shard_ends)
    assert missing == [[theirs.id], []]
    assert len(made.records) == len(read_manifest(dataset.out)) == 2


def test_splits_share_no_identity_and_official_ones_count(dataset: Dataset) -> None:
    found = dataset.sources(*(f"p{n}_{k}.mp4" for n in range(60) for k in range(2)))
    found = [replace(one, split={0: "test", 1: DEVELOPMENT}.get(int(one.identity[1:]) % 3)) for one in found]
    splits: dict[str, set[str]] = {}
    for record in dataset.prepare(found).records:
        splits.setdefault(record.identity, set()).add(record.split)
    assert all(len(one) == 1 for one in splits.values())
    by_kind = [set().union(*(splits[f"p{n}"] for n in range(kind, 60, 3))) for kind in range(3)]
    assert by_kind[:2] == [{"test"}, {"train", "val"}]
    assert by_kind[2] <= set(SPLITS)
    assert len((dataset.out / "splits.csv").read_text().splitlines()) == 61


def test_two_names_that_are_one_are_refused(dataset: Dataset) -> None:
    twins = [Source("a__x", name, dataset.raw / name, None, "a") for name in ("a/x.mp4", "a__x.mp4")]
    with pytest.raises(UserError, match="would both be called"):
        dataset.prepare(twins)


def test_folders_that_hold_something_else_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    found = dataset.sources("ann_1.mp4")
    dataset.prepare(found)
    (tmp_path / "thesis").mkdir()
    chapter = tmp_path / "thesis/chapter.txt"
    chapter.write_text("dear")
    for output, reason in (
        (dataset.out, "other settings"), (chapter.parent, "something else"), (chapter, "is a file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=reason):
            dataset.prepare(found, PreparationSettings(size=128), output=output)
    assert list(chapter.parent.iterdir()) == [chapter]


def test_what_breaks_a_decoder_costs_one_source(dataset: Dataset) -> None:
    made = dataset.prepare(dataset.sources("raise_1.mp4", "ann_1.mp4"))
    assert [record.id for record in made.records] == ["ann_1"]
    [rejection] = made.rejections
    assert (rejection.reason, rejection.detail) == ("not readable", "RuntimeError: first line")


def test_a_fault_of_the_machine_stops_the_run_and_keeps_what_is_done(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4", "full_1.mp4", "ann_2.mp4")
    with pytest.raises(UserError, match="No space left on device; mend that"):
        dataset.prepare(found)
    assert [path.name for path in (dataset.out / "sources").glob("*.json")] == ["ann_1.json"]
    assert len(dataset.prepare([one for one in found if "full" not in one.name]).records) == 2
    assert dataset.calls == ["ann_1.mp4", "full_1.mp4", "ann_2.mp4"]


def test_splits_and_identities_may_change_without_doing_anything_again(dataset: Dataset) -> None:
    found = dataset.sources(*(f"p{n}_1.mp4" for n in range(20)))
    dataset.prepare(found)
    renamed = [replace(one, identity=f"the {one.identity}") for one in found]
    records = dataset.prepare(renamed, replace(SETTINGS, val=0.4, seed=7)).records
    assert len(dataset.calls) == 20
    assert {record.identity for record in records} == {one.identity for one in renamed}
    assert sum(record.split == "val" for record in records) > 3
    assert json.loads((dataset.out / "dataset.json").read_text())["seed"] == 7


def test_a_shard_is_done_by_one_run_at_a_time(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4")

    def again(done: int, total: int) -> None:
        if done == 0:
            with pytest.raises(UserError, match="another run prepares part 1 of 1"):
                dataset.prepare(found)

    assert len(dataset.prepare(found, progress=again).records) == 1


def test_clips_are_done_again_when_lip_sync_is_to_be_measured(dataset: Dataset) -> None:
    found = dataset.sources("ann_1.mp4")
    for measure_sync in (None, max, max, None):
        dataset.prepare(found, measure_sync=measure_sync)
    assert len(dataset.calls) == 2


@pytest.mark.slow
def test_a_video_that_kills_or_holds_its_process_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    names = ["crash_1.mp4", "ann_1.mp4", "hang_1.mp4", "ann_2.mp4", "raise_1.mp4", "ann_3.mp4"]
    work = partial(prepare_safely, output=tmp_path, settings=SETTINGS, prepare_one=stand_in)
    found = sources(tmp_path, *names)
    made = {one.name: outcome for one, outcome in in_processes(found, work, 2, probe_seconds=20.0)}
    assert {name for name, outcome in made.items() if outcome.records} == {
        name for name in names if "ann" in name
    }
    assert {name: one.rejections[0].detail for name, one in made.items() if one.rejections} == {
        "crash_1.mp4": "its decoder crashed",
        "hang_1.mp4": "took too long",
        "raise_1.mp4": "RuntimeError: first line",
    }
    with pytest.raises(UserError, match="No space left"):
        list(in_processes(sources(tmp_path, "full_1.mp4", "ann_4.mp4"), work, 2))
