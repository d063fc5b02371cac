"""VoxCeleb1 and VoxCeleb2: interviews of celebrities (Nagrani et al. 2017, Chung et al. 2018)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import ClipRecord
from datamodules.preparation.voxceleb import VOX1_TEST
from datamodules.talking_head import TalkingHeadDataModule


class VoxCelebDataModule(TalkingHeadDataModule):
    """Prepared VoxCeleb clips, of ``data/voxceleb-SIZE`` by default; a clip's identity is its VoxCeleb id.

    The lists of utterances and who is in which test are at https://www.robots.ox.ac.uk/~vgg/data/voxceleb. The speakers of
    VoxCeleb1's test (id10270 to id10309) are always in the split ``test``; those of VoxCeleb2 as preparation found them in
    ``vox2_meta.csv`` or the folder ``test``. Most faces are smaller than 256 pixels. Arguments are those of
    ``TalkingHeadDataModule``.
    """

    origin = "VoxCeleb, by `ifmdm prepare voxceleb --raw DIR --output ROOT`"

    def __init__(self, root: str | Path | None = None, size: int = 256, **options: Any) -> None:
        super().__init__(root or f"data/voxceleb-{size}", size, **options)

    def all_records(self) -> list[ClipRecord]:
        """All clips of the manifest, with VoxCeleb1's test speakers in the split ``test``."""
        records = super().all_records()
        return [replace(one, split="test") if one.identity in VOX1_TEST else one for one in records]
