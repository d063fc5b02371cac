"""``ifmdm prepare``: makes clips and a manifest, of synthetic heads or of recorded videos.

Every setting of a dataset is a flag of the same name; what takes long to import is imported when the work begins.
"""

import argparse
import dataclasses
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.batches import FPS
from datamodules.clips.manifest import SPLITS
from datamodules.errors import UserError
from datamodules.preparation.settings import PreparationSettings, read_settings
from datamodules.preparation.sources import WHOLE, Availability, Shard
from datamodules.progress import show_progress
from datamodules.synthetic_faces.settings import Settings
from experiments.startup import cores_at_hand

if TYPE_CHECKING:
    from datamodules.preparation.run import Prepared

log = logging.getLogger(__name__)

RECORDINGS = {
    "hdtf": "HDTF: its published annotation files and the originals they name",
    "voxceleb": "VoxCeleb1 and VoxCeleb2 in their official layouts",
    "folder": "any folder of videos",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sources of clips and their flags."""
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for kind, text in RECORDINGS.items():
        recorded = sources.add_parser(kind, help=text, description=text)
        _add_places(recorded, kind)
        _add_flags(recorded, PreparationSettings, unset=True)
    text = "talking heads made on the spot, with exact truth per frame"
    synthetic = sources.add_parser("synthetic", help=text)
    synthetic.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    _add_flags(synthetic, Settings)
    text = "where to render, such as cuda (default: cpu)"
    synthetic.add_argument("--device", default="cpu", metavar="NAME", help=text)


def _add_places(parser: argparse.ArgumentParser, kind: str) -> None:
    """Flags of recorded videos that clips do not depend on: where they come from, where they go, in how many parts."""

    def flag(name: str, metavar: str, text: str, **options: Any) -> None:
        parser.add_argument(name, metavar=metavar, help=text, **({"type": Path} | options))

    flag("--raw", "DIR", "folder of the raw videos; nothing in it is changed", required=True)
    flag("--output", "DIR", "folder of the dataset; an interrupted run goes on", required=True)
    if kind == "hdtf":
        lists = "folder of HDTF's annotation files (HDTF_dataset of its repository)"
        flag("--annotations", "DIR", lists, required=True)
        text = "first get the missing originals with yt-dlp into --raw"
        parser.add_argument("--download", action="store_true", help=text)
    if kind == "folder":
        text = "who is seen: columns video (below --raw) and identity (default: the first folder below --raw)"
        flag("--identities", "CSV", text)
    flag("--shard", "I/N", "do the I-th of N parts, such as 1/8", type=_shard, default=WHOLE)
    text = "litdata: also write the clips as a stream for object storage, into the folder 'stream' (default: files)"
    parser.add_argument("--format", choices=("files", "litdata"), default="files", help=text)
    flag("--settings", "FILE", "YAML file with settings by name; flags count more")


def _add_flags(parser: argparse.ArgumentParser, settings: type, unset: bool = False) -> None:
    """One flag for each field of ``settings``, by its metadata (``help``, ``choices``), and the number of processes.

    Flags that are not given are the fields' defaults, or with ``unset`` None.
    """
    for one in dataclasses.fields(settings):
        name, text = "--" + one.name.replace("_", "-"), one.metadata["help"]
        options: dict[str, Any] = {"default": None if unset else one.default}
        if one.default is dataclasses.MISSING:
            options = {"required": True, "type": int, "metavar": "N"}
        elif isinstance(one.default, bool):
            options["action"] = argparse.BooleanOptionalAction if unset else "store_true"
        elif isinstance(one.default, tuple):
            options |= {"type": float, "nargs": len(one.default), "metavar": ("A", "B")}
            text += f" (default: {' '.join(f'{value:g}' for value in one.default)})"
        elif "choices" in one.metadata:
            options["choices"] = one.metadata["choices"]
            text += f" (default: {one.default})"
        elif one.default == "":
            options["metavar"] = "DIR"
        elif one.default is None:
            options |= {"type": int, "metavar": "N"}
        else:
            options |= {"type": type(one.default), "metavar": "X"}
            text += f" (default: {one.default})"
        parser.add_argument(name, help=text.replace("%", "%%"), **options)
    text = "processes (default: all cores)"
    parser.add_argument("--workers", type=int, default=cores_at_hand(), metavar="N", help=text)


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/8")
    return Shard(int(match[1]) - 1, int(match[2]))


def run(args: argparse.Namespace) -> int:
    """Make the dataset; an interrupted one is continued.

    Raises:
        UserError: A setting is out of range, a folder is not what it should be, or no clip was kept.
    """
    if args.source in RECORDINGS:
        _prepare_recordings(args)
        return 0
    from datamodules.synthetic_faces.dataset import prepare_synthetic

    settings = synthetic_settings(args)
    with show_progress("rendering clips") as progress:
        print(prepare_synthetic(args.output, settings, args.workers, args.device, progress))
    return 0


def synthetic_settings(args: argparse.Namespace) -> Settings:
    """What the flags of ``prepare synthetic`` ask for."""
    values = {one.name: getattr(args, one.name) for one in dataclasses.fields(Settings)}
    return Settings(**values | {"seconds": tuple(args.seconds)})


def recording_settings(args: argparse.Namespace) -> PreparationSettings:
    """Defaults, then the settings file, then flags; ``UserError`` if the file names what is no setting."""
    values = read_settings(args.settings) if args.settings else {}
    for one in dataclasses.fields(PreparationSettings):
        if (given := getattr(args, one.name)) is not None:
            values[one.name] = given
    return PreparationSettings(**values)


def _prepare_recordings(args: argparse.Namespace) -> None:
    """Make the clips, then the report of what became of each video."""
    settings = recording_settings(args)
    settings.check()
    _check_places(args)
    found = find_sources(args)

    from datamodules.preparation.run import prepare
    from experiments.report.preparation import write_preparation_report

    with show_progress("preparing videos") as progress:
        prepared = prepare(found.sources, args.output, settings, args.workers, args.shard, progress=progress)
    page = write_preparation_report(prepared, found, args.output, RECORDINGS[args.source])
    if found.missing:
        log.info("not there: %d listed clips, such as %s", len(found.missing), found.missing[0])
    _summarise(prepared, page)
    if args.format == "litdata":
        from datamodules.streaming import write_stream

        if prepared.missing:
            log.info("stream: written by the run that finishes the last video")
        else:
            log.info("stream: %s", write_stream(args.output))
    elif (args.output / "stream").is_dir():
        log.warning(
            "%s: may be of an earlier state; add --format litdata to renew it", args.output / "stream"
        )


def _check_places(args: argparse.Namespace) -> None:
    if args.output.resolve().is_relative_to(args.raw.resolve()):
        raise UserError(
            f"{args.output}: lies in the folder of the raw videos, its clips would be taken for more of them"
        )
    if args.shard.count > 1 and getattr(args, "download", False):
        raise UserError(
            "--download fetches all that is missing: run it once without --shard, then the shards without it"
        )
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least one process")
    if args.format == "litdata":
        from datamodules.streaming import require_litdata

        require_litdata()


def find_sources(args: argparse.Namespace) -> Availability:
    """What there is to prepare; ``UserError`` if it is nothing, or not what was asked for."""
    if args.source == "folder":
        from datamodules.preparation.folder import folder_sources

        return Availability(folder_sources(args.raw, args.identities), [], [])
    if args.source == "voxceleb":
        from datamodules.preparation.voxceleb import voxceleb_sources

        return voxceleb_sources(args.raw)
    from datamodules.preparation.hdtf import download_missing, hdtf_sources, read_hdtf_annotations

    annotations = read_hdtf_annotations(args.annotations)
    problems = download_missing(annotations, args.raw) if args.download else []
    found = hdtf_sources(annotations, args.raw)
    if not found.sources:
        raise UserError(
            f"{args.raw}: holds none of the originals that the annotations list (the first is "
            f"{annotations.clips[0].source}.mp4); add --download, or put them there"
        )
    found.notes.extend(problems)
    return found


def _summarise(prepared: "Prepared", page: Path) -> None:
    """Log what was kept and what not, and why."""
    hours = sum(record.frames for record in prepared.records) / FPS / 3600
    log.info("kept: %d clips, %.2f hours", len(prepared.records), hours)
    for reason, count in prepared.reasons().items():
        log.info("rejected: %d %s", count, reason)
    if prepared.reasons().keys() & {"no sound", "silent"}:
        log.info("stage 1 can learn from clips without sound, too: --no-require-sound keeps them")
    if prepared.missing:
        log.info("left for other shards: %d videos", len(prepared.missing))
    empty = [name for name in SPLITS if all(record.split != name for record in prepared.records)]
    if prepared.records and not prepared.missing and empty:
        people = len({record.identity for record in prepared.records})
        log.warning("no clip of the %d people is in the split %s", people, " and ".join(empty))
    log.info("report: %s", page)
    if not prepared.records and not prepared.missing:
        raise UserError(f"{page}: nothing was kept; see there why")
