"""Where the files of prepared clips are: in a dataset folder, or wherever a subclass gets them from."""

from pathlib import Path

from datamodules.clips.annotations import read_shapes
from datamodules.clips.manifest import ClipRecord


class ClipStore:
    """Files of the clips in the dataset folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def video(self, record: ClipRecord) -> Path:
        """Video file of a clip."""
        return self._path(record, record.video)

    def audio(self, record: ClipRecord) -> Path:
        """File with a clip's sound: the video itself where there is no other."""
        return self._path(record, record.audio or record.video)

    def annotations(self, record: ClipRecord) -> Path | None:
        """Annotation file of a clip, if it has one."""
        return None if record.annotations is None else self._path(record, record.annotations)

    def shapes(self, record: ClipRecord) -> dict[str, tuple[int, ...]]:
        """Shapes of the annotations' arrays by name; none without annotations."""
        path = self.annotations(record)
        return {} if path is None else read_shapes(path)

    def _path(self, record: ClipRecord, relative: str) -> Path:
        return self.root / relative


def as_store(clips: "Path | ClipStore") -> ClipStore:
    """The clips of a dataset folder, or what is a store already."""
    return clips if isinstance(clips, ClipStore) else ClipStore(clips)
