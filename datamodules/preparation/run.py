"""Preparing many sources: in parallel, in shards, and on from where an interrupted run was.

A source is the unit of work. When all its clips are written, ``sources/ID.json`` says what became of it; only that counts, so
that a run that is killed anywhere leaves no half clip in the manifest and does nothing twice. The manifest and the list of
rejections are put together from these files at the end.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as Expired
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.manifest import SPLITS, ClipRecord, fill_splits, split_by_identity, write_manifest
from datamodules.preparation.clip_files import SyncJudge
from datamodules.preparation.one_source import LEAST_RATE, Outcome, prepare_source
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import DEVELOPMENT, Rejection, Source
from datamodules.splits import SPLITS_NAME, write_splits
from datamodules.video import probe

SETTINGS_NAME = "dataset.json"
REJECTED_NAME = "rejected.jsonl"
OUTCOMES = "sources"
PROBE_SECONDS = 30.0
"""Longest time for finding out what a file is."""
SECONDS_PER_SECOND = 60.0
"""Longest time for a second of video, beyond ``PROBE_SECONDS``: a hundred times what it takes."""


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a list of sources.

    Attributes:
        index: from 0.
        count: how many runs there are.
    """

    index: int = 0
    count: int = 1

    def of(self, sources: Sequence[Source]) -> list[Source]:
        """The sources of this run."""
        return list(sources[self.index :: self.count])


@dataclass(frozen=True)
class Prepared:
    """A prepared folder.

    Attributes:
        records: all clips, with their splits.
        rejections: all that was not kept.
        outcomes: what became of each source, by its id.
        missing: sources that no run has finished yet.
    """

    records: list[ClipRecord]
    rejections: list[Rejection]
    outcomes: dict[str, Outcome]
    missing: list[str]

    def reasons(self) -> dict[str, int]:
        """How often what was the reason of a rejection, the most frequent first."""
        return dict(Counter(rejection.reason for rejection in self.rejections).most_common())


