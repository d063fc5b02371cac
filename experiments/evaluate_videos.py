"""``ifmdm evaluate --videos``: judges anyone's videos against real clips of the same stems, and writes results.json.

Rows beside the method's: real video, real video through the codec, the still source frame, and the method's lips
against another voice's speech. Whatever can't be judged is listed with its reason; the other clips still are.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import MANIFEST_NAME
from experiments.evaluate_command import check_videos
from experiments.judges import Progress, load_judge, log_progress
from experiments.results import has_values, plain, refuse_nothing, replace_results, tell_results
from experiments.run_identity import git_state, machine_facts
from experiments.version import __version__
from experiments.video_judges import Judges, load_judges
from experiments.video_pairs import entry, find_pairs, protocol_record, spare_clips
from experiments.video_rows import judge_pairs
from experiments.video_summary import summarise
from lightning_modules.checkpoints import weights_hash
from metrics.protocol import SYNTHETIC

DRAWN = f"some of the real clips are synthetic heads, which judges of real faces do not know: take --protocol {SYNTHETIC}"
RECORDED = (
    f"the real clips are no synthetic heads of this project, which the judge of lip sync of {SYNTHETIC} was trained on: take "
    "--protocol talking-head-v1 for real faces"
)
log = logging.getLogger(__name__)


def evaluate_videos(
    videos: Path,
    reference: Path,
    method: str,
    settings: dict[str, Any],
    name: str,
    seeds: bool = False,
    split: str = "test",
    judges: Judges | None = None,
    progress: Progress | None = None,
    model: Any = None,
    judge: str = "regressor",
) -> dict[str, Any]:
    """Judge a folder of videos.

    Args:
        videos: Folder of videos, or with ``seeds`` of one subfolder for each sampling seed.
        reference: Prepared folder with manifest, or plain folder of real videos.
        method: Name that the result carries.
        settings: Of the protocol, as `protocol_settings` gives them.
        name: Of the protocol.
        seeds: Whether there are takes of several sampling seeds.
        split: Of a prepared reference.
        judges: Those to ask; None: those that the protocol names, as far as they are there.
        progress: Called with clips done, clips in all and a text.
        model: TalkingHead whose autoencoder gives the row of that name; None: there is no such row.
        judge: Of motion of drawn faces, see `load_judge`.

    Returns:
        The content of results.json.

    Raises:
        UserError: A folder is missing or empty, no stem matches, or the judge of motion is not there.
    """
    started = time.perf_counter()
    pairs, alone = find_pairs(videos, reference, seeds, split)
    if judges is None:
        drawn = None
        if name == SYNTHETIC:
            drawn = load_judge(judge, reference, progress=progress, size=settings["size"])
        judges = load_judges(settings, drawn, (settings["task"],))
    missing = [entry("*", what, why) for what, why in judges.missing]
    hints = _hints(name, [pair.drawn for pair in pairs])
    if model is None:
        missing.append(entry("*", "row autoencoder", "no model was named; give --model DIR or NAME"))
    spares = spare_clips(pairs, reference, split)
    protocol = protocol_record(name, settings, pairs, spares, judges.hashes)
    judged, absent, notes = judge_pairs(pairs, settings, judges, progress, spares, model)
    metrics, unknown, remarks = summarise(judged, judges, pairs, spares)
    commit, dirty = git_state(Path(__file__).resolve().parents[1])
    return {
        "protocol": protocol,
        "method": method,
        "run": {
            "version": __version__,
            "commit": commit,
            "dirty": dirty,
            "videos": videos,
            "reference": reference,
            "split": split if (reference / MANIFEST_NAME).is_file() else None,
            "takes": len(pairs[0].takes),
            "identities": len({one.pair.identity for one in judged}),
            "judges": judges.hashes,
            "judge": plain(judges.motion),
            "autoencoder": None if model is None else weights_hash(model),
            "seconds": round(time.perf_counter() - started, 1),
            "machine": machine_facts(),
        },
        "metrics": {key: interval.as_dict() for key, interval in metrics.items()},
        "clips": [
            {"clip": one.pair.name, "identity": one.pair.identity, **plain(one.values)} for one in judged
        ],
        "missing": missing + absent + unknown + alone,
        "notes": hints + notes + remarks,
    }


def _hints(protocol: str, drawn: Sequence[bool]) -> list[str]:
    """What speaks against the protocol, if its judges are out of their field on these clips."""
    if protocol == SYNTHETIC:
        return [] if any(drawn) else [RECORDED]
    return [DRAWN] if any(drawn) else []


def load_model(name: str) -> Any:
    """A TalkingHead by its folder or name."""
    from lightning_modules.generation.talking_head import TalkingHead

    return TalkingHead.from_pretrained(name)


def run(args: argparse.Namespace) -> int:
    """Judge the videos that the flags name and write results.json.

    Raises:
        UserError: Wrong flags or folders, or not one clip could be judged; nothing is written then.
    """
    settings, output = check_videos(args)
    results = evaluate_videos(
        args.videos,
        args.reference,
        args.method,
        settings,
        args.protocol,
        args.seeds,
        args.split,
        progress=log_progress,
        model=load_model(args.model) if args.model else None,
        judge=args.judge,
    )
    judged = len(results["clips"]) if has_values(results["metrics"]) else 0
    refuse_nothing(judged, results["missing"], str(args.videos))
    tell_results(replace_results(output, results), results)
    return 0
