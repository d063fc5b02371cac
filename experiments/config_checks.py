"""What is refused of a composed config before anything is built of it."""

import contextlib
import json
import math
import typing
from pathlib import Path
from typing import Any

import hydra
from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import SchemaError

from datamodules.errors import UserError

STAGES = ("autoencoder", "statistics", "diffusion", "sync")
SOURCES = ("autoencoder", "lift", "init")
"""Keys that name weights to build on: a run folder, a checkpoint, or a model folder or name."""
WORDS = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "none_required": "null",
}
"""What a value that is no object may be wrong about, in words."""
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


def _require_finite(values: Any, key: str = "") -> None:
    """Refuse a config with a number that is none, anywhere in it."""
    if isinstance(values, dict | list):
        for name, value in values.items() if isinstance(values, dict) else enumerate(values):
            _require_finite(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, float) and not math.isfinite(values):
        raise UserError(f"config: {key}={values}: use a finite number")


def check_numbers(plain: dict[str, Any]) -> None:
    """Refuse numbers that would end a training late, or at once as if all were well."""
    _require_finite(plain)
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


def check_sides(of_data: Any, of_network: Any, largest_factor: int | None = None) -> None:
    """Refuse frames whose side is no whole multiple of what a renderer's network looks at, or one that it doesn't take.

    Args:
        of_data: side of the frames; where one of the two is no whole number, that is told where it is used.
        of_network: side at which the network looks.
        largest_factor: the largest multiple that the renderer takes; None where it isn't known yet.
    """
    if not all(isinstance(side, int) and side > 0 for side in (of_data, of_network)):
        return
    factor, rest = divmod(of_data, of_network)
    if rest or (largest_factor is not None and factor > largest_factor):
        raise UserError(
            f"data.size is {of_data} but model.network.size is {of_network}: set both to the same, or, with the warp "
            f"renderer, data.size to {'a multiple' if largest_factor is None else f'up to {largest_factor} times as much'}"
        )


def check_features(name: str, heard: int, taken: int) -> None:
    """Refuse an audio front end whose vectors have another size than the network's audio encoder takes."""
    if heard != taken:
        raise UserError(
            f"audio.name={name} hears vectors of {heard} values, the network takes {taken}: set "
            "model/audio_encoder@model.network.audio_encoder to mel, speech_model, speech_layers or whisper, or its in_dim "
            "(and layers)"
        )


def require_source(key: str, source: str) -> None:
    """Refuse a path or name of weights that nothing has, before torch is loaded.

    Raises:
        UserError: there is no such run, checkpoint or model.
    """
    from lightning_modules.model_folder import is_model

    if not Path(source).exists() and not is_model(source):
        raise UserError(f"{key}={source}: no such run folder, checkpoint or model; check the name")


def check_types(node: Any, where: str) -> None:
    """Refuse values of another type than what is built of a resolved config, at the key ``where``, is annotated to take."""
    if not isinstance(node, dict):
        return
    wanted = _annotations(node["_target_"]) if "_target_" in node else {}
    for key, value in node.items():
        place = f"{where}.{key}" if where else str(key)
        check_types(value, place)
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        built = any(isinstance(part, dict | list) for part in parts) or (
            isinstance(value, dict) and "_target_" in value
        )
        if key in wanted and not built:
            _check_type(value, wanted[key], place)


def _check_type(value: Any, annotation: Any, where: str) -> None:
    """Refuse a value, or a list or map of values, that doesn't fit an annotation as it would stand in JSON."""
    options = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    if value is None:
        return  # what must be there is told by what is built
    with contextlib.suppress(
        PydanticSchemaGenerationError, PydanticUserError, SchemaError
    ):  # no type of plain data
        adapter = TypeAdapter(annotation, config=options)
        try:
            adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            kinds = [WORDS[one["type"]] for one in error.errors() if one["type"] in WORDS]
            if kinds:
                raise UserError(
                    f"config: {where}={value}: use {' or '.join(dict.fromkeys(kinds))}"
                ) from error


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
