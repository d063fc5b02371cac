"""A synthetic dataset: many clips, rendered in parallel, in the format of prepared real data."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path

from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.synthetic_faces.clips import DENSE_SUFFIX, make_clip
from datamodules.synthetic_faces.data_card import CARD_NAME, data_card
from datamodules.synthetic_faces.plans import ClipPlan, plan_clips
from datamodules.synthetic_faces.settings import Settings
from datamodules.synthetic_faces.speech.espeak import require_espeak

SETTINGS_NAME = "dataset.json"


def prepare_synthetic(
    output: Path,
    settings: Settings,
    workers: int = 2,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Renders a dataset of synthetic talking heads.

    Splits (80/10/10, each at least one clip) share neither identity nor voice nor sentence. A clip is a
    function of the settings and its index, whatever the number of workers. Clips that are already there
    from an interrupted run with the same settings are kept; a complete dataset is returned at once.

    Args:
        output: folder to write, see ``datamodules/clips/manifest.py``.
        settings: what the dataset holds.
        workers: rendering processes; 0 renders in this process.
        device: where to render.
        progress: called with (finished, all) clips, first with what was kept.

    Returns:
        ``output``.

    Raises:
        UserError: a setting is out of range, or the folder holds other data.
    """
    output = Path(output)
    settings.check()
    plans = plan_clips(settings)
    described = settings.to_dict()
    if _is_complete(output, settings, len(plans)):
        if progress:
            progress(len(plans), len(plans))
        return output
    _check_machine(workers, device)
    require_espeak()
    _claim(output, described)
    listed = {record.id: record for record in read_manifest(output)} if _manifest(output).is_file() else {}
    records = [record for plan in plans if (record := _finished(plan, listed, settings, output)) is not None]
    kept = {record.id for record in records}
    if progress:
        progress(len(records), len(plans))
    job = partial(_render_one, settings=settings, output=output, device=device)
    for record in _render(job, [plan for plan in plans if plan.clip_id not in kept], output, workers):
        records.append(record)
        if progress:
            progress(len(records), len(plans))
    with whole_output(output / CARD_NAME) as temporary:
        temporary.write_text(data_card(settings, records), encoding="utf-8")
    write_manifest(output, records)
    for record in records:
        _row_path(output, record.id).unlink(missing_ok=True)
    return output


def _check_machine(workers: int, device: str) -> None:
    if workers < 0:
        raise UserError(f"--workers {workers}: the number of processes cannot be negative")
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: cannot be used here ({reason}); use cpu") from error


def _is_complete(output: Path, settings: Settings, clips: int) -> bool:
    """Whether the folder holds the whole dataset of these settings."""
    if _read_settings(output) != settings.to_dict() or not _manifest(output).is_file():
        return False
    records = read_manifest(output)
    return len(records) == clips and all(_has_files(record, settings, output) for record in records)


def _has_files(record: ClipRecord, settings: Settings, output: Path) -> bool:
    """Whether all files of a clip are there."""
    names = [record.video, record.audio, record.annotations]
    if settings.dense:
        names.append(f"clips/{record.id}{DENSE_SUFFIX}")
    return all(name and (output / name).is_file() for name in names)


def _claim(output: Path, settings: dict) -> None:
    """Creates the folder with its settings; refuses a folder that holds something else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, expected a folder for the dataset; choose another --output")
    found = _read_settings(output)
    # A hidden lock file, and an empty folder for clips, are what an interrupted start leaves.
    strange = {path.name for path in output.glob("[!.]*")} - {"clips"}
    if found is None and (strange or any((output / "clips").glob("*"))):
        raise UserError(f"{output}: holds something else than a synthetic dataset; choose another --output")
    if found is not None and found != settings:
        differing = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
        raise UserError(
            f"{output}: holds a synthetic dataset with other settings ({', '.join(differing)}); "
            "remove it or choose another --output"
        )
    try:
        (output / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{output}: the folder cannot be created ({error.strerror}); choose another --output"
        ) from error
    if found is None:
        with whole_output(output / SETTINGS_NAME) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_settings(output: Path) -> dict | None:
    path = output / SETTINGS_NAME
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise UserError(
            f"{path}: not valid JSON ({error}); remove the folder or choose another --output"
        ) from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: not the settings of a synthetic dataset; choose another --output")
    return settings


def _manifest(output: Path) -> Path:
    return output / MANIFEST_NAME


def _row_path(output: Path, clip_id: str) -> Path:
    return output / "clips" / f"{clip_id}.json"


def _finished(
    plan: ClipPlan, listed: dict[str, ClipRecord], settings: Settings, output: Path
) -> ClipRecord | None:
    """The record of a clip that an earlier run finished: in the manifest, or in a row file, written after all others."""
    record, path = listed.get(plan.clip_id), _row_path(output, plan.clip_id)
    if path.is_file():
        record = ClipRecord(**json.loads(path.read_text(encoding="utf-8")))
    return record if record is not None and _has_files(record, settings, output) else None


def _render_one(plan: ClipPlan, settings: Settings, output: Path, device: str) -> ClipRecord:
    record = make_clip(plan, settings, output, device)
    with whole_output(_row_path(output, plan.clip_id)) as temporary:
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    return record


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _render(
    job: Callable[[ClipPlan], ClipRecord], plans: list[ClipPlan], output: Path, workers: int
) -> Iterator[ClipRecord]:
    """Records as clips finish, in any order."""
    if workers == 0:
        for plan in plans:
            yield job(plan)
        return
    if not plans:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(plans)), mp_context=context, initializer=_one_thread) as pool:
        jobs = [pool.submit(job, plan) for plan in plans]
        try:
            for done in as_completed(jobs):
                yield done.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{output}: a rendering process died, perhaps for lack of memory; run again with fewer workers "
                "(a script that starts this needs `if __name__ == '__main__':`)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
