"""Networks by name: what configs, run folders and model folders may ask for, built from plain values alone.

The form is the same everywhere and flat: ``{name: paper_renderer, size: 128, channels: {...}}``; a nested map with a key
``name`` is a network, too. A file of a stranger can name what stands here and give numbers in bounds, and nothing else.
"""

import inspect
import math
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from datamodules.errors import UserError

NETWORKS = {
    "paper_renderer": "lightning_modules.networks.paper_renderer:PaperRenderer",
    "warp_renderer": "lightning_modules.networks.warp_renderer:WarpRenderer",
    "diffusion_transformer": "lightning_modules.networks.diffusion_transformer:DiffusionTransformer",
    "statistics_estimator": "lightning_modules.networks.statistics_estimator:StatisticsEstimator",
    "mel_encoder": "lightning_modules.networks.audio_encoder:MelEncoder",
    "feature_projection": "lightning_modules.networks.audio_encoder:FeatureProjection",
    "discriminator": "lightning_modules.networks.discriminator:Discriminator",
    "patch_discriminator": "lightning_modules.networks.discriminator:PatchDiscriminator",
    "syncnet": "metrics.judges.syncnet:SyncNet",
}
"""Name -> module and class; imported when the network is built. A new network adds its line here."""
MAX_PARAMETERS = 10**9
"""Weights of a network; the largest of the paper's sizes has a twentieth of them."""
MAX_NUMBER = 8192
MAX_NUMBERS = {"size": 2048, "in_dim": 32_768, "depth": 256, "sampler_steps": 1000}
"""Largest value of an argument; of those that aren't listed ``MAX_NUMBER``."""
MAX_ITEMS = 64
"""Entries of a list or a map."""
MAX_TEXT = 64
"""Characters of a string."""
MAX_NESTING = 4
"""Networks inside networks."""


def build_network(name: str, **arguments: Any) -> nn.Module:
    """Build a network of the registry.

    Args:
        name: Key of ``NETWORKS``.
        **arguments: Keyword arguments of its class: numbers, strings, bools, None, lists and maps of those; a map with a
            key ``name`` is a network that is built first.

    Returns:
        The network, with ``network.spec``: name and arguments as plain values, which build the same again.

    Raises:
        UserError: No such network or argument, a value of another type, a number out of bounds, or values that don't go
            together.
    """
    # Once without memory: a network of absurd size is refused before it is allocated.
    return _build(network_spec(plan_network(name, **arguments)))


def plan_network(name: str, **arguments: Any) -> nn.Module:
    """The network that `build_network` would build of the same, on the meta device: no memory, no random number is drawn.

    Raises:
        UserError: See `build_network`.
    """
    spec = {"name": name, **{key: _plain(value) for key, value in arguments.items()}}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = _build(spec)
    sizes = [tensor.numel() for tensor in (*network.parameters(), *network.buffers())]
    if not all(sizes):
        raise UserError(f"network {name} has a layer of size 0: give larger numbers")
    if sum(sizes) > MAX_PARAMETERS:
        raise UserError(f"network {name} has {sum(sizes):,} weights; at most {MAX_PARAMETERS:,} are built")
    return network


def network_spec(network: nn.Module) -> dict[str, Any]:
    """Name and arguments that ``build_network`` built a network of.

    Raises:
        UserError: It was built in another way, and can't be written down.
    """
    spec = vars(network).get("spec")
    if spec is None:
        raise UserError(f"{type(network).__name__} was not built by its registered name: use build_network")
    return spec


def whole_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A network's name with all its arguments, those that are not given at their defaults: what an older spec means now."""
    module, _, class_name = NETWORKS[spec["name"]].partition(":")
    parameters = inspect.signature(getattr(import_module(module), class_name)).parameters
    defaults = {key: one.default for key, one in parameters.items() if one.default is not one.empty}
    given = {
        k: whole_spec(v) if isinstance(v, dict) and v.get("name") in NETWORKS else v for k, v in spec.items()
    }
    return defaults | given


