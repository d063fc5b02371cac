"""A synthetic dataset: many clips, rendered in parallel, in the format of prepared real data."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from datamodules.clips.dataset_folder import make_dataset_folder, read_dataset_settings
from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.processes import process_pool
from datamodules.synthetic_faces.clips import DENSE_SUFFIX, make_clip
from datamodules.synthetic_faces.data_card import CARD_NAME, data_card
from datamodules.synthetic_faces.plans import ClipPlan, plan_clips
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech.espeak import espeak_paths
from datamodules.synthetic_faces.speech.natural import require_natural_voice
from datamodules.synthetic_faces.speech.recorded import require_recordings


def prepare_synthetic(
    output: Path,
    settings: Settings,
    workers: int = 2,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Render a dataset of synthetic talking heads.

    A clip is a function of the settings and its index, whatever the number of workers. Clips that are already there from
    an interrupted run with the same settings are kept; a complete dataset is returned at once.

    Args:
        output: Folder to write, see ``datamodules/clips/manifest.py``.
        settings: What the dataset holds.
        workers: Rendering processes; 0 renders in this process.
        device: Where to render.
        progress: Called with (finished, all) clips, first with what was kept.

    Returns:
        ``output``.

    Raises:
        UserError: A setting is out of range, or the folder holds other data.
    """
    output = Path(output)
    settings.check()
    plans = plan_clips(settings)
    same = read_dataset_settings(output) == settings.to_dict()
    records = _finished(plans, settings, output) if same else {}
    if len(records) == len(plans) and (output / MANIFEST_NAME).is_file():
        progress(len(plans), len(plans))
        return output
    _check_machine(workers, device)
    espeak_paths()
    if settings.natural_voices:
        require_natural_voice()
    if settings.recorded_voices:
        require_recordings(Path(settings.recordings))
    _claim(output, settings.to_dict())
    todo = [plan for plan in plans if plan.clip_id not in records]
    progress(len(records), len(plans))
    job = partial(_render_one, settings=settings, output=output, device=device)
    for record in _render(job, todo, output, workers):
        records[record.id] = record
        progress(len(records), len(plans))
    with whole_output(output / CARD_NAME) as temporary:
        temporary.write_text(data_card(settings, list(records.values())), encoding="utf-8")
    write_manifest(output, records.values())
    for name in records:
        _row_path(output, name).unlink(missing_ok=True)
    return output


def _check_machine(workers: int, device: str) -> None:
    if workers < 0:
        raise UserError(f"--workers {workers}: the number of processes cannot be negative")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: cannot be used here ({reason}); use cpu") from error


def _claim(output: Path, settings: dict) -> None:
    """Create the folder with its settings; refuse a folder that holds something else."""
    found = read_dataset_settings(output)
    # A hidden lock file, and an empty folder for clips, are what an interrupted start leaves.
    strange = {path.name for path in output.glob("[!.]*")} - {"clips"}
    if found is None and (strange or any((output / "clips").glob("*"))):
        raise UserError(f"{output}: holds something else than a synthetic dataset; choose another --output")
    if found is not None and found != settings:
        differing = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
        told = (
            f"other settings ({', '.join(differing)}): train on it as it is by data=folder data.root={output}"
        )
        raise UserError(f"{output}: holds a synthetic dataset with {told}, or choose another folder")
    make_dataset_folder(output, settings)


def _row_path(output: Path, clip_id: str) -> Path:
    return output / "clips" / f"{clip_id}.json"


def _finished(plans: list[ClipPlan], settings: Settings, output: Path) -> dict[str, ClipRecord]:
    """Clips that an earlier run finished, by id: of the manifest, or of row files, which are written after all others."""
    manifest = read_manifest(output) if (output / MANIFEST_NAME).is_file() else []
    listed = {record.id: record for record in manifest}
    finished = {}
    for name in (plan.clip_id for plan in plans):
        if (path := _row_path(output, name)).is_file():
            listed[name] = ClipRecord(**json.loads(path.read_text(encoding="utf-8")))
        if name in listed:
            dense = [f"clips/{name}{DENSE_SUFFIX}"] if settings.dense else []
            if all((output / file).is_file() for file in (*listed[name].files, *dense)):
                finished[name] = listed[name]
    return finished


def _render_one(plan: ClipPlan, settings: Settings, output: Path, device: str) -> ClipRecord:
    record = make_clip(plan, settings, output, device)
    with whole_output(_row_path(output, plan.clip_id)) as temporary:
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    return record


def _render(
    job: Callable[[ClipPlan], ClipRecord], plans: list[ClipPlan], output: Path, workers: int
) -> Iterator[ClipRecord]:
    """Records as clips finish, in any order."""
    if workers == 0 or not plans:
        yield from map(job, plans)
        return
    with process_pool(min(workers, len(plans)), "a rendering", output) as pool:
        for done in as_completed([pool.submit(job, plan) for plan in plans]):
            yield done.result()
