"""Hydra configs: composing, resolving, and the one place that instantiates."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Transformer
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from datamodules.errors import UserError
from experiments.config_checks import check_types

CONFIG_FOLDER = Path(__file__).resolve().parent / "configs"
PATHS = {
    "audio.source",
    "autoencoder",
    "data.latents",
    "data.root",
    "data.splits",
    "judge",
    "lift",
    "model",
    "output",
    "resume",
    "run_dir",
    "speech_model",
    "talking_head",
}
"""Keys whose values are files or folders: a name that looks like a number stays the text that was typed."""


def config_names(group: str) -> list[str]:
    """Names of the configs of a group, e.g. ``experiment``, in alphabetical order."""
    return sorted(path.stem for path in (CONFIG_FOLDER / group).glob("*.yaml"))


def compose(overrides: Sequence[str] = (), name: str = "train") -> DictConfig:
    """Compose the primary config ``name`` with Hydra overrides; interpolations stay unresolved.

    Args:
        overrides: ``KEY=VALUE`` as typed in a shell, see ``hydra_overrides``; those of an
            ``ablation`` come before all others.
        name: primary config.

    Raises:
        UserError: an override is malformed, or names a key or a config that does not exist; an ablation of another stage.
    """
    overrides = hydra_overrides(overrides)
    ablations: list[str] = []
    if any(_key(word) == "ablation" for word in overrides):
        from experiments.ablations import with_ablations

        overrides, ablations = with_ablations(overrides, name)
    overrides = with_open_maps(overrides, name)
    outer = GlobalHydra.instance().hydra  # inside a multirun job Hydra is initialised already
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
            config = hydra.compose(config_name=name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        unknown = re.search(r"Could not override '(.+?)'\.", str(error))
        if not unknown:
            raise UserError(config_error_line(error)) from error
        rest = [word for word in overrides if _key(word) != unknown[1]]
        raise UserError(_unknown_key(unknown[1], _known_keys(rest, name))) from error
    except YAMLError as error:
        raise UserError(f"config: a file is no YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError) as error:  # Hydra's word of a group that is null
        raise UserError(
            f"config: a group takes a name, not null ({error}); to leave one out: ~GROUP"
        ) from error
    finally:
        GlobalHydra.instance().hydra = outer
    if ablations:
        config.ablations = ablations
    return config


def require_model(overrides: Sequence[str]) -> None:
    """Refuse a model that isn't where the overrides of an evaluation say, before anything slow is imported."""
    from lightning_modules.model_folder import resolve_model

    parsed = [OverridesParser.create().parse_override(word) for word in hydra_overrides(overrides)]
    for one in parsed:
        if one.key_or_group in ("model", "talking_head") and one.value() is not None:
            resolve_model(str(one.value()))


def hydra_overrides(words: Sequence[str], multirun: bool = False) -> list[str]:
    """Overrides as typed in a shell -> overrides in Hydra's grammar.

    A text that the grammar doesn't know (accents, ``=``, brackets inside) is taken as it is, and so is a path.

    Args:
        words: ``KEY=VALUE``, ``+KEY=VALUE`` or ``~KEY``.
        multirun: whether ``a,b`` means one run for each.

    Raises:
        UserError: names the first that can't be read, and says how to quote it.
    """
    return [_hydra_override(word, multirun) for word in words]


def _hydra_override(word: str, multirun: bool) -> str:
    key, equals, value = word.partition("=")
    if word.startswith("~"):
        return word
    if not equals:
        raise UserError(f"config: '{word}' says no value; write {word}=VALUE")
    how = f'as a text write it in two pairs of quotes: "{override(key, value)}"'
    try:
        parsed = OverridesParser.create().parse_override(word)
    except HydraException as error:
        if re.match(r"[\[{'\"]|\w+\(", value.strip()):  # meant as a list, a map, a quoted text or a function
            raise UserError(f"config: {word} can't be read; {how}") from error
        return override(key, value)
    if parsed.is_sweep_override() and not multirun:
        raise UserError(
            f"config: {word} gives several values: write a list as [a,b], use -m for a run each, or {how}"
        )
    if key.lstrip("+") not in PATHS:
        return word
    if parsed.is_choice_sweep() and getattr(parsed.value(), "simple_form", False):
        values = [_text_of_path(key, one.strip()) for one in value.split(",")]
        return f"{key}={','.join(values)}"
    return f"{key}={_text_of_path(key, value)}"


def _text_of_path(key: str, value: str) -> str:
    """A path that the grammar would read as a number or truth value, in quotes."""
    found = OverridesParser.create().parse_override(f"{key}={value}").value()
    return override("", value.strip())[1:] if isinstance(found, int | float) else value


