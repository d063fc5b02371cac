"""VoxCeleb1 and VoxCeleb2: interviews of celebrities (Nagrani et al. 2017, Chung et al. 2018)."""

from datamodules.talking_head import TalkingHeadDataModule


class VoxCelebDataModule(TalkingHeadDataModule):
    """Prepared VoxCeleb clips; a clip's identity is its VoxCeleb id, splits are those of the manifest."""
