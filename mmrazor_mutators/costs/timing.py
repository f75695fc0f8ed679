"""How long modules take: warmed up, several times, without a graph."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..copies import SavedBuffers
from ..structures import map_tensors
from .tracing import Arguments

__all__ = ['own_times', 'time_call', 'time_in_turns']


def _clock(device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _device(module: nn.Module, arguments: Arguments) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    for value in (*arguments[0], *arguments[1].values()):
        if isinstance(value, Tensor):
            return value.device
    return torch.device('cpu')


def time_call(
    module: nn.Module, arguments: Arguments, seconds: float, least: int = 5
) -> list[float]:
    """Return how many seconds each of several calls takes, after some to warm up.

    Args:
        module: In eval mode.
        arguments: What it is called with, on its device or moved there.
        seconds: For about how long it is called.
        least: How often at least.

    >>> len(time_call(nn.Identity(), ((torch.zeros(1),), {}), seconds=0.0))
    5
    """
    return time_in_turns([module], arguments, seconds, least)[0]


@torch.no_grad()
def time_in_turns(
    modules: Sequence[nn.Module], arguments: Arguments, seconds: float, least: int = 5
) -> list[list[float]]:
    """Time several modules call by call in turns, so that what slows one slows the others.

    Args:
        modules: As for :func:`time_call`, of one device.
        arguments: The same for all.
        seconds: For about how long each is called.
        least: How often at least.

    Returns:
        Seconds of each call, for each module.
    """
    device = _device(modules[0], arguments)
    args, kwargs = map_tensors(lambda tensor: tensor.to(device), arguments)
    for module in modules:
        for _ in range(3):
            module(*args, **kwargs)
    found: list[list[float]] = [[] for _ in modules]
    end = time.perf_counter() + seconds * len(modules)
    while len(found[0]) < least or (time.perf_counter() < end and len(found[0]) < 1000):
        for module, calls in zip(modules, found, strict=True):
            start = _clock(device)
            module(*args, **kwargs)
            calls.append(_clock(device) - start)
    return found


@torch.no_grad()
def own_times(
    network: nn.Module, arguments: Arguments, passes: int = 9
) -> dict[int, list[float]]:
    """Return by the ids of modules the seconds of their own code, for each of many passes."""
    device = _device(network, arguments)
    args, kwargs = map_tensors(lambda tensor: tensor.to(device), arguments)
    stack: list[list[float]] = []
    now: dict[int, float] = {}
    found: dict[int, list[float]] = defaultdict(list)

    def enter(module: nn.Module, args: Any) -> None:
        stack.append([_clock(device), 0.0])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        start, inside = stack.pop()
        spent = _clock(device) - start
        now[id(module)] = now.get(id(module), 0.0) + spent - inside
        if stack:
            stack[-1][1] += spent

    modes = {module: module.training for module in network.modules()}
    saved = SavedBuffers(network)
    hooks: list[Any] = []
    try:
        network.eval()
        for module in network.modules():
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(leave))
        for number in range(passes + 2):
            now.clear()
            network(*args, **kwargs)
            if number >= 2:
                for key, value in now.items():
                    found[key].append(value)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        saved.put_back()
    return dict(found)
