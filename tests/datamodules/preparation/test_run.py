"""Preparing many sources: resumed, sharded, in processes; with a stand-in for the work on one video."""

import errno
import json
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from datamodules.clips.manifest import SPLITS, ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.preparation import one_source, processes, run
from datamodules.preparation.one_source import Outcome, prepare_safely
from datamodules.preparation.processes import in_processes
from datamodules.preparation.run import Shard, prepare
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import DEVELOPMENT, Rejection, Source, Span

SETTINGS = PreparationSettings(size=64)


def stand_in(
    source: Source, output: Path, settings: PreparationSettings, sync_judge: object = None
) -> Outcome:
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
        return Outcome(rejections=[Rejection(source.name, None, 0.0, None, "no face", "none")], seconds=2.0)
    video = f"clips/{source.id}.mp4"
    (output / video).write_bytes(b"video")
    record = ClipRecord(
        source.id, video, None, "0" * 64, source.identity, source.identity, "train", source.name, 0.0, 50, 64
    )
    return Outcome([record], [], 2.0, {"looking": 1.0})


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    seen: list[str] = []

    def noted(source: Source, *rest) -> Outcome:
        seen.append(source.name)
        return stand_in(source, *rest)

    monkeypatch.setattr(one_source, "prepare_source", noted)
    return seen


def sources(raw: Path, *names: str) -> list[Source]:
    raw.mkdir(exist_ok=True)
    for name in names:
        (raw / name).write_bytes(b"x")
    return [Source(name.split(".")[0], name, raw / name, None, name.split("_")[0]) for name in names]


