"""One forward pass in which every choice runs, to see how each module is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from ..copies import SavedBuffers
from ..errors import InputError
from ..mutables import ModuleMutable, MutableModule, find_mutables
from ..structures import map_tensors
from .shapes import Call

__all__ = ['Trace', 'trace', 'with_every_choice']

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class Trace:
    """What happened in a forward pass, by the ids of modules.

    Attributes:
        calls: Every call of each.
        own: Multiply-adds of each, over all calls, without those of modules inside of it.
        sources: By the id of a module the id of the one that made its first input, where no
            code came between them; of its first call.
        total: Multiply-adds of all.
    """

    calls: dict[int, list[Call]] = field(default_factory=lambda: defaultdict(list))
    own: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    sources: dict[int, int] = field(default_factory=dict)
    total: float = 0.0


@contextmanager
def with_every_choice(supernet: nn.Module) -> Iterator[None]:
    """Let every choice run, and add up what they return, inside of the block."""
    before: list[tuple[MutableModule, Any, Tensor, bool | None]] = []
    for mutable in find_mutables(supernet):
        learns = getattr(mutable, 'with_arch_param', None)
        forward = mutable.__dict__.pop('forward', None)
        before.append((mutable, forward, mutable.choice_mask, learns))
        if learns is not None:
            setattr(mutable, 'with_arch_param', False)  # noqa: B010
        _run_all(mutable)
    try:
        yield
    finally:
        for mutable, forward, mask, learns in before:
            if forward is not None:
                mutable.__dict__['forward'] = forward
            if learns is not None:
                setattr(mutable, 'with_arch_param', learns)  # noqa: B010
            mutable.set_choice_mask(mask)


def _run_all(mutable: MutableModule) -> None:
    mask = torch.ones(len(mutable.full_choice_names), dtype=torch.bool)
    if not isinstance(mutable, ModuleMutable):
        # Of values, one has to run: what the layers have room for.
        original = getattr(mutable, 'original', None) or mutable.choice_names[-1]
        mask = torch.tensor([name == original for name in mutable.full_choice_names])
    mutable.set_choice_mask(mask)


def _tensors(structure: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(structure) if isinstance(leaf, Tensor)]


def trace(network: nn.Module, arguments: Arguments) -> Trace:
    """Return what happens in a forward pass, in eval mode; nothing in the network changes.

    Multiply-adds are counted by PyTorch's own counter, which sees convolutions and matrix
    products.

    Raises:
        InputError: The network does not take the arguments.
    """
    found = Trace()
    stack: list[list[float]] = []
    made: dict[int, tuple[Tensor, int]] = {}  # Kept, so that the ids stay theirs.
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))

    def move(leaf: Tensor) -> Tensor:
        leaf = leaf.detach().to(like.device)
        return leaf.to(like.dtype) if leaf.is_floating_point() else leaf

    args, kwargs = map_tensors(move, arguments)
    counter = FlopCounterMode(display=False)

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        stack.append([counter.get_total_flops() / 2, 0.0])
        first = next(iter(_tensors((args, kwargs))), None)
        if first is not None and id(first) in made:
            found.sources.setdefault(id(module), made[id(first)][1])

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        start, inside = stack.pop()
        spent = counter.get_total_flops() / 2 - start
        found.own[id(module)] += spent - inside
        if stack:
            stack[-1][1] += spent
        inputs, outputs = _tensors((args, kwargs)), _tensors(output)
        shape = tuple(outputs[0].shape) if outputs else ()
        itemsize = outputs[0].element_size() if outputs else 4
        call = Call(tuple(tuple(leaf.shape) for leaf in inputs), shape, itemsize)
        found.calls[id(module)].append(call)
        if outputs and not any(True for _ in module.children()):
            made[id(outputs[0])] = outputs[0], id(module)

    hooks: list[Any] = []
    modes = {module: module.training for module in network.modules()}
    saved = SavedBuffers(network)
    try:
        network.eval()
        for module in network.modules():
            hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(leave, with_kwargs=True))
        # With a graph, since fused paths of inference are no calls of layers.
        with torch.enable_grad(), torch.random.fork_rng(devices=[]), counter:
            network(*args, **kwargs)
    except Exception as error:  # Whatever a network raises that does not take the input.
        raise InputError(
            f'The example inputs do not pass {type(network).__name__}: '
            f'{type(error).__name__}: {error}; give inputs that it can be called with'
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        saved.put_back()
    found.total = counter.get_total_flops() / 2
    return found
