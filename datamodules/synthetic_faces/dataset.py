"""A synthetic dataset: many clips, rendered in parallel, in the format of prepared real data."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.manifest import MANIFEST_NAME, ClipRecord, read_manifest, write_manifest
from datamodules.synthetic_faces.clips import ClipPlan, make_clip
from datamodules.synthetic_faces.identity import DOMAINS

VERSION = 2
"""Raised whenever the same settings give other clips."""
SETTINGS_NAME = "dataset.json"
CLIPS_PER_IDENTITY = 5
MIN_CLIPS = 3
SIZES = (32, 1024)


def prepare_synthetic(
    output: Path,
    clips: int,
    size: int = 128,
    seed: int = 0,
    workers: int = 2,
    domain: str = "wide",
    seconds: tuple[float, float] = (4.0, 8.0),
    identities: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Renders a dataset of synthetic talking heads.

    Splits (80/10/10, each at least one clip) share neither identity nor voice nor sentence. A clip is a
    function of the settings and its index, whatever the number of workers. Clips that are already there
    from an interrupted run with the same settings are kept; a complete dataset is returned at once.

    Args:
        output: folder to write, see ``datamodules/manifest.py``.
        clips: number of clips, at least 3.
        size: edge of the frames in pixels.
        seed: another seed gives other identities, sentences and motion.
        workers: rendering processes; 0 renders in this process.
        domain: ``plain`` (calm light, plain background, no noise) or ``wide``.
        seconds: shortest and longest clip.
        identities: number of identities, at least 3; by default one for every five clips.
        progress: called with (finished, all) clips, first with what was kept.

    Returns:
        ``output``.

    Raises:
        UserError: a setting is out of range, or the folder holds other data.
    """
    output = Path(output)
    _check(clips, size, seed, workers, domain, seconds, identities)
    plans = plan_clips(clips, size, seed, domain, seconds, identities)
    settings = {
        "version": VERSION, "clips": clips, "size": size, "seed": seed, "domain": domain,
        "seconds": list(seconds), "identities": 1 + max(plan.identity for plan in plans),
    }  # fmt: skip
    if _is_complete(output, settings):
        if progress:
            progress(clips, clips)
        return output
    _claim(output, settings)
    records = [record for plan in plans if (record := _finished(plan, output)) is not None]
    kept = {record.id for record in records}
    if progress:
        progress(len(records), clips)
    for record in _render([plan for plan in plans if plan.clip_id not in kept], output, workers):
        records.append(record)
        if progress:
            progress(len(records), clips)
    write_manifest(output, records)
    for record in records:
        _row_path(output, record.id).unlink(missing_ok=True)
    return output


def plan_clips(
    clips: int, size: int, seed: int, domain: str, seconds: tuple[float, float], identities: int | None = None
) -> list[ClipPlan]:
    """Who is seen in which clip and split.

    Identities take turns in runs of consecutive clips; of every ten identities the second goes to val, the
    third to test.
    """
    number = identities or max(3, round(clips / CLIPS_PER_IDENTITY))
    splits = ["val" if place % 10 == 1 else "test" if place % 10 == 2 else "train" for place in range(number)]
    plans = []
    for index in range(clips):
        identity = index * number // clips
        plans.append(
            ClipPlan(index, identity, splits[identity], size, seed, domain, (seconds[0], seconds[1]))
        )
    return plans


def _check(
    clips: int,
    size: int,
    seed: int,
    workers: int,
    domain: str,
    seconds: tuple[float, float],
    identities: int | None,
) -> None:
    checks = [
        (
            clips >= MIN_CLIPS,
            f"--clips {clips}: a dataset needs at least {MIN_CLIPS} clips, one for each split",
        ),
        (
            SIZES[0] <= size <= SIZES[1] and size % 2 == 0,
            f"--size {size}: frames are {SIZES[0]} to {SIZES[1]} pixels wide, an even number",
        ),
        (seed >= 0, f"--seed {seed}: use a whole number from 0"),
        (workers >= 0, f"--workers {workers}: the number of processes cannot be negative"),
        (domain in DOMAINS, f"--domain {domain}: choose one of {', '.join(DOMAINS)}"),
        (
            0.2 <= seconds[0] <= seconds[1],
            f"clips of {seconds[0]} to {seconds[1]} s: at least 0.2 s, shortest first",
        ),
        (
            identities is None or MIN_CLIPS <= identities <= clips,
            f"{identities} identities for {clips} clips: at least 3, at most one for each clip",
        ),
    ]
    for good, problem in checks:
        if not good:
            raise UserError(problem)


def _is_complete(output: Path, settings: dict) -> bool:
    """Whether the folder holds the whole dataset of these settings."""
    if _read_settings(output) != settings or not (output / MANIFEST_NAME).is_file():
        return False
    records = read_manifest(output)
    files = [name for record in records for name in (record.video, record.audio, record.annotations) if name]
    return len(records) == settings["clips"] and all((output / name).is_file() for name in files)


def _claim(output: Path, settings: dict) -> None:
    """Creates the folder with its settings; refuses a folder that holds something else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file, expected a folder for the dataset; choose another --output")
    found = _read_settings(output)
    if found is None and (output / MANIFEST_NAME).exists():
        raise UserError(f"{output}: holds a dataset that is not synthetic; choose another --output")
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
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON ({error.msg}); remove the folder or choose another --output"
        ) from error


def _row_path(output: Path, clip_id: str) -> Path:
    return output / "clips" / f"{clip_id}.json"


def _finished(plan: ClipPlan, output: Path) -> ClipRecord | None:
    """The record of a clip that an earlier run finished; its row file was written after all others."""
    path = _row_path(output, plan.clip_id)
    if not path.is_file():
        return None
    record = ClipRecord(**json.loads(path.read_text(encoding="utf-8")))
    names = (record.video, record.audio, record.annotations)
    return record if all(name and (output / name).is_file() for name in names) else None


def _render_one(plan: ClipPlan, output: Path) -> ClipRecord:
    record = make_clip(plan, output)
    with whole_output(_row_path(output, plan.clip_id)) as temporary:
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    return record


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _render(plans: list[ClipPlan], output: Path, workers: int) -> Iterator[ClipRecord]:
    """Records as clips finish, in any order."""
    if workers == 0:
        for plan in plans:
            yield _render_one(plan, output)
        return
    if not plans:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(plans)), mp_context=context, initializer=_one_thread) as pool:
        jobs = [pool.submit(_render_one, plan, output) for plan in plans]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{output}: a rendering process died, perhaps for lack of memory; run again with fewer workers "
                "(a script that starts this needs `if __name__ == '__main__':`)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