def test_what_is_done_is_not_done_twice(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4", "ann_2.mp4", "bad_1.mp4")
    out, progress = tmp_path / "out", []
    made = prepare(found, out, SETTINGS, workers=0, progress=lambda *n: progress.append(n))
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [record.id for record in read_manifest(out)] == ["ann_1", "ann_2"]
    assert made.reasons() == {"no face": 1}
    assert json.loads((out / "rejected.jsonl").read_text())["reason"] == "no face"
    files = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    prepare(found, out, SETTINGS, workers=0)
    assert calls == ["ann_1.mp4", "ann_2.mp4", "bad_1.mp4"]
    assert files == {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    (out / "clips/ann_2.mp4").unlink()
    prepare([*found, *sources(tmp_path / "raw", "new_1.mp4")], out, SETTINGS, workers=0)
    assert calls[3:] == ["ann_2.mp4", "new_1.mp4"]
    assert len(read_manifest(out)) == 3


def test_a_changed_video_is_done_again(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4")
    prepare(found, tmp_path / "out", SETTINGS, workers=0)
    found[0].video.write_bytes(b"longer")
    prepare(found, tmp_path / "out", SETTINGS, workers=0)
    prepare([replace(found[0], spans=(Span("x", 0, 1),))], tmp_path / "out", SETTINGS, workers=0)
    assert len(calls) == 3


def test_leftovers_of_a_killed_run_are_gone(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "bad_1.mp4", "ann_1.mp4")
    out = tmp_path / "out"
    (out / "clips").mkdir(parents=True)
    (out / "dataset.json").write_text(json.dumps(SETTINGS.to_dict()))
    others = ["other.mp4", "bad_1_more.mp4", "bad_1.part2_000.mp4", ".other.0123456789ab.part.mp4"]
    for name in ("bad_1.mp4", "bad_1_003.wav", "bad_1_1003.mp4", ".bad_1_000.0123456789ab.part.mp4", *others):
        (out / "clips" / name).write_bytes(b"half")
    prepare(found, out, SETTINGS, workers=0)
    assert {path.name for path in (out / "clips").iterdir()} == {"ann_1.mp4", *others}


def test_shards_share_the_work_and_the_last_one_lists_all(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", *(f"p{n}_1.mp4" for n in range(7)))
    out = tmp_path / "out"
    first = prepare(found, out, SETTINGS, workers=0, shard=Shard(0, 2))
    assert 0 < len(first.records) < 7
    assert len(first.missing) == 7 - len(first.records)
    fewer = [
        one for one in found if one.id not in first.missing[:1]
    ]  # who else is listed changes nobody's shard
    assert Shard(0, 2).of(fewer) == Shard(0, 2).of(found)
    second = prepare(found, out, SETTINGS, workers=0, shard=Shard(1, 2))
    assert sorted(calls) == sorted(source.name for source in found)
    assert second.missing == []
    assert len(read_manifest(out)) == 7


def test_who_sees_a_new_source_after_writing_writes_again(
    tmp_path: Path, calls: list[str], monkeypatch
) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4", "bob_1.mp4")
    out, write = tmp_path / "out", run.write_manifest
    [theirs] = Shard(1, 2).of(found)

    def other_shard_ends_meanwhile(folder: Path, records: list) -> Path:
        monkeypatch.setattr(run, "write_manifest", write)
        run._save(out, theirs, stand_in(theirs, out, SETTINGS), judged=False)
        return write(folder, records)

    monkeypatch.setattr(run, "write_manifest", other_shard_ends_meanwhile)
    made = prepare(found, out, SETTINGS, workers=0, shard=Shard(0, 2))
    assert len(made.records) == len(read_manifest(out)) == 2


def test_splits_share_no_identity_and_official_ones_count(tmp_path: Path, calls: list[str]) -> None:
    raw = tmp_path / "raw"
    found = sources(raw, *(f"p{n}_{k}.mp4" for n in range(60) for k in range(2)))
    found = [replace(one, split={0: "test", 1: DEVELOPMENT}.get(int(one.identity[1:]) % 3)) for one in found]
    records = prepare(found, tmp_path / "out", SETTINGS, workers=0).records
    splits: dict[str, set[str]] = {}
    for record in records:
        splits.setdefault(record.identity, set()).add(record.split)
    assert all(len(one) == 1 for one in splits.values())
    by_kind = {kind: {splits[f"p{n}"].copy().pop() for n in range(kind, 60, 3)} for kind in range(3)}
    assert by_kind[0] == {"test"}
    assert by_kind[1] == {"train", "val"}
    assert by_kind[2] <= set(SPLITS)
    listed = (tmp_path / "out/splits.csv").read_text().splitlines()
    assert len(listed) == 61


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("a/x.mp4", "a__x.mp4"), "would both be called")],
)
def test_two_names_that_are_one_are_refused(tmp_path: Path, names, reason: str) -> None:
    twins = [Source("a__x", name, tmp_path / name, None, "a") for name in names]
    with pytest.raises(UserError, match=reason):
        prepare(twins, tmp_path / "out", SETTINGS, workers=0)


def test_folders_that_hold_something_else_are_refused(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4")
    prepare(found, tmp_path / "out", SETTINGS, workers=0)
    with pytest.raises(UserError, match="other settings"):
        prepare(found, tmp_path / "out", PreparationSettings(size=128), workers=0)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("dear")
    with pytest.raises(UserError, match="something else"):
        prepare(found, tmp_path / "thesis", SETTINGS, workers=0)
    with pytest.raises(UserError, match="is a file"):
        prepare(found, tmp_path / "thesis/chapter.txt", SETTINGS, workers=0)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_what_breaks_a_decoder_costs_one_source(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "raise_1.mp4", "ann_1.mp4")
    made = prepare(found, tmp_path / "out", SETTINGS, workers=0)
    assert [record.id for record in made.records] == ["ann_1"]
    [rejection] = made.rejections
    assert (rejection.reason, rejection.detail) == ("not readable", "RuntimeError: first line")


def test_a_fault_of_the_machine_stops_the_run_and_keeps_what_is_done(
    tmp_path: Path, calls: list[str]
) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4", "full_1.mp4", "ann_2.mp4")
    with pytest.raises(UserError, match="No space left on device; mend that"):
        prepare(found, tmp_path / "out", SETTINGS, workers=0)
    assert [path.name for path in (tmp_path / "out/sources").glob("*.json")] == ["ann_1.json"]
    found = [one for one in found if "full" not in one.name]
    assert len(prepare(found, tmp_path / "out", SETTINGS, workers=0).records) == 2
    assert calls == ["ann_1.mp4", "full_1.mp4", "ann_2.mp4"]


def test_splits_and_identities_may_change_without_doing_anything_again(
    tmp_path: Path, calls: list[str]
) -> None:
    found = sources(tmp_path / "raw", *(f"p{n}_1.mp4" for n in range(20)))
    prepare(found, tmp_path / "out", SETTINGS, workers=0)
    renamed = [replace(one, identity=f"the {one.identity}") for one in found]
    other = replace(SETTINGS, val=0.4, seed=7)
    records = prepare(renamed, tmp_path / "out", other, workers=0).records
    assert len(calls) == 20
    assert {record.identity for record in records} == {one.identity for one in renamed}
    assert sum(record.split == "val" for record in records) > 3
    assert json.loads((tmp_path / "out/dataset.json").read_text())["seed"] == 7


def test_a_shard_is_done_by_one_run_at_a_time(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4")

    def again(done: int, total: int) -> None:
        if done == 0:
            with pytest.raises(UserError, match="another run prepares part 1 of 1"):
                prepare(found, tmp_path / "out", SETTINGS, workers=0)

    assert len(prepare(found, tmp_path / "out", SETTINGS, workers=0, progress=again).records) == 1


def test_a_judge_given_later_is_asked(tmp_path: Path, calls: list[str]) -> None:
    found = sources(tmp_path / "raw", "ann_1.mp4")
    for judge in (None, max, max, None):
        prepare(found, tmp_path / "out", SETTINGS, workers=0, sync_judge=judge)
    assert len(calls) == 2


def stand_in_safely(source: Source, output: Path) -> Outcome:
    """What a worker process does: it knows nothing of patches."""
    one_source.prepare_source = stand_in
    return prepare_safely(source, output, SETTINGS)


@pytest.mark.slow
def test_a_video_that_kills_or_holds_its_process_costs_itself_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "PROBE_SECONDS", 20.0)
    (tmp_path / "clips").mkdir()
    names = ["crash_1.mp4", "ann_1.mp4", "hang_1.mp4", "ann_2.mp4", "raise_1.mp4", "ann_3.mp4"]
    work = partial(stand_in_safely, output=tmp_path)
    made = {one.name: outcome for one, outcome in in_processes(sources(tmp_path / "raw", *names), work, 2)}
    assert {name for name, outcome in made.items() if outcome.records} == {
        "ann_1.mp4",
        "ann_2.mp4",
        "ann_3.mp4",
    }
    assert {name: one.rejections[0].detail for name, one in made.items() if one.rejections} == {
        "crash_1.mp4": "its decoder crashed",
        "hang_1.mp4": "took too long",
        "raise_1.mp4": "RuntimeError: first line",
    }
    with pytest.raises(UserError, match="No space left"):
        list(in_processes(sources(tmp_path / "raw", "full_1.mp4", "ann_4.mp4"), work, 2))
