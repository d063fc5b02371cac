"""Synthetic talking heads: the default data, made on the spot."""

from collections.abc import Sequence
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
        domain: ``plain`` or ``wide`` variety of looks.
        seconds: Shortest and longest clip.
        identities: Number of different heads; left to the renderer if None.
        draws: Clips with the same head and speech, whose motion is drawn anew.
        long_clips: Speeches of 60 to 75 s among them.
        twins: Render each clip of val and test on a second head, too.
        intensity: ``free``, or ``speech``: what is heard tells how much somebody moves.
        style: ``free``, or ``identity``: who is seen tells how somebody moves.
        camera: ``still`` or ``moving``.
        dense: Write mask, depth and optical flow of every frame, too.
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
        draws: int = 1,
        long_clips: int = 0,
        twins: bool = False,
        intensity: str = "free",
        style: str = "free",
        camera: str = "still",
        dense: bool = False,
        render_seed: int = 0,
        render_workers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(root, size, **options)
        self.settings = Settings(
            clips=clips,
            size=render_size or size,
            seed=render_seed,
            domain=domain,
            seconds=(float(seconds[0]), float(seconds[1])),
            identities=identities,
            draws=draws,
            long_clips=long_clips,
            twins=twins,
            intensity=intensity,
            style=style,
            camera=camera,
            dense=dense,
        )
        self.render_workers = render_workers

    def prepare_data(self) -> None:
        """Render what is missing, telling how far it is; of several processes one renders, the others wait for it.

        Raises:
            UserError: The folder holds other data, or speech synthesis is not installed.
        """
        from datamodules.synthetic_faces.dataset import prepare_synthetic

        with folder_lock(self.root), show_progress("rendering clips") as progress:
            prepare_synthetic(self.root, self.settings, workers=self.render_workers, progress=progress)
