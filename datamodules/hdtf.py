"""HDTF: high-resolution talking faces from the web (Zhang et al., CVPR 2021)."""

from datamodules.talking_head import TalkingHeadDataModule


class HDTFDataModule(TalkingHeadDataModule):
    """Prepared HDTF clips; the identity of a clip is its speaker, splits are those of the manifest."""
