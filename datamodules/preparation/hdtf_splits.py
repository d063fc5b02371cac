"""HDTF's fixed splits: HDTF publishes none, so those of ``datamodules/splits/hdtf-test-v1.csv`` are this project's.

The file lists every published clip with its speaker. No speaker is in two splits. How it was made, once and for all::

    python -m datamodules.preparation.hdtf_splits HDTF_dataset datamodules/splits/hdtf-test-v1.csv

Speakers of each subset (radio RD, weekly addresses WDA and WRA) are put in the order of a hash of their name and ``SEED``;
the first 12 % of them are test, the next 8 % val, the others train. A speaker of WDA or WRA is a name; two names that
share an address (``WhipJimClyburn``, ``JamesClyburn``) are one. Of the radio sources nothing tells who speaks: each is taken
for a speaker of its own.
"""

import csv
import hashlib
import sys
from pathlib import Path

from datamodules.files import whole_output
from datamodules.preparation.hdtf_annotations import SUBSETS, HDTFAnnotations, read_hdtf_annotations

NAME = "hdtf-test-v1"
SEED = NAME
TEST_SHARE, VAL_SHARE = 0.12, 0.08


def fixed_splits(annotations: HDTFAnnotations) -> list[tuple[str, str, str]]:
    """Clip, identity and split of every published clip, sorted by the clip's name."""
    splits: dict[str, str] = {}
    for subset in SUBSETS:
        speakers = {clip.speaker for clip in annotations.clips if clip.subset == subset} - splits.keys()
        ordered = sorted(speakers, key=lambda name: hashlib.sha256(f"{SEED}/{name}".encode()).digest())
        test = round(TEST_SHARE * len(ordered))
        val = test + round(VAL_SHARE * len(ordered))
        for place, speaker in enumerate(ordered):
            splits[speaker] = "test" if place < test else "val" if place < val else "train"
    return sorted((clip.name, clip.speaker, splits[clip.speaker]) for clip in annotations.clips)


if __name__ == "__main__":
    published = read_hdtf_annotations(Path(sys.argv[1]))
    with whole_output(sys.argv[2]) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("clip", "identity", "split"))
        writer.writerows(fixed_splits(published))
