"""What is refused of a composed config before anything is built of it."""

import contextlib
import types
import typing
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from datamodules.errors import UserError

KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    tuple: "a list",
    list: "a list",
    types.NoneType: "null",
}
"""Annotated types that no text can stand for, in words."""
FITTING: dict[type, set[type]] = {bool: {bool}, int: {int, float}, float: {float}, str: set()}
"""Type of a value -> the annotated types that it may stand for."""
NUMBERS = {
    "seed": (0, 2**32 - 1),
    "data.batch_size": (1, 2**20),
    "data.num_workers": (0, 2**10),
    "data.pairs_per_clip": (1, 2**20),
    "data.windows_per_clip": (1, 2**20),
    "trainer.max_steps": (1, 2**31),
    "trainer.max_epochs": (1, 2**31),
    "trainer.check_val_every_n_epoch": (1, 2**31),
    "trainer.limit_train_batches": (1e-6, 2**31),
    "model.optimizer.lr": (0.0, 1e3),
}
"""Settings -> least and largest value, whole numbers where these are; of the trainer -1 stands for no limit."""


def check_numbers(plain: dict[str, Any]) -> None:
    """Refuse numbers that would end a training late, or at once as if all were well."""
    for key, (least, most) in NUMBERS.items():
        value: Any = plain
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or (key.startswith("trainer.max") and value == -1):
            continue
        fits = type(value) is int or (type(value) is float and isinstance(least, float))
        if not fits or not least <= value <= most:
            kind = "a number" if isinstance(least, float) else "a whole number"
            raise UserError(f"config: {key}={value}: use {kind} from {least:g} to {most:.10g}")


def check_ablations(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse an ablation of another stage, or one whose file does not reach the config as it should."""
    told: dict[Any, Any] = dict(config.get("ablation") or {})
    parsed = [OverridesParser.create().parse_override(word) for word in overrides]
    chosen: list[Any] = [one.value() for one in parsed if one.key_or_group == "ablation"]
    for name in chosen[-1] if chosen and isinstance(chosen[-1], list) else chosen[-1:]:
        if name is not None and not isinstance(told.get(name), str):
            raise UserError(
                f"configs/ablation/{name}.yaml: must begin with the line '# @package _global_' and say "
                f"'ablation: {{{name}: STAGE}}'"
            )
    for name, stage in told.items():
        if stage != config.stage:
            raise UserError(
                f"ablation={name} changes stage '{stage}', but the experiment trains '{config.stage}'"
            )


def check_types(node: Any, where: str) -> None:
    """Refuse a text where what a resolved config at the key ``where`` builds is annotated to take a number, and the like."""
    if not isinstance(node, dict):
        return
    wanted = _annotations(node["_target_"]) if "_target_" in node else {}
    for key, value in node.items():
        place = f"{where}.{key}" if where else str(key)
        check_types(value, place)
        kind = wanted.get(key)
        union = typing.get_origin(kind) in (typing.Union, types.UnionType)
        parts = typing.get_args(kind) if union else (kind,)
        kinds = [typing.get_origin(one) or one for one in parts if getattr(one, "__name__", "") != "Tensor"]
        plain = bool(kinds) and all(one in KINDS for one in kinds)
        if plain and type(value) in FITTING and not FITTING[type(value)].intersection(kinds):
            raise UserError(f"config: {place}={value}: use {' or '.join(KINDS[one] for one in kinds)}")


def _annotations(target: str) -> dict[str, Any]:
    """Annotated arguments of a function, or of a class and those that it hands further arguments to."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # what can't be imported is told when it is built
        built: Any = hydra.utils.get_object(target)
        is_class = isinstance(built, type)
        for one in reversed(built.__mro__) if is_class else [built]:
            with contextlib.suppress(NameError, TypeError, AttributeError):
                found |= typing.get_type_hints(one.__init__ if is_class else one)
    return found
