"""``ifmdm evaluate --selftest``: real clips made worse by degrees; do the measures answer in order?"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.files import require_output_folder
from experiments.evaluation_flags import given_numbers
from experiments.evaluation_setup import log_progress
from experiments.results import write_json, write_whole
from metrics.evaluation.clips import Missing, reference_clips
from metrics.evaluation.corruptions import CORRUPTIONS, SIZE
from metrics.evaluation.judges import load_judges
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.protocol_names import TALKING_HEAD
from metrics.evaluation.registry import SLOTS
from metrics.evaluation.remarks import absent_judges
from metrics.evaluation.selftest import caution, load_samples, out_of_order, self_test, unasked
from metrics.judges.landmark_judge import LandmarkJudge

FRAMES = 125
log = logging.getLogger(__name__)


def markdown(
    rows: Sequence[dict[str, Any]], clips: Sequence[str], missing: Sequence[Missing], note: str = ""
) -> str:
    """The table for people: measures made for a corruption first, then the ones that do not answer."""
    lines = [f"# Self-test of the measures on {len(clips)} clips", "", f"Clips: {', '.join(clips)}.", ""]
    words = {None: "not made for it", True: "yes", False: "**no**"}
    for name, corruption in CORRUPTIONS.items():
        own = [row for row in rows if row["corruption"] == name]
        strengths = " | ".join(f"{strength:g}" for strength in corruption.strengths)
        lines += [f"## {name} ({corruption.unit})", "", f"| measure | {strengths} | answers in order |"]
        lines.append("|---" * (len(corruption.strengths) + 2) + "|")
        for row in sorted(own, key=lambda row: row["answers"] is None):
            values = " | ".join(f"{value:.4g}" for value in row["values"])
            lines.append(f"| {row['measure']} | {values} | {words[row['answers']]} |")
        lines.append("")
    wrong = ", ".join(out_of_order(rows)) or "none"
    lines += [f"{note}Do not answer in order: {wrong}.", "", "Not judged:", ""]
    lines += [f"- {one['clip']}: {one['what']}: {one['why']}" for one in missing]
    return "\n".join([*lines, ""])


def run(args: argparse.Namespace) -> int:
    """Write ``selftest.md`` and ``selftest.json``.

    Raises:
        UserError: Wrong flags, or fewer than two clips of the reference can be judged.
    """
    crop = "as given" if (args.reference / MANIFEST_NAME).is_file() else "face"
    reading = {"size": SIZE, "max_frames": FRAMES, **given_numbers(args)}
    protocol = get_protocol(TALKING_HEAD, "reconstruction", crop=crop, **reading)
    output = require_output_folder(args.output or Path("results/selftest"))
    clips = reference_clips(args.reference, args.split)
    judges = load_judges(SLOTS, protocol, LandmarkJudge())
    samples, unread = load_samples(clips, protocol, judges, log_progress)
    rows = self_test(samples, judges, protocol)
    absent = absent_judges(judges)
    missing = [*absent, *unread, *unasked(rows, absent)]
    names, note = [sample.name for sample in samples], caution(samples)
    results = {"settings": protocol.settings(), "clips": names, "rows": rows, "missing": missing}
    write_json(output / "selftest.json", results)
    path = write_whole(output / "selftest.md", markdown(rows, names, missing, note))
    log.info("%sDo not answer in order: %s", note, ", ".join(out_of_order(rows)) or "none")
    log.info("%d clips, %d rows: %s", len(samples), len(rows), path)
    return 0
