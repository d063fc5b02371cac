"""What an ablation study trains: for each row and seed three stages, of which those of one key are one training.

The rows of a study are grouped by the stage from which on they train anew. In a group the stages before it are trained once,
with the first seed; those from it on once for each seed, of the full model, too. So a row and the full model of its group
differ by the ablation alone, and the spread over seeds is that of what was trained anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from experiments.ablations import ORDER as STAGES
from experiments.ablations import Ablation, Base

FULL = "full"
"""The row without an ablation."""
CONTROL = "A/A"
"""The full model trained with other seeds: how much it differs from the full model says what difference means nothing."""
TASKS = ("generation", "reconstruction")


@dataclass(frozen=True)
class Training:
    """One training of a stage.

    Attributes:
        stage: of ``STAGES``.
        words: Hydra overrides, without the autoencoder and the run folder.
        key: of its config, its data and, for a stage on latents, its autoencoder; names the run folder.
        parent: the autoencoder that it is trained on, or where one lies that is given.
    """

    stage: str
    words: tuple[str, ...]
    key: str
    parent: "Training | Path | None" = None

    @property
    def name(self) -> str:
        """Of the run folder."""
        return f"{self.stage}-{self.key}"


@dataclass(frozen=True)
class Member:
    """One model of a row: the stages that are trained with a seed, and those that are shared.

    Attributes:
        row: name of the row.
        group: the stage from which on the row trains anew.
        seed: of the training.
        stages: by stage the training, or where a given one lies.
        words: overrides of its evaluation.
        key: of all that its results hang on.
        speech_model: folder or hub name of the one that its last stage was trained by; None: none, or the package's Whisper.
    """

    row: str
    group: str
    seed: int
    stages: dict[str, "Training | Path"]
    words: tuple[str, ...]
    key: str
    speech_model: str | None = None

    @property
    def name(self) -> str:
        """Of its folder of results, without characters that mean something to a shell."""
        return f"{self.row.replace('/', '')}-{self.group}-seed{self.seed}"

    @property
    def keyed_name(self) -> str:
        """Of its model folder and its log, which are of these settings alone."""
        return f"{self.name}-{self.key}"

    def trainings(self) -> list[Training]:
        """What must be trained for it."""
        return [one for one in self.stages.values() if isinstance(one, Training)]


@dataclass(frozen=True)
class Row:
    """A line of the table: an ablation, the full model or the control, with a model for each seed."""

    name: str
    group: str
    claim: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Study:
    """What is asked for.

    Attributes:
        base: experiments and evaluation that are ablated.
        ablations: one row each, beside the full model.
        seeds: of the trainings.
        control: seeds of the row A/A; empty: there is none.
        task: ``generation``: all three stages; ``reconstruction``: the autoencoder alone.
        words: further overrides by stage, and of the ``evaluation``.
        given: stages that are trained already and shared by all rows, by stage.
    """

    base: Base
    ablations: tuple[Ablation, ...]
    seeds: tuple[int, ...]
    control: tuple[int, ...] = ()
    task: str = "generation"
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    given: dict[str, Path] = field(default_factory=dict)

    def stages(self) -> tuple[str, ...]:
        """The stages that a model of the study has."""
        return STAGES if self.task == "generation" else STAGES[:1]

    def words_of(self, stage: str) -> tuple[str, ...]:
        """Overrides of a stage's training without any ablation."""
        return (*self.base.training[stage], *self.words.get(stage, ()))


def plan(study: Study, keys: "Keys") -> list[Row]:
    """The rows of a study: for each group the full model, the control and the ablations.

    Where nothing is trained there is one model a row and no control: no seed makes it another one.

    Raises:
        UserError: An ablation is of a stage that the task has not, or that is given; a stage is given
            without the autoencoder that it was trained on.
    """
    if study.given and STAGES[0] not in study.given:
        raise UserError(
            f"{next(iter(study.given))}= is given: give the autoencoder= that it was trained on, too"
        )
    if set(study.stages()) <= set(study.given):
        study = replace(study, seeds=study.seeds[:1], control=())
    rows = []
    for group in dict.fromkeys(_group(one, study) for one in study.ablations):
        rows.append(_row(FULL, group, None, study.seeds, study, keys))
        if study.control:
            rows.append(_row(CONTROL, group, None, study.control, study, keys))
        own = [one for one in study.ablations if _group(one, study) == group]
        rows += [_row(one.name, group, one, study.seeds, study, keys) for one in own]
    return rows


def _group(ablation: Ablation, study: Study) -> str:
    """The stage from which on a row trains anew; one of inference alone is compared with models of all seeds."""
    stages = study.stages()
    stage = ablation.stage or next((one for one in reversed(stages) if one not in study.given), stages[-1])
    if stage not in study.stages():
        raise UserError(
            f"ablation={ablation.name} is of stage '{stage}', which task={study.task} does not train"
        )
    if ablation.stage in study.given:
        raise UserError(
            f"ablation={ablation.name} trains stage '{stage}' anew: leave {stage}={study.given[stage]} out"
        )
    return stage


