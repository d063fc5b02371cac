"""``ifmdm prepare hdtf|voxceleb|folder``: recorded videos to clips and a manifest, with a report of what became of each."""

import argparse
import dataclasses
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.clips.manifest import SPLITS
from datamodules.errors import UserError
from datamodules.preparation.settings import PreparationSettings, read_settings
from datamodules.preparation.sources import Availability, file_stem
from experiments.startup import cores_at_hand

if TYPE_CHECKING:
    from datamodules.preparation.run import Prepared, Shard

log = logging.getLogger(__name__)

HELP = {
    "hdtf": "HDTF: its published annotation files and the originals they name",
    "voxceleb": "VoxCeleb1 and VoxCeleb2 in their official layouts",
    "folder": "any folder of videos",
}


def add_arguments(parser: argparse.ArgumentParser, kind: str) -> None:
    """Declare the flags of one kind of recordings; every setting of ``PreparationSettings`` is one."""
    flag = parser.add_argument
    flag(
        "--raw",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the raw videos; nothing in it is changed",
    )
    flag(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the dataset; an interrupted run goes on",
    )
    if kind == "hdtf":
        flag(
            "--annotations",
            type=Path,
            required=True,
            metavar="DIR",
            help="folder of HDTF's annotation files (HDTF_dataset of its repository)",
        )
        flag("--download", action="store_true", help="first get the missing originals with yt-dlp into --raw")
    if kind == "folder":
        flag(
            "--identities",
            type=Path,
            metavar="CSV",
            help="who is seen: columns video (below --raw) and identity (default: the first folder below --raw)",
        )
    flag(
        "--workers",
        type=int,
        default=cores_at_hand(),
        metavar="N",
        help="processes (default: all cores)",
    )
    flag("--shard", type=_shard, default="1/1", metavar="I/N", help="do the I-th of N parts, such as 1/8")
    flag(
        "--format",
        choices=("files", "litdata"),
        default="files",
        help="litdata: also write the clips as a stream for object storage, into the folder 'stream' (default: files)",
    )
    flag("--settings", type=Path, metavar="FILE", help="YAML file with settings by name; flags count more")
    for one in dataclasses.fields(PreparationSettings):
        name = "--" + one.name.replace("_", "-")
        text = f"{one.metadata['help']} (default: {one.default})"
        if isinstance(one.default, bool):
            flag(name, action=argparse.BooleanOptionalAction, help=one.metadata["help"])
        else:
            flag(name, type=type(one.default), metavar="X", help=text.replace("%", "%%"))


def _shard(text: str) -> "Shard":
    from datamodules.preparation.run import Shard

    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/8")
    return Shard(int(match[1]) - 1, int(match[2]))


def settings_of(args: argparse.Namespace) -> PreparationSettings:
    """Defaults, then the settings file, then flags.

    Raises:
        UserError: the file names what is no setting.
    """
    values: dict[str, Any] = read_settings(args.settings) if args.settings else {}
    for one in dataclasses.fields(PreparationSettings):
        if (given := getattr(args, one.name)) is not None:
            values[one.name] = given
    return PreparationSettings(**values)


def run(args: argparse.Namespace) -> int:
    """Make the clips, then the report.

    Raises:
        UserError: a setting is out of range, a folder is not what it should be, or nothing was kept.
    """
    from datamodules.preparation.run import prepare
    from datamodules.progress import show_progress
    from experiments.report.preparation import write_preparation_report

    settings = settings_of(args)
    settings.check()
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
    found = find_sources(args)
    with show_progress("preparing videos") as progress:
        prepared = prepare(found.sources, args.output, settings, args.workers, args.shard, progress=progress)
    page = write_preparation_report(prepared, found, args.output, HELP[args.source])
    if found.missing:
        log.info("not there: %d listed clips, such as %s", len(found.missing), found.missing[0])
    tell(prepared, page)
    if args.format == "litdata":
        stream(prepared, args.output)
    elif (args.output / "stream").is_dir():
        log.warning(
            "%s: may be of an earlier state; add --format litdata to renew it", args.output / "stream"
        )
    return 0


def stream(prepared: "Prepared", output: Path) -> None:
    """Write the stream when all shards are done."""
    from datamodules.streaming import write_stream

    if prepared.missing:
        log.info("stream: written by the run that finishes the last video")
        return
    log.info("stream: %s", write_stream(output))


def find_sources(args: argparse.Namespace) -> Availability:
    """What there is to prepare.

    Raises:
        UserError: nothing, or not what was asked for.
    """
    if args.source == "folder":
        from datamodules.preparation.folder_sources import folder_sources

        return Availability(folder_sources(args.raw, args.identities), [], [])
    if args.source == "voxceleb":
        from datamodules.preparation.voxceleb_sources import voxceleb_sources

        return voxceleb_sources(args.raw)
    from datamodules.preparation.hdtf_annotations import read_hdtf_annotations
    from datamodules.preparation.hdtf_sources import hdtf_sources

    annotations = read_hdtf_annotations(args.annotations)
    problems: list[str] = []
    if args.download:
        from datamodules.preparation.download import download_originals, videos_by_name

        there = videos_by_name(args.raw)
        wanted = [
            clip for clip in annotations.clips if file_stem(f"{clip.subset}_{clip.source}") not in there
        ]
        urls = {clip.source: clip.url for clip in wanted if clip.url}
        problems = [f"{name}: {reason}" for name, reason in download_originals(urls, args.raw).items()]
    found = hdtf_sources(annotations, args.raw)
    if not found.sources:
        raise UserError(
            f"{args.raw}: holds none of the originals that the annotations list (the first is "
            f"{annotations.clips[0].source}.mp4); add --download, or put them there"
        )
    found.notes.extend(problems)
    return found


def tell(prepared: "Prepared", page: Path) -> None:
    """Say in some lines what came of it."""
    hours = sum(record.frames for record in prepared.records) / 25 / 3600
    log.info("kept: %d clips, %.2f hours", len(prepared.records), hours)
    for reason, count in prepared.reasons().items():
        log.info("rejected: %d %s", count, reason)
    if prepared.missing:
        log.info("left for other shards: %d videos", len(prepared.missing))
    empty = [name for name in SPLITS if all(record.split != name for record in prepared.records)]
    if prepared.records and not prepared.missing and empty:
        people = len({record.identity for record in prepared.records})
        told = " and ".join(empty)
        log.warning("no clip of the %d people is in the split %s", people, told)
    log.info("report: %s", page)
    if not prepared.records and not prepared.missing:
        raise UserError(f"{page}: nothing was kept; see there why")
