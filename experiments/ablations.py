"""Ablations and the bases that they are compared in, as files: ``configs/ablation`` and ``configs/base``."""

import difflib
import functools
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Transformer

from datamodules.errors import UserError
from experiments.config import CONFIG_FOLDER, compose, config_names, hydra_overrides, resolve
from experiments.config_checks import STAGES

ORDER = ("autoencoder", "statistics", "diffusion")
"""Stages of a model, each trained on what those before it have made."""
SHARED = ("motion_dim", "audio", "basis", "model/audio_encoder@model")
"""Beginnings of the keys that an ablation changes in its stage and in all that follow."""
GENERATION = "generation."
DEFAULTS = {"steps": "sampler_steps"} | {
    name: name for name in ("guidance", "statistics_guidance", "mouth_temperature")
}
"""Options of generation that are the diffusion process's own where they are null, and their names there."""


class Ablation(NamedTuple):
    """One file of ``configs/ablation``, or a user's own.

    Attributes:
        name: Of the file, without ``.yaml``.
        claim: Its first comment: what the ablation tests.
        stage: From which on all is trained anew; None: the model stays, it is asked otherwise.
        overrides: Hydra words ``KEY=VALUE``.
    """

    name: str
    claim: str
    stage: str | None
    overrides: tuple[str, ...]

    def words(self, stage: str) -> list[str]:
        """The words that it adds to the training of ``stage``: all to its own, what stages share to those that follow."""
        training = [word for word in self.overrides if not word.startswith(GENERATION)]
        if stage == self.stage:
            return training
        if self.stage not in ORDER or stage not in ORDER[ORDER.index(self.stage) :]:
            return []
        return [word for word in training if _is_shared(word)]

    def generation_words(self) -> list[str]:
        """The words that it adds to an evaluation, ``generation.KEY=VALUE``."""
        return [word for word in self.overrides if word.startswith(GENERATION)]


class Base(NamedTuple):
    """One file of ``configs/base``: what the full model of a comparison is trained and evaluated by.

    Attributes:
        name: Of the file, without ``.yaml``.
        about: Its first comment.
        training: Hydra words of each stage by its name, in the order of training.
        evaluation: Words of ``configs/evaluate.yaml``.
    """

    name: str
    about: str
    training: dict[str, tuple[str, ...]]
    evaluation: tuple[str, ...]


def ablation_names() -> list[str]:
    """Names of the ablations that come with the package, in alphabetical order."""
    return config_names("ablation")


def read_ablation(name: str) -> Ablation:
    """Read an ablation.

    Args:
        name: Of a file in ``configs/ablation``, or the path of any ``.yaml`` file.

    Raises:
        UserError: There is none, or its file is no ablation: says what is wrong in a line.
    """
    path, claim, content = _read("ablation", name, ("stage", "overrides"))
    stage, overrides = content["stage"], _words(path, "overrides", content["overrides"])
    if not claim:
        raise UserError(f"{path}: begin with a comment that says which claim it tests")
    if stage is not None and stage not in STAGES:
        raise UserError(f"{path}: there is no stage {stage!r}: use {', '.join(STAGES)}, or null")
    asked = [word.startswith(GENERATION) for word in overrides]
    if not asked:
        raise UserError(f"{path}: overrides: [] changes nothing; give KEY=VALUE words")
    if stage is None and not all(asked):
        word = overrides[asked.index(False)]
        raise UserError(f"{path}: {word} needs training: say the stage, or change {GENERATION}KEY alone")
    if stage is not None and all(asked):
        raise UserError(f"{path}: nothing of stage {stage!r} is changed: say stage: null")
    return Ablation(path.stem, claim, stage, overrides)


def read_base(name: str) -> Base:
    """Read a base.

    Args:
        name: Of a file in ``configs/base``, or the path of any ``.yaml`` file.

    Raises:
        UserError: There is none, or its file is no base: says what is wrong in a line.
    """
    path, about, content = _read("base", name, (*ORDER, "evaluation"))
    words = {key: _words(path, key, content[key]) for key in (*ORDER, "evaluation")}
    if not about:
        raise UserError(f"{path}: begin with a comment that says what it is")
    for stage in ORDER:
        if not any(word.startswith("experiment=") for word in words[stage]):
            raise UserError(f"{path}: {stage}: name an experiment of that stage, experiment=NAME")
    return Base(path.stem, about, {stage: words[stage] for stage in ORDER}, words["evaluation"])


def asked_ablations(words: Sequence[str]) -> list[str]:
    """Names that the word ``ablation=NAME`` or ``ablation=[A,B]`` asks for; ``ablation=A,B`` of a multirun asks for both.

    Raises:
        UserError: The word is there twice, or no name.
    """
    parser = OverridesParser.create()
    parsed = [parser.parse_override(word) for word in words]
    chosen = [one for one in parsed if one.key_or_group == "ablation" and not one.is_delete()]
    if len(chosen) > 1:
        raise UserError(
            f"ablation= is given {len(chosen)} times, of which the last would count: write ablation=[a,b]"
        )
    names: list[Any] = []
    for one in chosen:
        if isinstance(one.value(), Glob):
            raise UserError(f"{one.input_line}: name the ablations; there are: {', '.join(ablation_names())}")
        encode: Any = Transformer.encode
        choices = one.sweep_iterator(encode) if one.is_sweep_override() else [one.get_value_element_as_str()]
        for choice in choices:
            value: Any = parser.parse_override(f"ablation={choice}").value()
            names += value if isinstance(value, list) else [] if value is None else [value]
    if None in names:
        raise UserError("ablation: null is no name; leave it out of the list")
    return [str(name) for name in names]


