"""Several processes train as one: sums and random numbers are those of the whole batch, however many share it.

Of R processes the r-th has the items r, r + R, r + 2R, ... of the whole batch (see ``EpochSampler``), as many as each other
one, and gradients are averaged. All start from one random state and draw alike: each the numbers of the whole batch, of
which it takes those of its items. In one process nothing differs from what is written without these functions.
"""

import atexit

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rank_and_count() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def leave_at_exit() -> None:
    """Leave the other processes when this one ends, while Python still lives.

    Gloo's threads may hold tensors to the last; one that lets go of them while the interpreter is being torn down aborts the
    process, and torchrun then calls a finished training failed. Lightning leaves by itself only where it is NCCL's group.
    """
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def whole_batch(items: int) -> int:
    """Items of the whole batch, of which each process has so many."""
    return items * rank_and_count()[1]


def own_items(values: Tensor) -> Tensor:
    """Of values ``(R * B, ...)`` of the whole batch those of this process's items, ``(B, ...)``."""
    rank, ranks = rank_and_count()
    return values[rank::ranks]


def normal_like(values: Tensor, *sizes: int) -> Tensor:
    """Normal random numbers ``(B, *sizes)`` for items of the values ``(B, ...)``, on their device; each item has its own."""
    drawn = torch.randn(whole_batch(len(values)), *sizes, dtype=values.dtype, device=values.device)
    return own_items(drawn)


def uniform_like(values: Tensor, *sizes: int) -> Tensor:
    """Random numbers in [0, 1) likewise."""
    drawn = torch.rand(whole_batch(len(values)), *sizes, dtype=values.dtype, device=values.device)
    return own_items(drawn)


def mean_of_processes(values: Tensor) -> Tensor:
    """Mean over the processes of values that each has, without a gradient; all must ask."""
    ranks = rank_and_count()[1]
    return values if ranks == 1 else _summed(values) / ranks


def shared_count(count: Tensor, least: float) -> Tensor:
    """What a process divides its sum by, so that the mean of all processes' gradients is that of the whole batch.

    Args:
        count: scalar, such as the number of its frames that are known; ``least``, > 0, is the smallest of all together.
        least: as above.

    Returns:
        The mean over the processes of their counts, without a gradient. Where no gradient is made, the process's own: what
        is only looked at need not wait for others.
    """
    ranks = rank_and_count()[1]
    if ranks == 1 or not torch.is_grad_enabled():
        return count.clamp(min=least)
    return _summed(count).clamp(min=least) / ranks


def _summed(values: Tensor) -> Tensor:
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total


class ItemDropout(nn.Dropout):
    """Dropout that draws for the whole batch, of which each process takes its items' numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``(B, ...)`` in training."""
        if not self.training or rank_and_count()[1] == 1:
            return super().forward(x)
        # Drawn in the order in which the values lie in memory, as dropout in one process draws.
        order = sorted(range(x.ndim), key=lambda axis: x.stride()[axis], reverse=True)
        sizes = (whole_batch(len(x)), *x.shape[1:])
        drawn = F.dropout(x.new_ones([sizes[axis] for axis in order]), self.p)
        return x * own_items(drawn.permute([order.index(axis) for axis in range(x.ndim)]))
