"""HDTF: high-resolution talking faces from the web (Zhang et al., CVPR 2021)."""

from pathlib import Path
from typing import Any

from datamodules.talking_head import TalkingHeadDataModule


class HDTFDataModule(TalkingHeadDataModule):
    """Prepared HDTF clips, of ``data/hdtf-SIZE`` by default: 436 published clips of 275 speakers (a clip's identity).

    HDTF publishes addresses, times and crops (https://github.com/MRzzm/HDTF, CC BY 4.0); the videos stay their owners' and
    some are gone. It has no official splits: the default ones list every published clip and share no speaker
    (``datamodules/preparation/hdtf.py``); ``splits=None`` takes those of the manifest. Arguments are those of
    ``TalkingHeadDataModule``.
    """

    origin = "HDTF, by `ifmdm prepare hdtf --raw DIR --annotations HDTF_dataset --output ROOT --download`"

    def __init__(
        self,
        root: str | Path | None = None,
        size: int = 512,
        splits: str | Path | None = "hdtf-test-v1",
        **options: Any,
    ) -> None:
        super().__init__(root or f"data/hdtf-{size}", size, splits=splits, **options)
