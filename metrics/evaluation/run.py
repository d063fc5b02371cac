"""The evaluation of rendered clips, whoever rendered them: one code path and one form of result."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from metrics.evaluation.aggregate import aggregate, lag_curves
from metrics.evaluation.clip_measures import each_clip, measure_clip
from metrics.evaluation.clip_results import ClipResult, RowFamilies
from metrics.evaluation.clips import ClipSet
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.picture_distances import PictureDistances
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.protocol_names import FREE, short_hash
from metrics.evaluation.registry import MEASURES, measure_hashes, measures_of
from metrics.evaluation.remarks import (
    absent_judges,
    clips_without_value,
    notes_of,
    out_of_field,
    without_value,
)
from metrics.evaluation.speech import add_speech


def evaluate(
    clips: Iterable[RenderedClip],
    data: ClipSet,
    protocol: Protocol,
    judges: Judges,
    families: RowFamilies,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge the rendered clips of ``data``, which come in their order: of a model, of a folder of videos, ...

    Returns:
        The content of results.json but ``method`` and ``run``. Metrics without a suffix belong to the row they are meant
        for, ``NAME_ROW`` to another row. ``protocol`` holds its ``name``, the hashes of ``measures`` and ``rows``, the
        identity of the ``data``, the hash of their ``files``' bytes, one ``hash`` over name, data and the task's measures,
        and the ``settings``.
    """
    judges = with_data(judges, data)
    record = protocol_record(protocol, data, judges, families)
    pools = PictureDistances(judges, protocol, data.judged)
    missing, notes = absent_judges(judges, protocol.task), out_of_field(protocol, data)
    results: list[ClipResult] = []

    def measure(clip: RenderedClip) -> ClipResult:
        result, rows = measure_clip(clip, judges, protocol, families)
        pools.add(rows, clip.files)  # last of all: nothing can be forgotten of a clip that fails afterwards
        return result

    for _, result in each_clip(clips, measure, missing, progress, len(data.judged), "evaluating"):
        results.append(result)
        missing += result.missing
    missing += add_speech(results, data, protocol, judges)
    metrics = {}
    if results:
        pooled, pool_notes = pools.compute()
        metrics = aggregate(results, protocol, judges) | pooled
        notes += notes_of(results, judges, len(data.judged)) + pool_notes
        missing += without_value(metrics, protocol) + clips_without_value(results, metrics)
    found = {
        "protocol": record,
        "metrics": {name: asdict(interval) for name, interval in metrics.items()},
        "clips": [{"clip": one.files.name, "identity": one.files.identity, **one.values} for one in results],
        "missing": missing,
        "notes": notes,
    }
    curves = lag_curves(results)
    return {**found, "lag_curves": curves} if curves else found


def with_data(judges: Judges, data: ClipSet) -> Judges:
    """The judges and, among them, what the data themselves know: phones and the truth of annotated clips."""
    hashes = dict(judges.hashes)
    if (phones := data.phones_hash()) is not None:
        hashes["phones"] = phones
    if any(clip.annotations for clip in data.judged):
        hashes["truth"] = data.files_hash("annotations")
    return replace(judges, hashes=hashes)


def protocol_record(
    protocol: Protocol, data: ClipSet, judges: Judges, families: RowFamilies
) -> dict[str, Any]:
    """By what is judged: results whose hashes of a measure and identities of the data are equal may be ranked by it."""
    ranked = measure_hashes(measures_of(protocol.task), protocol, judges.hashes)
    of_model = families.reconstruction and families.generation  # nobody else is judged by both
    known = [one for one in MEASURES.values() if one.settings] if of_model else []
    data = data.sources() if protocol.task == FREE else data
    identity = data.identity(protocol.reading)
    return {
        "name": protocol.name,
        "hash": short_hash({"name": protocol.name, "data": identity, "measures": ranked}),
        "data": identity,
        "files": data.files_hash("reference", "speech", "phones", "annotations"),
        "measures": {**ranked, **measure_hashes(known, protocol, judges.hashes)},
        "rows": {
            "codec": short_hash({"codec": asdict(protocol.codec)})
        },  # what the frames of that row hang on
        "settings": protocol.settings(),
    }
