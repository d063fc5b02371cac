"""What is costly to open or to load, and worth keeping for a while."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """The ``most`` values last asked for, by name; ``drop`` ends one that has to go.

    Comes out of a pickle empty: every process opens its own.
    """

    def __init__(self, most: int, drop: Callable[[Value], object] = lambda value: None) -> None:
        self.most, self.drop = most, drop
        self.held: OrderedDict[object, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self.held)

    def __reduce__(self) -> tuple:
        return LRUCache, (self.most, self.drop)

    def get(self, name: object, make: Callable[[], Value]) -> Value:
        """The value of this name, made where it is not held."""
        if name not in self.held:
            self.held[name] = make()
            if len(self.held) > self.most:
                self.drop(self.held.popitem(last=False)[1])
        self.held.move_to_end(name)
        return self.held[name]
