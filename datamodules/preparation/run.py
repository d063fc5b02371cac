"""Preparing many sources: in parallel, in shards, and on from where an interrupted run was.

A source is the unit of work. When all its clips are written, ``sources/ID.json`` says what became of it; only that counts, so
that a run that is killed anywhere leaves no half clip in the manifest and does nothing twice. The manifest and the list of
rejections are put together from these files at the end.
"""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.clips.manifest import SPLITS, ClipRecord, fill_splits, split_by_identity, write_manifest
from datamodules.clips.splits import SPLITS_NAME, write_splits
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.preparation.clip_files import SyncJudge
from datamodules.preparation.one_source import Outcome, prepare_safely
from datamodules.preparation.processes import in_processes, in_turn
from datamodules.preparation.settings import PreparationSettings
from datamodules.preparation.sources import DEVELOPMENT, Rejection, Source

SETTINGS_NAME = "dataset.json"
REJECTED_NAME = "rejected.jsonl"
OUTCOMES = "sources"
_CLIP_FILE = re.compile(r"\.?(?P<stem>.+?)(\.[0-9a-f]{12}\.part)?\.(mp4|wav|safetensors)")
_log = logging.getLogger(__name__)


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
        """The sources of this run; by a hash of their ids, so that it doesn't matter who else is listed."""
        return [source for source in sources if _digest(source.id) % self.count == self.index]

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.index + 1} of {self.count}"


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
        UserError: a setting is out of range, two sources share an id, the folder holds other data, another run does this
            shard, or the machine (not a video) is at fault: what is done is kept.
    """
    settings.check()
    output = Path(output)
    _check_ids(sources)
    _claim(output, settings)
    with _only_run(output, shard):
        mine = shard.of(sources)
        judged = sync_judge is not None
        todo = [source for source in mine if _outcome(output, source, judged) is None]
        remove_leftovers(output, todo)
        if progress:
            progress(len(mine) - len(todo), len(mine))
        work = in_turn if workers == 0 else partial(in_processes, workers=workers)
        results = work(todo, partial(prepare_safely, output=output, settings=settings, sync_judge=sync_judge))
        for done, (source, outcome) in enumerate(results, start=1):
            if outcome.gave_up:
                remove_leftovers(output, [source])
            _save(output, source, outcome, judged)
            if progress:
                progress(len(mine) - len(todo) + done, len(mine))
        return finish(sources, output, settings)


@contextmanager
def _only_run(output: Path, shard: Shard) -> Iterator[None]:
    """Refuses a second run of a shard; the lock is freed when its holder ends, however that happens."""
    lock = FileLock(output / OUTCOMES / f".shard-{shard.index + 1}-{shard.count}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{output}: another run prepares part {shard.name}; wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


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
    if unlisted := {Path(name).stem for name in _finished_files(output)} - {source.id for source in sources}:
        told = f"such as {min(unlisted)}"
        _log.warning(
            "%s: clips of %d videos that are no longer listed are left out, %s", output, len(unlisted), told
        )
    splits = _splits(
        [source for source in sources if source.id in outcomes and outcomes[source.id].records], settings
    )
    identities = {source.id: source.identity for source in sources}
    records = [
        replace(record, split=splits[name], identity=identities[name], voice=identities[name])
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


def _claim(output: Path, settings: PreparationSettings) -> None:
    """Creates the folder with its settings; refuses a folder that holds something else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, expected a folder for the dataset; choose another --output")
    path = output / SETTINGS_NAME
    strange = output.is_dir() and not path.is_file() and any(output.glob("[!.]*"))
    if strange and not path.is_file():  # another shard may just have made it
        raise UserError(f"{output}: holds something else; choose another --output")
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        asked, free = settings.to_dict(), settings.of_lists()
        if changed := [name for name in asked if name not in free and found.get(name) != asked[name]]:
            told = ", ".join(f"{name} {found.get(name)}, now {asked[name]}" for name in changed)
            raise UserError(
                f"{output}: holds a dataset with other settings ({told}); choose another --output"
            )
    try:
        output.mkdir(parents=True, exist_ok=True)
        with whole_output(path) as temporary:
            temporary.write_text(
                json.dumps(settings.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8"
            )
        for name in ("clips", OUTCOMES):
            (output / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{output}: the folder cannot be created ({error.strerror}); choose another --output"
        ) from error


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _fingerprint(source: Source) -> str:
    """Changes with the files and with what is asked of them."""
    facts: list[Any] = [
        source.name,
        [asdict(span) for span in source.spans],
        [asdict(r) for r in source.rejected],
    ]
    for path in (source.video, source.sound):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        facts.append(None if stat is None else [stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _outcome(output: Path, source: Source, judged: bool = False) -> Outcome | None:
    """What an earlier run found, if the files are still the same and all clips are there."""
    try:
        values = json.loads((output / OUTCOMES / f"{source.id}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if values.pop("fingerprint", None) != _fingerprint(source) or judged > values.pop("judged", False):
        return None
    outcome = Outcome.from_dict(values)
    files = [
        name
        for record in outcome.records
        for name in (record.video, record.audio, record.annotations)
        if name
    ]
    return outcome if all((output / name).is_file() for name in files) else None


def _save(output: Path, source: Source, outcome: Outcome, judged: bool) -> None:
    facts = {"fingerprint": _fingerprint(source), "judged": judged, **outcome.to_dict()}
    with whole_output(output / OUTCOMES / f"{source.id}.json") as temporary:
        temporary.write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")


def remove_leftovers(output: Path, sources: Sequence[Source]) -> None:
    """Clips and half-written files of runs that did not finish these sources; others' are left alone."""
    names = {name for source in sources for name in (source.id, *(span.id for span in source.spans))}
    if not names:
        return
    with os.scandir(output / "clips") as entries:
        files = [entry.name for entry in entries]
    for file in files:
        match = _CLIP_FILE.fullmatch(file)
        if match and (match["stem"] in names or re.sub(r"_\d{3,}$", "", match["stem"]) in names):
            (output / "clips" / file).unlink(missing_ok=True)
