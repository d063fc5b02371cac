"""``ifmdm demo``: the whole experiment in miniature - data, three stages, evaluation, sweep, report, videos."""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datamodules.errors import UserError
from datamodules.files import require_output_folder, whole_output

log = logging.getLogger(__name__)

CLIPS = 64
SIZE = 64
EVALUATED_CLIPS = 6
MAX_FRAMES = 150
TIMES_NAME = "times.json"
MARKER_NAME = "demo.json"
"""Says with which settings a folder was made; without it nothing in a folder is continued or removed."""
PARTS = ("data", "runs", "model", "evaluation", "sweep", TIMES_NAME)
"""What the demo leaves in its folder beside the marker and the report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm demo``."""
    parser.description = (
        "Render synthetic talking heads, train the three stages at 64 px, evaluate on heads and voices that training never "
        "saw, sweep the motion intensity and write report.html. About 15 minutes on two CPU cores; steps that are done "
        "already in a folder made with the same settings are kept."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="folder for everything (default: demo)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that render the data (default 2)")
    parser.add_argument(
        "--fast", action="store_true", help="a few steps of everything: does the installation work?"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo as the command line says."""
    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}: use a whole number from 1")
    Demo(args.output, args.workers, args.fast).run()
    return 0


class Demo:
    """The steps of the demo, each timed; a step whose result is there is not done again.

    Args:
        folder: made if missing; holds ``demo.json`` (the settings), ``data/``, ``runs/``, ``model/``, ``evaluation/``,
            ``sweep/`` and ``report.html``.
        workers: rendering processes.
        fast: few clips and steps, for a check of the installation.
    """

    def __init__(self, folder: Path, workers: int, fast: bool) -> None:
        self.folder, self.workers, self.fast = folder, workers, fast
        self.data = folder / "data"
        self.clips = 10 if fast else CLIPS
        times = folder / TIMES_NAME
        self.times: dict[str, float] = json.loads(times.read_text()) if times.is_file() else {}

    def settings(self) -> dict[str, object]:
        """What the results in the folder depend on."""
        from datamodules.synthetic_faces.settings import VERSION
        from experiments.version import __version__

        return {"fast": self.fast, "dataset_version": VERSION, "version": __version__}

    def claim(self) -> None:
        """Write the settings into a new folder; a folder that they are in already is continued.

        Raises:
            UserError: It can't be written, or holds a demo made with other settings, or something else.
        """
        from experiments.results import read_json, write_json

        marker = require_output_folder(self.folder) / MARKER_NAME
        if marker.is_file():
            found, settings = read_json(marker), self.settings()
            if found != settings:
                known = found if isinstance(found, dict) else {}
                told = ", ".join(
                    f"{k} {known.get(k)} instead of {v}" for k, v in settings.items() if known.get(k) != v
                )
                raise UserError(
                    f"{self.folder}: holds a demo made with other settings ({told}); "
                    "remove the folder or choose another --output"
                )
            return
        for name in PARTS:
            if (self.folder / name).exists():
                raise UserError(
                    f"{self.folder}: has {name} but no {MARKER_NAME}, so it is no demo of this version; "
                    "choose another --output"
                )
        write_json(marker, self.settings())

    def run(self) -> Path:
        """All steps; returns the report.

        Raises:
            UserError: The folder holds something else than this demo.
        """
        self.claim()
        steps: list[tuple[str, str, Callable[[], None], Path]] = [
            ("data", "rendering synthetic talking heads", self.prepare, self.folder / "data_sheet.png"),
            (
                "autoencoder",
                "stage 1: motion autoencoder",
                self.autoencoder,
                self.run_dir("autoencoder") / "run.json",
            ),
            (
                "statistics",
                "stage 2: motion statistics",
                self.statistics,
                self.run_dir("statistics") / "run.json",
            ),
            (
                "diffusion",
                "stage 3: motion diffusion",
                self.diffusion,
                self.run_dir("diffusion") / "run.json",
            ),
            ("package", "model folder", self.package, self.folder / "model" / "config.yaml"),
            (
                "evaluation",
                "evaluation on unseen heads",
                self.evaluate,
                self.folder / "evaluation" / "results.json",
            ),
            ("sweep", "motion-intensity sweep", self.sweep, self.folder / "sweep" / "sweep.json"),
        ]
        for number, (name, what, step, result) in enumerate(steps, start=1):
            if result.is_file():
                log.info("[%d/%d] %s: there already", number, len(steps) + 1, what)
                continue
            log.info("[%d/%d] %s", number, len(steps) + 1, what)
            started = time.monotonic()
            step()
            self.times[name] = round(time.monotonic() - started, 1)
            with whole_output(self.folder / TIMES_NAME) as temporary:
                temporary.write_text(json.dumps(self.times, indent=2) + "\n")
            log.info("      done in %.0f s", self.times[name])
        log.info("[%d/%d] report", len(steps) + 1, len(steps) + 1)
        from experiments.report.command import write_report

        page = write_report([self.folder], self.folder / "report.html", title="IF-MDM demo")
        log.info("%.1f minutes in all. Open %s", sum(self.times.values()) / 60, page)
        return page

    def run_dir(self, stage: str) -> Path:
        """Run folder of a stage."""
        return self.folder / "runs" / stage

    def prepare(self) -> None:
        """Render the clips and a contact sheet of them."""
        from datamodules.clips.manifest import read_manifest
        from datamodules.media.video import VideoReader
        from datamodules.synthetic_faces.dataset import prepare_synthetic
        from datamodules.synthetic_faces.settings import Settings
        from experiments.pictures import contact_sheet
        from experiments.progress import show_progress

        with show_progress("rendering clips") as progress:
            prepare_synthetic(self.data, Settings(self.clips, SIZE), workers=self.workers, progress=progress)
        records = read_manifest(self.data)[:10]
        rows = {}
        for record in records:
            reader = VideoReader(self.data / record.video)
            rows[record.id] = reader.get(np.linspace(0, len(reader) - 1, 9).astype(int))
        contact_sheet(rows, self.folder / "data_sheet.png")

    def train(self, stage: str, *overrides: str) -> None:
        """Train one stage with the ``tiny`` experiment of that name."""
        import shutil

        from experiments.config import compose, override
        from experiments.train import run_training

        run_dir = self.run_dir(stage)
        if run_dir.exists():
            if not (self.folder / MARKER_NAME).is_file():
                raise UserError(f"{run_dir}: is there already, in a folder without {MARKER_NAME}; remove it")
            log.info("      %s: an interrupted training, starting again", run_dir)
            shutil.rmtree(run_dir)
        words = [f"experiment={stage}_tiny", override("data.root", self.data), override("run_dir", run_dir)]
        words += [f"data.clips={self.clips}", f"data.render_workers={self.workers}"]
        if self.fast:
            words += ["trainer.max_steps=10", "+trainer.limit_val_batches=1"]
        run_training(compose([*words, *overrides]))

    def autoencoder(self) -> None:
        """Stage 1."""
        self.train("autoencoder")

    def statistics(self) -> None:
        """Stage 2."""
        self.train_in_motion_space("statistics")

    def diffusion(self) -> None:
        """Stage 3."""
        self.train_in_motion_space("diffusion")

    def train_in_motion_space(self, stage: str) -> None:
        """Train a stage that works on the motion of stage 1."""
        from experiments.config import override

        self.train(stage, override("autoencoder", self.run_dir("autoencoder")))

    def package(self) -> None:
        """Model folder of the three stages."""
        from experiments.package import assemble

        model = assemble(*(self.run_dir(stage) for stage in ("autoencoder", "statistics", "diffusion")))
        (self.folder / "model").mkdir(exist_ok=True)
        model.save_pretrained(self.folder / "model")

    def evaluate(self) -> None:
        """Figures, contact sheets and videos on held-out identities."""
        from experiments.evaluate import evaluate_main

        evaluate_main(
            [
                *self.measuring("evaluation"),
                "method=demo",
                f"gallery_clips={1 if self.fast else 3}",
                "seeds=[0]",
            ]
        )

    def sweep(self) -> None:
        """Motion intensity against head motion and lips."""
        from experiments.sweep import sweep_main

        sweep_main(["sweep=motion_intensity", *self.measuring("sweep"), "seeds=[0]"])

    def measuring(self, output: str) -> list[str]:
        """Overrides that evaluation and sweep share."""
        from experiments.config import override

        return [
            override("model", self.folder / "model"),
            override("data.root", self.data),
            f"clips={1 if self.fast else EVALUATED_CLIPS}",
            f"max_frames={32 if self.fast else MAX_FRAMES}",
            f"judge_seconds={5 if self.fast else 75}",
            override("output", self.folder / output),
        ]