def _row(
    name: str,
    group: str,
    ablation: Ablation | None,
    seeds: Iterable[int],
    study: Study,
    keys: "Keys",
) -> Row:
    claim = ablation.claim if ablation else ""
    return Row(name, group, claim, tuple(_member(name, group, ablation, seed, study, keys) for seed in seeds))


def _member(row: str, group: str, ablation: Ablation | None, seed: int, study: Study, keys: "Keys") -> Member:
    stages: dict[str, Training | Path] = {}
    last: tuple[str, ...] | Path = ()
    for stage in study.stages():
        if stage in study.given:
            stages[stage] = last = study.given[stage]
            continue
        anew = STAGES.index(stage) >= STAGES.index(group)
        more = ablation.words(stage) if ablation and ablation.stage else ()
        own = seed if anew else study.seeds[0]
        words = (*study.words_of(stage), *more)
        parent = None if stage == STAGES[0] else stages[STAGES[0]]
        key = keys.training(stage, words, own, parent)
        stages[stage], last = Training(stage, (*words, f"seed={own}"), key, parent), words
    words = (*study.base.evaluation, *study.words.get("evaluation", ()))
    words += tuple(ablation.generation_words()) if ablation else ()
    data = keys.evaluated(words, study.words_of(study.stages()[-1]))
    key = keys.member(study.task, stages, words, data)
    return Member(row, group, seed, stages, words, key, keys.speech_model(last))


class Keys:
    """Keys of trainings and of results: what they hang on, as a hash; the code's version is not among it."""

    def __init__(self) -> None:
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self._manifests: dict[str, str] = {}
        self._given: dict[Path, str] = {}
        self._roots: dict[tuple[str, ...], str | None] = {}

    def training(self, stage: str, words: tuple[str, ...], seed: int, parent: Training | Path | None) -> str:
        """Of a training's config without places and devices, the manifest of its data and its autoencoder."""
        from experiments.run_folder import config_hash
        from metrics.evaluation.protocol_names import short_hash

        above = parent.key if isinstance(parent, Training) else self.given(parent)
        plain = {**self.config(words), "autoencoder": None, "seed": seed}
        if plain["stage"] != stage:
            raise UserError(f"base: its words for stage '{stage}' train stage '{plain['stage']}'")
        return short_hash({"config": config_hash(plain), "data": self.manifest(plain), "parent": above})

    def config(self, words: tuple[str, ...]) -> dict[str, Any]:
        """The resolved config of a training."""
        from experiments.config import compose, resolve

        if words not in self._configs:
            self._configs[words] = resolve(compose(list(words)), whole=False)
        return self._configs[words]

    def given(self, path: Path | None) -> str | None:
        """Hash of the weights of a stage that is trained already; the path is that of the file."""
        from lightning_modules.checkpoints import load_network, weights_hash

        if path is not None and path not in self._given:
            self._given[path] = weights_hash(load_network(path)[0])
        return None if path is None else self._given[path]

    def speech_model(self, stage: tuple[str, ...] | Path) -> str | None:
        """Folder or hub name of the speech model of a training by its words, or of a stage that is trained already."""
        from lightning_modules.checkpoints import read_network_record

        found = read_network_record(stage).audio if isinstance(stage, Path) else self.config(stage)["audio"]
        audio = found or {}
        return None if audio.get("name") == "mel" else audio.get("source")

    def manifest(self, plain: dict[str, Any]) -> str:
        """Hash of the manifest of a resolved config's data, which are rendered first if they are synthetic.

        Raises:
            UserError: they are not there, or other than the config says.
        """
        from datamodules.clips.manifest import MANIFEST_NAME, file_sha256
        from experiments.config import instantiate

        root = Path(str(plain["data"]["root"]))
        if str(root) not in self._manifests:
            instantiate({**plain["data"], "task": "frame_pairs"}).prepare_data()
            self._manifests[str(root)] = file_sha256(root / MANIFEST_NAME)
        return self._manifests[str(root)]

    def evaluated(self, words: tuple[str, ...], trained: tuple[str, ...]) -> str:
        """Hash of the manifest of what an evaluation of these words judges on: its own data, else those of a training."""
        from datamodules.clips.manifest import MANIFEST_NAME, file_sha256
        from experiments.config import compose

        own = tuple(word for word in words if word.startswith("data.root="))
        if own not in self._roots:
            self._roots[own] = compose(own, "evaluate").data.root
        plain, root = self.config(trained), self._roots[own]
        root = root or plain["data"]["root"]
        if (file := Path(str(root)) / MANIFEST_NAME).is_file():
            return file_sha256(file)
        return self.manifest(plain) if str(root) == str(plain["data"]["root"]) else str(root)

    def member(self, task: str, stages: dict[str, Training | Path], words: Sequence[str], data: str) -> str:
        """Of a model's trainings and of how it is evaluated, wherever the data lie."""
        from metrics.evaluation.protocol_names import short_hash

        trained = {
            stage: one.key if isinstance(one, Training) else self.given(one) for stage, one in stages.items()
        }
        asked = sorted(word for word in words if not word.startswith("data.root="))
        return short_hash({"task": task, "stages": trained, "evaluation": asked, "data": data})
