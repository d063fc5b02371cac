"""Synthetic talking heads: the default data, made on the spot."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.files import folder_lock
from datamodules.progress import show_progress
from datamodules.synthetic_faces.settings import Settings
from datamodules.talking_head import TalkingHeadDataModule


class SyntheticDataModule(TalkingHeadDataModule):
    """Renders procedural talking heads into ``root`` where they are not there yet, then serves them.

    Args:
        root: Dataset folder, filled by ``prepare_data``.
        size: Edge of the frames the model gets, in pixels.
        clips: Number of clips to render.
        render_size: Edge of the rendered frames; ``size`` if None.
        render_seed: >= 0; another seed gives other heads, speech and motion.
        render_workers: Processes that render.
        options: Further fields of ``Settings`` (domain, seconds, identities, draws, ...), and arguments of
            ``TalkingHeadDataModule`` (task, batch_size, ...).
    """

    def __init__(
        self,
        root: str | Path,
        size: int,
        clips: int = 64,
        render_size: int | None = None,
        render_seed: int = 0,
        render_workers: int = 2,
        **options: Any,
    ) -> None:
        names = {one.name for one in fields(Settings)} - {"size", "clips", "seed"}
        drawn = {name: options.pop(name) for name in names & options.keys()}
        super().__init__(root, size, **options)
        if "seconds" in drawn:
            drawn["seconds"] = tuple(map(float, drawn["seconds"]))
        self.settings = Settings(clips, render_size or size, render_seed, **drawn)
        self.settings.check()
        self.render_workers = render_workers

    def prepare_data(self) -> None:
        """Render what is missing, telling how far it is; of several processes one renders, the others wait for it.

        Raises:
            UserError: The folder holds other data, or speech synthesis is not installed.
        """
        self.require_also()
        from datamodules.synthetic_faces.dataset import prepare_synthetic  # loads the renderer

        with folder_lock(self.root), show_progress("rendering clips") as progress:
            prepare_synthetic(self.root, self.settings, workers=self.render_workers, progress=progress)
