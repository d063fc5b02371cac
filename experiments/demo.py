"""``ifmdm demo``: a portrait speaks, then the whole experiment in miniature - data, stages, evaluation, sweep, report."""

import argparse
import logging
import re
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import UserError
from datamodules.files import require_output_folder
from experiments.cli import run_command
from experiments.results import read_json, read_results, write_json, write_whole
from experiments.version import __version__

log = logging.getLogger(__name__)

SIZE, SCRATCH_SIZE = 128, 64
"""Pixels of the miniature: the shipped renderer's, and what a few minutes can learn from nothing."""
VOICE = "en-us_linda"
SENTENCE = "One picture and a few words: that is all it takes to make a portrait speak, and to move its head."
TIMES_NAME = "times.json"
MARKER_NAME = "demo.json"
"""Says with which settings a folder was made; without it nothing in a folder is continued or removed."""
PARTS = ("portrait", "data", "runs", "model", "evaluation", "sweep", TIMES_NAME)
"""What the demo leaves in its folder beside the marker and the report."""
TIME_LIMITS = {"autoencoder": "00:00:01:30", "statistics": "00:00:00:45", "diffusion": "00:00:03:00"}
"""How long a stage trains at most, days to seconds; where the renderer starts from nothing it needs all its steps."""
STAGES = tuple(TIME_LIMITS)
UNDRAWN = 400
"""Speeches that stages 2 and 3 learn from beside the few that are drawn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm demo``."""
    parser.description = (
        "First a real portrait speaks a synthesised sentence, by the model that comes along. Then the experiment in "
        "miniature: render synthetic talking heads, train the three stages, of which the first goes on from the shipped "
        "renderer, evaluate on heads and voices that training never saw, sweep the motion intensity and write report.html. "
        "About 15 minutes on two CPU cores; steps that are done already in a folder made with the same settings are kept."
    )
    flag, workers = parser.add_argument, "processes that render the data; 0: this one (default 2)"
    flag("--output", type=Path, default=Path("demo"), help="folder for everything (default: demo)")
    flag("--workers", type=int, default=2, help=workers)
    flag("--fast", action="store_true", help="a few steps of everything: does the installation work?")
    text = (
        "train the renderer from nothing, too, at 64 px: its heads hardly learn to speak in so short a time"
    )
    flag("--from-scratch", action="store_true", help=text)
    flag("--portrait-only", action="store_true", help="the portrait alone: a minute, no training")


def run(args: argparse.Namespace) -> int:
    """Run the demo as the command line says."""
    if args.workers < 0:
        raise UserError(f"--workers is {args.workers}: use a whole number from 0")
    demo = Demo(args.output, args.workers, args.fast, from_scratch=args.from_scratch)
    demo.run(demo.steps()[:1] if args.portrait_only else None)
    return 0


class Step(NamedTuple):
    """A part of the demo."""

    name: str
    what: str  # told when it starts
    work: Callable[[], object]
    result: Path  # a file that is there when it is done


