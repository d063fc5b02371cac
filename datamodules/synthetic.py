"""Synthetic talking heads: the default data, made on the spot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.talking_head import TalkingHeadDataModule


class SyntheticDataModule(TalkingHeadDataModule):
    """Renders procedural talking heads into ``root`` where they are not there yet, then serves them.

    Args:
        root: Dataset folder, filled by ``prepare_data``.
        size: Edge of the frames the model gets, in pixels.
        clips: Number of clips to render.
        render_size: Edge of the rendered frames; ``size`` if None.
        domain: ``plain`` or ``wide`` variety of looks.
        seconds: Shortest and longest clip.
        identities: Number of different heads; left to the renderer if None.
        render_seed: >= 0; another seed gives other heads, speech and motion.
        render_workers: Processes that render.
        options: Arguments of ``TalkingHeadDataModule`` (task, batch_size, ...).
    """

    def __init__(
        self,
        root: str | Path,
        size: int,
        clips: int = 64,
        render_size: int | None = None,
        domain: str = "wide",
        seconds: Sequence[float] = (4.0, 8.0),
        identities: int | None = None,
        render_seed: int = 0,
        render_workers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(root, size, **options)
        self.clips = clips
        self.render_size = render_size or size
        self.domain = domain
        self.seconds = (float(seconds[0]), float(seconds[1]))
        self.identities = identities
        self.render_seed = render_seed
        self.render_workers = render_workers

    def prepare_data(self) -> None:
        """Render what is missing.

        Raises:
            UserError: The folder holds other data, or speech synthesis is not installed.
        """
        from datamodules.synthetic_faces.dataset import prepare_synthetic

        prepare_synthetic(
            self.root,
            self.clips,
            size=self.render_size,
            seed=self.render_seed,
            workers=self.render_workers,
            domain=self.domain,
            seconds=self.seconds,
            identities=self.identities,
        )
