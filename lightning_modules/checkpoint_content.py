"""What a checkpoint, which may come from a stranger, holds: the names that its pickle calls, and its tensors."""

import pickletools
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_CALLED = {
    "__builtin__ set",
    "_codecs encode",
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Bool")),
    *(f"torch {kind}Storage" for kind in ("Byte", "Char", "Short", "Int", "Long")),
}
"""All take the memory of their arguments. torch's own list holds some that take any: bytearray, types of tensors."""


def strange_names(pickled: bytes) -> list[str]:
    """Names that a pickle calls and a checkpoint has no use for; ValueError where it is damaged."""
    named = ("GLOBAL", "INST", "STACK_GLOBAL")  # the last takes its name off the stack: none is known
    called = {str(told) for code, told, _ in pickletools.genops(pickled) if code.name in named}
    return sorted(called - _CALLED)


def tensors_of(content: Any) -> list[Tensor]:
    """Each tensor in dicts, lists and tuples, once."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping | list | tuple):
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
    return found