def prepare(
    sources: Sequence[Source],
    output: Path,
    settings: PreparationSettings,
    workers: int = 1,
    shard: Shard = Shard(),
    sync_judge: SyncJudge | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Makes clips of all sources that no earlier run has finished, then the manifest.

    Args:
        sources: with distinct ids, the same in all shards.
        output: dataset folder.
        settings: how to cut, and what to keep.
        workers: processes; 0 works in this one, without limits of time.
        shard: which of the sources are done here.
        sync_judge: measures how late a clip's sound is; has to be picklable.
        progress: called with (finished, all) sources of this shard.

    Raises:
        UserError: a setting is out of range, two sources share an id, or the folder holds other data.
    """
    settings.check()
    output = Path(output)
    _check_ids(sources)
    _claim(output, settings.to_dict())
    mine = shard.of(sources)
    todo = [source for source in mine if _outcome(output, source) is None]
    if progress:
        progress(len(mine) - len(todo), len(mine))
    for done, (source, outcome) in enumerate(_work(todo, output, settings, workers, sync_judge), start=1):
        _save(output, source, outcome)
        if progress:
            progress(len(mine) - len(todo) + done, len(mine))
    return finish(sources, output, settings)


def finish(sources: Sequence[Source], output: Path, settings: PreparationSettings) -> Prepared:
    """Writes manifest and rejections of all sources that are finished so far.

    Shards that end together may each lack the other's last source: who sees new ones after writing writes again.
    """
    while True:
        before = _finished_files(output)
        prepared = _write_lists(sources, output, settings)
        if _finished_files(output) == before:
            return prepared


def _finished_files(output: Path) -> set[str]:
    return {path.name for path in (output / OUTCOMES).glob("[!.]*.json")}


def _write_lists(sources: Sequence[Source], output: Path, settings: PreparationSettings) -> Prepared:
    outcomes = {source.id: found for source in sources if (found := _outcome(output, source)) is not None}
    splits = _splits(
        [source for source in sources if source.id in outcomes and outcomes[source.id].records], settings
    )
    records = [
        replace(record, split=splits[name])
        for name, outcome in outcomes.items()
        for record in outcome.records
    ]
    rejections = [rejection for outcome in outcomes.values() for rejection in outcome.rejections]
    rejections.sort(key=lambda item: (item.source, item.start, item.clip or "", item.reason))
    write_manifest(output, records)
    write_splits(output / SPLITS_NAME, records)
    with whole_output(output / REJECTED_NAME) as temporary:
        temporary.write_text(
            "".join(json.dumps(asdict(item), allow_nan=False) + "\n" for item in rejections), encoding="utf-8"
        )
    missing = [source.id for source in sources if source.id not in outcomes]
    return Prepared(records, rejections, outcomes, missing)


def _splits(sources: Sequence[Source], settings: PreparationSettings) -> dict[str, str]:
    """Split of each source that has clips, by its id."""
    found = {source.id: source.split for source in sources if source.split in SPLITS}
    for kind, test in ((DEVELOPMENT, 0.0), (None, settings.test)):
        shares = (1 - settings.val - test, settings.val, test)
        group = [source for source in sources if source.split == kind]
        assigned = split_by_identity({source.identity for source in group}, shares, settings.seed)
        assigned = fill_splits(assigned, shares, settings.seed)
        found |= {source.id: assigned[source.identity] for source in group}
    return {name: split for name, split in found.items() if split is not None}


def _check_ids(sources: Sequence[Source]) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        for name in {source.id, *(span.id for span in source.spans)}:
            if name in seen:
                raise UserError(f"{source.name} and {seen[name]} would both be called {name}; rename one")
            seen[name] = source.name


def _claim(output: Path, settings: dict[str, Any]) -> None:
    """Creates the folder with its settings; refuses a folder that holds something else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, expected a folder for the dataset; choose another --output")
    path = output / SETTINGS_NAME
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != settings:
            raise UserError(
                f"{output}: holds a dataset with other settings; remove it or choose another --output"
            )
    elif output.is_dir() and any(output.glob("[!.]*")):
        raise UserError(f"{output}: holds something else; choose another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with whole_output(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name in ("clips", OUTCOMES):
            (output / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{output}: the folder cannot be created ({error.strerror}); choose another --output"
        ) from error


def _fingerprint(source: Source) -> str:
    """Changes with the files and with what is asked of them."""
    facts: list[Any] = [source.name, source.identity, [asdict(span) for span in source.spans]]
    for path in (source.video, source.sound):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        facts.append(None if stat is None else [stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _outcome(output: Path, source: Source) -> Outcome | None:
    """What an earlier run found, if the files are still the same and all clips are there."""
    try:
        values = json.loads((output / OUTCOMES / f"{source.id}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if values.pop("fingerprint", None) != _fingerprint(source):
        return None
    outcome = Outcome.from_dict(values)
    files = [
        name
        for record in outcome.records
        for name in (record.video, record.audio, record.annotations)
        if name
    ]
    return outcome if all((output / name).is_file() for name in files) else None


def _save(output: Path, source: Source, outcome: Outcome) -> None:
    text = json.dumps({"fingerprint": _fingerprint(source), **outcome.to_dict()}, allow_nan=False)
    with whole_output(output / OUTCOMES / f"{source.id}.json") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove_leftovers(output: Path, source: Source) -> None:
    """Clips and half-written files of a run that did not finish this source."""
    for name in {source.id, *(span.id for span in source.spans)}:
        for pattern in (
            f"{name}.*",
            f"{name}_[0-9][0-9][0-9].*",
            f".{name}.*.part.*",
            f".{name}_[0-9][0-9][0-9].*.part.*",
        ):
            for path in (output / "clips").glob(pattern):
                path.unlink(missing_ok=True)


def _work(
    sources: Sequence[Source],
    output: Path,
    settings: PreparationSettings,
    workers: int,
    sync_judge: SyncJudge | None,
) -> Iterator[tuple[Source, Outcome]]:
    """Outcomes as sources are finished."""
    for source in sources:
        _remove_leftovers(output, source)
    if workers == 0:
        for source in sources:
            yield source, _safely(source, output, settings, sync_judge)
        return
    yield from _in_processes(sources, output, settings, workers, sync_judge)


def _in_processes(
    sources: Sequence[Source],
    output: Path,
    settings: PreparationSettings,
    workers: int,
    sync_judge: SyncJudge | None,
) -> Iterator[tuple[Source, Outcome]]:
    """A file that hangs or kills its process costs that process alone."""
    import multiprocessing
    from queue import Queue

    from pebble import ProcessExpired, ProcessPool

    context = multiprocessing.get_context("spawn")
    finished: Queue = Queue()

    def schedule(stage: str, source: Source, work: Callable, arguments: list[Any], limit: float) -> None:
        future = pool.schedule(work, args=arguments, timeout=limit)
        future.add_done_callback(lambda done: finished.put((stage, source, done)))

    with ProcessPool(max_workers=workers, context=context, initializer=_one_thread) as pool:
        try:
            for source in sources:
                schedule("probed", source, _length, [source], PROBE_SECONDS)
            left = len(sources)
            while left:
                stage, source, future = finished.get()
                try:
                    result = future.result()
                except (Expired, ProcessExpired) as error:
                    left -= 1
                    yield source, _gave_up(source, output, error)
                    continue
                if stage == "probed":
                    limit = PROBE_SECONDS + SECONDS_PER_SECOND * result
                    schedule("made", source, _safely, [source, output, settings, sync_judge], limit)
                    continue
                left -= 1
                yield source, result
        except BaseException:
            pool.stop()
            raise


def _length(source: Source) -> float:
    """Seconds of video; 0 where it can't be read, which is then said by ``prepare_source``."""
    try:
        return probe(source.video).frames / LEAST_RATE
    except Exception:
        return 0.0


def _safely(
    source: Source, output: Path, settings: PreparationSettings, sync_judge: SyncJudge | None
) -> Outcome:
    """``prepare_source``, with whatever else a broken file makes a decoder raise as a rejection."""
    try:
        return prepare_source(source, output, settings, sync_judge)
    except UserError:
        raise  # the installation lacks a part
    except Exception as error:
        _remove_leftovers(output, source)
        first_line = (str(error).splitlines() or [""])[0]
        detail = f"{type(error).__name__}: {first_line}"
        return Outcome(rejections=[Rejection(source.name, None, 0.0, None, "not readable", detail)])


def _gave_up(source: Source, output: Path, error: Exception) -> Outcome:
    _remove_leftovers(output, source)
    detail = "took too long" if isinstance(error, Expired) else "its decoder crashed"
    return Outcome(rejections=[Rejection(source.name, None, 0.0, None, "not readable", detail)])


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