def with_ablations(words: Sequence[str], config: str) -> tuple[list[str], list[str]]:
    """Put the words of the ablations that are asked for before the others, which win.

    Args:
        words: Of a training, in Hydra's grammar.
        config: The primary config that they are for.

    Returns:
        The words without ``ablation=``, and the names of the ablations.

    Raises:
        UserError: No such ablation, or it changes nothing in the stage that is trained.
    """
    ablations = [read_ablation(name) for name in asked_ablations(words)]
    rest = [word for word in words if word.partition("=")[0].lstrip("+~") != "ablation"]
    if not ablations:
        return rest, []
    stage = compose(rest, config).stage
    for one in ablations:
        if one.stage is None:
            raise UserError(
                f"ablation={one.name} changes no training: add {' '.join(one.overrides)} to `evaluate`"
            )
        if not one.words(stage):
            raise UserError(
                f"ablation={one.name} changes stage '{one.stage}', but the experiment trains '{stage}'"
            )
    laid = [word for one in ablations for word in hydra_overrides(one.words(stage))]
    return [*laid, *rest], [one.name for one in ablations]


def refuse_without_effect(
    ablation: Ablation, words: Mapping[str, Sequence[str]], base: str | None = None
) -> None:
    """Refuse an ablation of what a base does not have.

    Args:
        ablation: The words that are to change something.
        words: Of each stage of the base, and, if there are any, of its ``evaluation``.
        base: Its name, for the message.

    Raises:
        UserError: The configs of the base are the same with and without the ablation, or it lacks the stage.
    """
    told = f"ablation={ablation.name} changes nothing in base={base or 'given'}"
    if ablation.stage is not None and ablation.stage not in words:
        raise UserError(f"{told}, which has no stage '{ablation.stage}'")
    for stage in ORDER if ablation.stage in ORDER else STAGES:
        added = ablation.words(stage)
        if added and _trained(words.get(stage, ())) != _trained([*words.get(stage, ()), *added]):
            return
    if asked := ablation.generation_words():
        given = [word for word in words.get("evaluation", ()) if word.startswith(GENERATION)]
        if _options(given, words) != _options([*given, *asked], words):
            return
    raise UserError(f"{told} ({', '.join(ablation.overrides)}: so it is already)")


def _trained(words: Sequence[str]) -> dict[str, Any]:
    """What a training of these words is, wherever its run goes. Not to be changed."""
    return _composed(tuple(words))


@functools.cache  # a table asks for the same base in each of its rows
def _composed(words: tuple[str, ...]) -> dict[str, Any]:
    return resolve(compose([*words, "run_dir=run"]), whole=False)


def _options(asked: Sequence[str], words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Options of an evaluation of a model that was trained by these words, its own where these are known."""
    options = dict(resolve(compose(asked, "evaluate"), whole=False)["generation"])
    own = _trained(words["diffusion"])["model"]["diffusion"] if words.get("diffusion") else {}
    for option, key in DEFAULTS.items():
        options[option] = own.get(key) if options[option] is None else options[option]
    return options


def _is_shared(word: str) -> bool:
    """Whether a word's key is one that several stages read."""
    key = word.partition("=")[0].lstrip("+")
    return any(key == one or key.startswith(f"{one}.") for one in SHARED)


def _read(group: str, name: str, keys: Sequence[str]) -> tuple[Path, str, dict[str, Any]]:
    """Path, first comment and content of a file of a group, which must have just these keys; UserError where it hasn't."""
    path = Path(name) if name.endswith(".yaml") else CONFIG_FOLDER / group / f"{name}.yaml"
    if path.parent == CONFIG_FOLDER / group and path.stem not in config_names(group):
        similar = difflib.get_close_matches(name, config_names(group), n=1, cutoff=0.7)
        told = f"did you mean {similar[0]}? " if similar else ""
        raise UserError(
            f"{group}={name}: {told}there are {', '.join(config_names(group))}; a file of your own is named with .yaml"
        )
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != set(keys):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else "no keys"
        raise UserError(f"{path}: has {found}; it must have the keys {' and '.join(keys)}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comment = [line.lstrip("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    return path, " ".join(comment).strip(), content


def _words(path: Path, key: str, found: Any) -> tuple[str, ...]:
    """A list of Hydra words ``KEY=VALUE`` as it stands in a file; UserError where it is none."""
    if not isinstance(found, list):
        raise UserError(f"{path}: {key}: write a list, [KEY=VALUE, ...]")
    for word in found:
        if not isinstance(word, str) or not word.partition("=")[1] or not word.partition("=")[0].strip("+~ "):
            raise UserError(
                f"{path}: {key}: {word!r} is no text KEY=VALUE; quote what holds a bracket or a comma"
            )
        try:
            hydra_overrides([word])
        except UserError as error:
            raise UserError(f"{path}: {key}: {error}") from error
    return tuple(found)