class Demo:
    """The steps of the demo, each timed; a step whose result is there is not done again.

    Args:
        folder: Made if missing; holds ``demo.json`` (the settings), the ``PARTS`` and ``report.html``.
        workers: Rendering processes.
        fast: Few clips and steps, for a check of the installation.
        from_scratch: Whether stage 1 starts from nothing, at a smaller size.
        command: Runs a command of ``ifmdm``, given its words.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        fast: bool,
        command: Callable[[Sequence[str]], object] = run_command,
        from_scratch: bool = False,
    ) -> None:
        self.folder, self.workers, self.fast, self.command = folder, workers, fast, command
        self.from_scratch, self.size = from_scratch, SCRATCH_SIZE if from_scratch else SIZE
        self.data, self.model = folder / "data", folder / "model"
        self.clips, self.seconds = (6, (2.7, 3.2)) if fast else (44, (3.0, 5.0))

    def _run(self, stage: str) -> Path:
        return self.folder / "runs" / stage

    def settings(self) -> dict[str, object]:
        """What the results in the folder depend on."""
        from datamodules.synthetic_faces.settings import VERSION

        return {
            "fast": self.fast,
            "from_scratch": self.from_scratch,
            "clips": self.clips,
            "seconds": list(self.seconds),
            "undrawn": UNDRAWN,
            "time_limits": TIME_LIMITS,
            "dataset_version": VERSION,
            "version": __version__,
        }

    def claim(self) -> None:
        """Write the settings into a new folder; a folder that they are in already is continued.

        Raises:
            UserError: It can't be written, or holds a demo made with other settings, or something else.
        """
        marker, settings = require_output_folder(self.folder) / MARKER_NAME, self.settings()
        if not marker.is_file():
            if name := next((name for name in PARTS if (self.folder / name).exists()), None):
                told = f"has {name} but no {MARKER_NAME}, so it is no demo of this version"
                raise UserError(f"{self.folder}: {told}; choose another --output")
            write_json(marker, settings)
        elif (found := read_json(marker)) != settings:
            known = found if isinstance(found, dict) else {}
            other = [f"{k} {known.get(k)} instead of {v}" for k, v in settings.items() if known.get(k) != v]
            told = f"holds a demo made with other settings ({', '.join(other)})"
            raise UserError(f"{self.folder}: {told}; remove the folder or choose another --output")

    def steps(self) -> list[Step]:
        """All steps before the report."""
        place = self.folder
        stages = [(f"stage {n}: motion {stage}", stage) for n, stage in enumerate(STAGES, start=1)]
        return [
            Step("portrait", "a portrait speaks", self.portrait, place / "portrait/portrait_speaks.mp4"),
            Step("data", "rendering synthetic talking heads", self.prepare, place / "data_sheet.png"),
            *(
                Step(name, what, partial(self.train, name), self._run(name) / "run.json")
                for what, name in stages
            ),
            Step("package", "model folder", self.package, self.model / "config.json"),
            Step(
                "evaluation", "evaluation on unseen heads", self.evaluate, place / "evaluation/results.json"
            ),
            Step("sweep", "motion-intensity sweep", self.sweep, place / "sweep/sweep.json"),
        ]

    def run(self, steps: Sequence[Step] | None = None) -> None:
        """Take the steps; None: all, and write the report.

        Raises:
            UserError: The folder holds something else than this demo.
        """
        self.claim()
        kept = self.folder / TIMES_NAME
        times = read_json(kept) if kept.is_file() else {}
        todo = self.steps() if steps is None else steps
        count = len(todo) + (steps is None)
        for number, step in enumerate(todo, start=1):
            done = step.result.is_file()
            log.info("[%d/%d] %s%s", number, count, step.what, ": there already" if done else "")
            if not done:
                started = time.monotonic()
                step.work()
                times[step.name] = round(time.monotonic() - started, 1)
                write_json(kept, times)
                log.info("      done in %.0f s", times[step.name])
            if step.name == "portrait":
                log.info("      see and hear it: %s", step.result)
        if steps is None:
            log.info("[%d/%d] report", count, count)
            page = self.report()
            log.info("%.1f minutes in all. Open %s", sum(times.values()) / 60, page)

    def ifmdm(self, *words: object) -> None:
        """Run a command, and show it as a user would type it."""
        texts = [str(word) for word in words]
        log.info("      $ ifmdm %s", shlex.join(texts))
        self.command(texts)

    def portrait(self) -> None:
        """A public-domain photograph speaks a synthesised sentence, by the model that comes along."""
        from PIL import Image

        from datamodules.media.audio import write_wav
        from datamodules.synthetic_faces.speech.espeak import synthesise_speech
        from datamodules.synthetic_faces.speech.voices import VOICES
        from experiments.pictures import png_bytes, sample_portrait

        place = self.folder / "portrait"
        image, speech = place / "portrait.png", place / "speech.wav"
        write_whole(image, png_bytes(Image.fromarray(sample_portrait())))
        voice = next(voice for voice in VOICES if voice.name == VOICE)
        write_wav(speech, synthesise_speech([SENTENCE], voice)[0].waveform)
        video = ["--output", place / "portrait_speaks.mp4", "--paste-back", "--intensity", 0.7]
        self.ifmdm("generate", "--image", image, "--audio", speech, *video)

    def prepare(self) -> None:
        """Render the clips and a contact sheet of them."""
        from datamodules.clips.manifest import read_manifest
        from datamodules.media.video import read_video
        from experiments.pictures import contact_sheet, spread

        sizes = [
            "--clips",
            self.clips,
            "--identities",
            self.clips,
            "--size",
            self.size,
            "--seconds",
            *self.seconds,
            "--workers",
            self.workers,
        ]
        self.ifmdm("prepare", "synthetic", *sizes, "--output", self.data)
        clips = read_manifest(self.data)[:10]
        rows = {clip.id: spread(read_video(self.data / clip.video), 9) for clip in clips}
        contact_sheet(rows, self.folder / "data_sheet.png")

    def train(self, stage: str) -> None:
        """Train one stage with an experiment of minutes; an interrupted training starts again."""
        run_dir = self._run(stage)
        if run_dir.exists():
            if not (self.folder / MARKER_NAME).is_file():
                raise UserError(f"{run_dir}: is there already, in a folder without {MARKER_NAME}; remove it")
            log.info("      %s: an interrupted training, starting again", run_dir)
            shutil.rmtree(run_dir)
        name = "demo" if stage == "autoencoder" and not self.from_scratch else "tiny"
        words = [
            f"experiment={stage}_{name}",
            f"data.size={self.size}",
            _word("data.root", self.data),
            _word("run_dir", run_dir),
        ]
        words += [
            f"data.clips={self.clips}",
            f"data.identities={self.clips}",
            f"data.seconds=[{self.seconds[0]},{self.seconds[1]}]",
        ]
        words.append(f"data.render_workers={self.workers}")
        if stage != "autoencoder":
            words.append(_word("autoencoder", self._run("autoencoder")))
            if not self.fast:
                words.append(f"data.undrawn={UNDRAWN}")
        if not (self.fast or self.from_scratch):
            words.append(f"time_limit='{TIME_LIMITS[stage]}'")
        if self.fast:
            words += ["trainer.max_steps=10", "trainer.log_every_n_steps=1", "+trainer.limit_val_batches=1"]
        self.ifmdm("train", *words)

    def package(self) -> None:
        """Model folder of the three stages."""
        runs = [word for stage in STAGES for word in (f"--{stage}", self._run(stage))]
        self.ifmdm("package", *runs, "--output", self.model)

    def evaluate(self) -> None:
        """Figures, contact sheets and videos on held-out identities."""
        gallery = f"gallery_clips={1 if self.fast else 3}"
        self.ifmdm("evaluate", *self._measuring("evaluation"), "method=demo", gallery)

    def sweep(self) -> None:
        """Motion intensity against head motion and lips."""
        self.ifmdm("sweep", "sweep=motion_intensity_short", *self._measuring("sweep"))

    def _measuring(self, output: str) -> list[str]:
        """Overrides that evaluation and sweep share."""
        return [
            _word("model", self.model),
            _word("data.root", self.data),
            f"clips={1 if self.fast else 6}",
            f"max_frames={32 if self.fast else 150}",
            f"judge_seconds={5 if self.fast else 75}",
            "seeds=[0]",
            _word("output", self.folder / output),
        ]

    def report(self) -> Path:
        """The page, with what the miniature learnt in words."""
        from experiments.report.command import write_report
        from experiments.report.sweep_figures import sweep_rows
        from experiments.report.verdict import verdict_section

        results = read_results(self.folder / "evaluation" / "results.json")
        began = (
            "All stages began from nothing."
            if self.from_scratch
            else "The renderer is the shipped one, which could move faces before and went on learning from these few heads; "
            "what speech does was learned here, from nothing."
        )
        verdict = verdict_section(results, sweep_rows(read_json(self.folder / "sweep" / "sweep.json")))
        verdict.lead = f"{verdict.lead} {began}"
        return write_report([self.folder], title="IF-MDM demo", verdict=verdict)


def _word(key: str, path: Path) -> str:
    """``KEY=PATH`` as a Hydra override, quoted where it must be."""
    from experiments.config import override

    return f"{key}={path}" if re.fullmatch(r"[\w./-]+", str(path)) else override(key, path)
