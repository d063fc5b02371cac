"""Preparing many sources: in parallel, in shards, and on from where an interrupted run was.

A source is the unit of work. When all its clips are written, ``sources/ID.json`` says what became of it; only that counts, so
that a run that is killed anywhere leaves no half clip in the manifest and does nothing twice. The manifest and the list of
rejections are put together from these files at the end.
"""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.batches import FPS
from datamodules.clips.dataset_folder import SETTINGS_NAME, make_dataset_folder, read_dataset_settings
from datamodules.clips.manifest import SPLITS, ClipRecord, write_manifest
from datamodules.clips.splits import SPLITS_NAME, split_by_identity, write_splits
from datamodules.errors import UserError
from datamodules.files import write_text
from datamodules.preparation.clip_writing import SyncMeasure
from datamodules.preparation.pipeline import Outcome, PrepareOne, prepare_safely, prepare_source
from datamodules.preparation.processes import in_processes
from datamodules.preparation.settings import OF_LISTS, PreparationSettings
from datamodules.preparation.sources import DEVELOPMENT, WHOLE, Rejection, Shard, Source

REJECTED_NAME = "rejected.jsonl"
OUTCOMES = "sources"
_CLIP_FILE = re.compile(r"\.?(?P<stem>.+?)(\.[0-9a-f]{12}\.part)?\.(mp4|wav|safetensors)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder: all clips with their splits, all that was not kept, what became of each source, by its id.

    ``missing`` are the ids of sources that no run has finished yet.
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
    shard: Shard = WHOLE,
    measure_sync: SyncMeasure | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    prepare_one: PrepareOne = prepare_source,
) -> Prepared:
    """Make clips of all sources that no earlier run has finished, then the manifest.

    Args:
        sources: With distinct ids, the same in all shards.
        output: Dataset folder.
        settings: How to cut, and what to keep.
        workers: Processes; 0 works in this one, without limits of time.
        shard: Which of the sources are done here.
        measure_sync: Measures how late a clip's sound is; picklable, as is ``prepare_one``.
        progress: Called with (finished, all) sources of this shard.
        prepare_one: Makes the clips of one source.

    Raises:
        UserError: A setting is out of range, two sources share an id, the folder holds other data, another run does this
            shard, or the machine (not a video) is at fault: what is done is kept.
    """
    settings.check()
    output = Path(output)
    _check_ids(sources)
    _claim(output, settings)
    with _only_run(output, shard):
        mine = shard.of(sources)
        judged = measure_sync is not None
        todo = [source for source in mine if _outcome(output, source, judged) is None]
        done = len(mine) - len(todo)
        remove_leftovers(output, todo)
        progress(done, len(mine))
        job = partial(
            prepare_safely,
            output=output,
            settings=settings,
            measure_sync=measure_sync,
            prepare_one=prepare_one,
        )
        here = ((source, job(source)) for source in todo)
        for source, outcome in in_processes(todo, job, workers) if workers else here:
            if outcome.gave_up:
                remove_leftovers(output, [source])
            save(output, source, outcome, judged)
            done += 1
            progress(done, len(mine))
        return until_settled(output, partial(write_lists, sources, output, settings))


