"""Any folder of videos after preparation."""

from datamodules.talking_head import TalkingHeadDataModule


class FolderDataModule(TalkingHeadDataModule):
    """Prepared clips of anyone's videos; identities and splits are those of the manifest."""