def with_open_maps(words: Sequence[str], name: str = "train") -> list[str]:
    """Overrides in Hydra's grammar; a map for a key that exists may bring new keys.

    Raises:
        UserError: there is no such key.
    """
    parser = OverridesParser.create()
    parsed = {word: parser.parse_override(word) for word in words}
    maps = [
        word
        for word, one in parsed.items()
        if isinstance(one.value(), dict) and "." in _key(word) and word[0] not in "+~"
    ]
    opened = [f"++{word}" if word in maps else word for word in words]
    if not maps or any(isinstance(one.value(), Glob) for one in parsed.values()):
        return opened  # what a glob names is known to a running Hydra alone
    inside = tuple(f"{_key(word)}." for word in maps)
    rest = [word for word in words if word not in maps and not _key(word).startswith(inside)]
    known = _keys(OmegaConf.to_container(compose([_one_run(parsed[word]) for word in rest], name)))
    for key in map(_key, maps):
        if key not in known and not key.startswith("hydra."):
            raise UserError(_unknown_key(key, known))
    return opened


def _one_run(parsed: Override) -> str:
    """The override of one run of those that it asks for."""
    if not parsed.is_sweep_override():
        return str(parsed.input_line)
    transformer: Any = Transformer.encode
    return f"{parsed.get_key_element()}={next(iter(parsed.sweep_iterator(transformer)))}"


def _key(word: str) -> str:
    return word.split("=")[0].lstrip("+~")


def _known_keys(words: Sequence[str], name: str) -> list[str]:
    try:
        return _keys(OmegaConf.to_container(compose(words, name)))
    except UserError:
        return []


def _unknown_key(key: str, known: Sequence[str]) -> str:
    """A line about a key that a config does not have: the most similar that it has, and how to add an argument."""
    groups = [path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir()]
    if key in groups:
        return f"config: {key} takes a name, or several: {key}=NAME"
    similar = difflib.get_close_matches(key, [*known, *groups], n=1)
    told = [f"did you mean {similar[0]}?"] if similar else []
    if f"{key.rpartition('.')[0]}._target_" in known:
        told.append(f"an argument that no config names is added by +{key}=...")
    return "; ".join([f"config: there is no key '{key}'", *told])


def _keys(config: Any, above: str = "") -> list[str]:
    """All keys of nested mappings, with dots."""
    found = []
    for key, value in config.items() if isinstance(config, dict) else ():
        found += [f"{above}{key}", *_keys(value, f"{above}{key}.")]
    return found


def override(key: str, value: object) -> str:
    """``KEY='VALUE'`` as a Hydra override that keeps a text as it is, with any spaces, commas, equals signs and quotes.

    Args:
        key: dotted key, e.g. ``data.root``.
        value: text or path.
    """
    text = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(value))
    return f"{key}='{text}'"


def config_error_line(error: Exception) -> str:
    """One line of a Hydra or OmegaConf error, which spreads its cause and hints over several."""
    text = str(error).split("Config search path:")[0].split("See https://")[0]
    if isinstance(cause := error.__cause__, OmegaConfBaseException):
        text += "\n" + str(cause).splitlines()[0]
    silent = ("full_key", "object_type", "reference_type", "set_struct")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = dict.fromkeys(line for line in lines if not line.startswith(silent))
    return f"config: {'; '.join(kept).replace(':; ', ': ') or type(error).__name__}"


def resolve(config: DictConfig, whole: bool = True) -> dict[str, Any]:
    """Resolve every interpolation and return plain dicts, lists, numbers and strings.

    Raises:
        UserError: an interpolation leads nowhere, or, of a ``whole`` config, a value is missing (``???``).
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=whole)
    except OmegaConfBaseException as error:
        raise UserError(config_error_line(error)) from error
    return cast(dict[str, Any], plain)


def instantiate(config: Any, **arguments: Any) -> Any:
    """Build the object that a config's ``_target_`` names; further arguments are handed to it as they are.

    Containers reach the object as plain dicts and lists, so that nothing of OmegaConf ends in a checkpoint.

    Raises:
        UserError: the object refused its arguments: with that error, or as being of a wrong type or value.
    """
    node = config if isinstance(config, DictConfig) else OmegaConf.create(config)
    check_types(resolve(node, whole=False), node._get_full_key(None))
    try:
        if not arguments:
            return hydra.utils.instantiate(config, _convert_="all")
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)(**arguments)
    except Exception as error:
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if not isinstance(cause, TypeError | ValueError | ModuleNotFoundError | MisconfigurationException):
            raise  # the arguments were not at fault
        key = re.search(r"full_key: (\S+)", str(error))
        place = key[1] if key else str(config.get("_target_")).rpartition(".")[2]
        raise UserError(f"config: {place}: {' '.join(str(cause).split())}") from error


def instantiate_all(configs: Any) -> list[Any]:
    """Build every entry of a mapping of configs; entries set to null are left out."""
    return [instantiate(config) for config in (configs or {}).values() if config is not None]
