"""Hydra configs: composing, resolving, and the one place that instantiates."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.errors import UserError

CONFIG_FOLDER = Path(__file__).resolve().parent / "configs"


def config_names(group: str) -> list[str]:
    """Names of the configs of a group, e.g. ``experiment``, in alphabetical order."""
    return sorted(path.stem for path in (CONFIG_FOLDER / group).glob("*.yaml"))


def compose(overrides: Sequence[str] = (), name: str = "train") -> DictConfig:
    """Compose the primary config ``name`` with Hydra overrides; interpolations stay unresolved.

    Args:
        overrides: ``KEY=VALUE`` as typed in a shell, see ``hydra_overrides``.
        name: primary config.

    Raises:
        UserError: an override is malformed, or names a key or a config that does not exist; an ablation of another stage.
    """
    overrides = hydra_overrides(overrides)
    outer = GlobalHydra.instance().hydra  # inside a multirun job Hydra is initialised already
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
            config = hydra.compose(config_name=name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        unknown = re.search(r"Could not override '(.+?)'\.", str(error))
        line = _unknown_key(unknown[1], overrides, name) if unknown else config_error_line(error)
        raise UserError(line) from error
    finally:
        GlobalHydra.instance().hydra = outer
    ablation = config.get("ablation")
    if ablation is not None and ablation.stage != config.stage:
        raise UserError(
            f"ablation={ablation.name} changes stage '{ablation.stage}', but the experiment trains '{config.stage}'"
        )
    return config


def hydra_overrides(words: Sequence[str], multirun: bool = False) -> list[str]:
    """Overrides as typed in a shell -> overrides in Hydra's grammar.

    A text that the grammar doesn't know (accents, ``=``, brackets inside) is taken as it is, a map may bring new keys.

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
    return f"++{word}" if isinstance(parsed.value(), dict) and "." in key and key[0] != "+" else word


def _unknown_key(key: str, overrides: Sequence[str], name: str) -> str:
    """A line about a key that a config does not have, with the most similar that it has."""
    rest = [word for word in overrides if word.split("=")[0].lstrip("+~") != key]
    try:
        known = _keys(OmegaConf.to_container(compose(rest, name)))
    except UserError:
        known = []
    groups = [path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir()]
    similar = difflib.get_close_matches(key, [*known, *groups], n=1)
    return f"config: there is no key '{key}'{f'; did you mean {similar[0]}?' if similar else ''}"


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
    return f"config: {'; '.join(kept) or type(error).__name__}"


def resolve(config: DictConfig) -> dict[str, Any]:
    """Resolve every interpolation and return plain dicts, lists, numbers and strings.

    Raises:
        UserError: a value is missing (``???``) or an interpolation leads nowhere.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(config_error_line(error)) from error
    return cast(dict[str, Any], plain)


def instantiate(config: Any, **arguments: Any) -> Any:
    """Build the object that a config's ``_target_`` names; further arguments are handed to it as they are.

    Containers reach the object as plain dicts and lists, so that nothing of OmegaConf ends in a checkpoint.

    Raises:
        UserError: the object refused its arguments: with that error, or as being of a wrong type or value.
    """
    try:
        if not arguments:
            return hydra.utils.instantiate(config, _convert_="all")
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)(**arguments)
    except (InstantiationException, TypeError, ValueError) as error:
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if not isinstance(cause, TypeError | ValueError | MisconfigurationException):
            raise  # the arguments were not at fault
        key = re.search(r"full_key: (\S+)", str(error))
        place = key[1] if key else str(config.get("_target_")).rpartition(".")[2]
        raise UserError(f"config: {place}: {' '.join(str(cause).split())}") from error


def instantiate_all(configs: Any) -> list[Any]:
    """Build every entry of a mapping of configs; entries set to null are left out."""
    return [instantiate(config) for config in (configs or {}).values() if config is not None]