def _only_run(output: Path, shard: Shard) -> AbstractContextManager:
    """The lock of a shard, which no second run gets; it is freed when its holder ends, however that happens."""
    lock = FileLock(output / OUTCOMES / f".shard-{shard.index + 1}-{shard.count}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        told = f"{output}: another run prepares part {shard.name}; wait for it, or stop it"
        raise UserError(told) from None


def until_settled(output: Path, write: Callable[[], Prepared]) -> Prepared:
    """Write again as long as other shards finish sources meanwhile.

    Shards that end together may each lack the other's last source: who sees new ones after writing writes again.
    """
    while True:
        before = _finished_files(output)
        prepared = write()
        if _finished_files(output) == before:
            return prepared


def _finished_files(output: Path) -> set[str]:
    return {path.name for path in (output / OUTCOMES).glob("[!.]*.json")}


def write_lists(sources: Sequence[Source], output: Path, settings: PreparationSettings) -> Prepared:
    """Write manifest, splits and rejections of all sources that are finished so far."""
    finished = {source.id: found for source in sources if (found := _outcome(output, source)) is not None}
    outcomes = without_duplicates(finished)
    if unlisted := {Path(name).stem for name in _finished_files(output)} - {source.id for source in sources}:
        told = "%s: clips of %d videos that are no longer listed are left out, such as %s"
        _log.warning(told, output, len(unlisted), min(unlisted))
    with_clips = [source for source in sources if source.id in outcomes and outcomes[source.id].records]
    splits = _splits(with_clips, settings)
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
    lines = "".join(json.dumps(asdict(item), allow_nan=False) + "\n" for item in rejections)
    write_text(output / REJECTED_NAME, lines)
    missing = [source.id for source in sources if source.id not in outcomes]
    return Prepared(records, rejections, outcomes, missing)


def without_duplicates(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Each recording once, the first: it may lie in the folders of two people, whose splits differ."""
    first: dict[str, ClipRecord] = {}
    told: set[tuple[str, str]] = set()
    unique = {}
    for name, outcome in outcomes.items():
        kept, lost = [], list(outcome.rejections)
        for record in outcome.records:
            original = first.setdefault(record.sha256, record)
            if original is record:
                kept.append(record)
                continue
            pair = (original.source, record.source)
            if pair not in told:
                _log.warning("%s and %s are the same recording: the second is left out", *pair)
            told.add(pair)
            place: dict[str, Any] = {"clip": record.id, "start": record.start}
            place["end"] = record.start + record.frames / FPS
            detail = f"the same pictures as {original.source}"
            lost.append(Rejection(record.source, reason="duplicate", detail=detail, **place))
        unique[name] = replace(outcome, records=kept, rejections=lost)
    return unique


def _splits(sources: Sequence[Source], settings: PreparationSettings) -> dict[str, str]:
    """Split of each source that has clips, by its id."""
    found = {source.id: source.split for source in sources if source.split in SPLITS}
    for kind, test in ((DEVELOPMENT, 0.0), (None, settings.test)):
        shares = (1 - settings.val - test, settings.val, test)
        group = [source for source in sources if source.split == kind]
        assigned = split_by_identity({source.identity for source in group}, shares, settings.seed)
        found |= {source.id: assigned[source.identity] for source in group}
    return {name: split for name, split in found.items() if split is not None}


def _check_ids(sources: Sequence[Source]) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        for name in source.names:
            if name in seen:
                raise UserError(f"{source.name} and {seen[name]} would both be called {name}; rename one")
            seen[name] = source.name


def _claim(output: Path, settings: PreparationSettings) -> None:
    """Create the folder with its settings; refuse a folder that holds something else."""
    path, asked = output / SETTINGS_NAME, settings.to_dict()
    strange = output.is_dir() and not path.is_file() and any(output.glob("[!.]*"))
    if strange and not path.is_file():  # another shard may just have made it
        raise UserError(f"{output}: holds something else; choose another --output")
    found = read_dataset_settings(output) or asked
    if changed := [name for name in asked if name not in OF_LISTS and found.get(name) != asked[name]]:
        told = ", ".join(f"{name} {found.get(name)}, now {asked[name]}" for name in changed)
        raise UserError(f"{output}: holds a dataset with other settings ({told}); choose another --output")
    make_dataset_folder(output, asked, OUTCOMES)


def _fingerprint(source: Source) -> str:
    """Changes with the files and with what is asked of them."""
    facts: list[Any] = [source.name, *(list(map(asdict, part)) for part in (source.spans, source.rejected))]
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
    files = [name for record in outcome.records for name in record.files]
    return outcome if all((output / name).is_file() for name in files) else None


def save(output: Path, source: Source, outcome: Outcome, judged: bool) -> None:
    """Write down that a source is finished; ``judged``: its lip sync was measured."""
    facts = {"fingerprint": _fingerprint(source), "judged": judged, **asdict(outcome)}
    write_text(output / OUTCOMES / f"{source.id}.json", json.dumps(facts, allow_nan=False))


def remove_leftovers(output: Path, sources: Sequence[Source]) -> None:
    """Delete clips and half-written files of runs that did not finish these sources; others' are left alone."""
    names = set().union(*(source.names for source in sources))
    for file in list((output / "clips").iterdir()) if names else ():
        match = _CLIP_FILE.fullmatch(file.name)
        if match and (match["stem"] in names or re.sub(r"_\d{3,}$", "", match["stem"]) in names):
            file.unlink(missing_ok=True)