def checked_arguments(target: type, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Keyword arguments for a class out of plain values from outside, checked by its signature and annotations.

    Args:
        target: The class that will be called with them.
        given: Name -> value.
        what: Is built, for the messages.

    Raises:
        UserError: An argument is unknown or lacking, of another type, or out of bounds.
    """
    parameters = inspect.signature(target).parameters
    for key in given:
        if key not in parameters:
            raise UserError(f"{what} has no argument {_shown(key)}: it knows {', '.join(parameters)}")
    if lacking := [k for k, p in parameters.items() if p.default is p.empty and k not in given]:
        raise UserError(f"{what} lacks {', '.join(lacking)}")
    types_of = typing.get_type_hints(target.__init__)  # type: ignore[misc]
    return {key: _checked(value, types_of[key], f"{what}: {key}", key) for key, value in given.items()}


def _build(spec: Mapping[str, Any], depth: int = 0) -> nn.Module:
    name = spec.get("name")
    if not isinstance(name, str) or name not in NETWORKS:
        raise UserError(f"no network is named {_shown(name)}: use one of {', '.join(NETWORKS)}")
    if depth > MAX_NESTING:
        raise UserError(f"network {name}: too many networks inside each other")
    module, _, class_name = NETWORKS[name].partition(":")
    network_class: type[nn.Module] = getattr(import_module(module), class_name)
    given = {
        key: _build(value, depth + 1) if isinstance(value, dict) and "name" in value else value
        for key, value in spec.items()
        if key != "name"
    }
    arguments = checked_arguments(network_class, given, f"network {name}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # refused with its reason
            network = network_class(**arguments)
    except UserError:
        raise
    except ZeroDivisionError as error:
        zeros = " or ".join(f"{key}=0" for key, value in arguments.items() if value == 0) or "a 0 in it"
        raise UserError(f"network {name} can't be built so: {zeros}; give a larger number") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"network {name} can't be built so: {type(error).__name__}: {error}") from error
    network.spec = dict(spec)  # type: ignore[assignment]
    return network


def _plain(value: Any) -> Any:
    """Copy of maps and lists as dict and list, whatever kind they are of (Hydra's)."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _checked(value: Any, kind: Any, where: str, key: str) -> Any:
    """The value, with the keys of a map of numbers as numbers: JSON has only strings.

    Raises:
        UserError: It is not of that type, or out of bounds.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        fitting = [part for part in inner if _is_of(value, typing.get_origin(part) or part)]
        return _checked(value, fitting[0] if fitting else inner[0], where, key)
    if not _is_of(value, origin or kind):
        raise UserError(f"{where} is {_shown(value)}, not of type {getattr(kind, '__name__', kind)}")
    if isinstance(value, str | list | dict) and len(value) > (
        MAX_TEXT if isinstance(value, str) else MAX_ITEMS
    ):
        raise UserError(f"{where} has {len(value)} entries: that is too long")
    if isinstance(value, dict):
        key_kind, item_kind = inner or (str, int)
        if key_kind is int:
            value = {int(k) if str(k).isdecimal() and len(str(k)) < 6 else k: v for k, v in value.items()}
        return {
            _checked(k, key_kind, where, key): _checked(v, item_kind, where, key) for k, v in value.items()
        }
    if isinstance(value, list):
        return [_checked(item, inner[0] if inner else float, where, key) for item in value]
    largest = MAX_NUMBERS.get(key, MAX_NUMBER)
    if isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value <= largest):
        raise UserError(f"{where} is {_shown(value)}: use a number from 0 to {largest}")
    return value


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type of a signature; a bool is no number, a whole number may stand for any number."""
    if value is None or isinstance(value, bool):
        return kind is (type(None) if value is None else bool)
    if isinstance(value, dict):
        return kind in (dict, Mapping)
    if isinstance(value, list):
        return kind in (list, tuple, Sequence)
    if isinstance(value, nn.Module):
        return getattr(kind, "_is_protocol", False) or (isinstance(kind, type) and isinstance(value, kind))
    if isinstance(value, int):
        return kind in (int, float)
    return isinstance(value, float | str) and type(value) is kind


def _shown(value: Any) -> str:
    """A value from outside for a message: short, in one line."""
    return repr(value)[:MAX_TEXT]
