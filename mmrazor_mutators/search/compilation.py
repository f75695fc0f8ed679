"""Compiled mixtures: one graph serves all places whose candidates are alike."""

from __future__ import annotations

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..mutables import MutableModule
from ..mutables.mixing import summing_with, weighted_sum
from ..sharing import Begun
from .anatomy import Anatomy

__all__ = ['Compilation', 'check_compile', 'uncompiled']

_OPTIONS = ('backend', 'mode', 'options')
_logger = logging.getLogger(__name__)


class _Paused(threading.local):
    depth = 0


_paused = _Paused()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run candidates as they are inside of the block, as second derivatives need it."""
    _paused.depth += 1
    try:
        # What one call makes of all candidates, it would have to make once more for them.
        with summing_with(weighted_sum):
            yield
    finally:
        _paused.depth -= 1


def check_compile(compile: object) -> dict[str, Any] | None:
    """Return the options for ``torch.compile``, or ``None`` for not compiling.

    Args:
        compile: ``True``, ``False``, or some of ``backend``, ``mode`` and
            ``options`` of ``torch.compile``.

    Raises:
        ConfigError: Anything else.
    """
    if isinstance(compile, bool):
        return {} if compile else None
    if not isinstance(compile, Mapping) or not set(compile) <= set(_OPTIONS):
        raise ConfigError(
            'Expected `compile` to be True, False or a mapping with some of '
            f'{", ".join(_OPTIONS)}, but got {compile!r}'
        )
    return dict(compile)


class Compilation:
    """Compiles the weighted sums of candidates, for training passes inside of ``compiled()``.

    What is compiled is a copy of the candidates' code, to which their weights
    and running statistics, the weights of the mixture and what the candidates
    have begun with come as arguments.  So all places of one kind share one
    graph per set of gradients that are wanted, whatever is bound into the mutables
    around, and the depth of a supernet costs nothing.  PyTorch keeps the graphs
    on disk; a second run begins fast.

    Candidates run as they are, with the same results, in eval mode, without
    gradients, where hooks listen to a part of them, where they hold mutables, and
    for a batch that is smaller than another one was: the last of an epoch, as a rule.
    They do so with one warning once something cannot be compiled, for lack of a
    compiler, say, or once ``max_graphs`` are there.

    Args:
        options: For ``torch.compile``.
        max_graphs: At most this many forward graphs.

    Attributes:
        num_graphs: How many forward graphs were compiled, each with its backward.
        seconds: What their first passes took.
    """

    def __init__(self, options: Mapping[str, Any] | None = None, max_graphs: int = 64) -> None:
        self._options = _with_our_guards(dict(options or {}))
        self._max_graphs = max_graphs
        self._places: dict[tuple[int, ...], _Place] = {}
        self._graphs: dict[Hashable, _Graph] = {}
        self._largest: dict[Hashable, int] = {}
        self._off = False
        self.num_graphs = 0
        self.seconds = 0.0

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Compute the weighted sums by compiled graphs inside of the block."""
        with summing_with(weighted_sum if _paused.depth else self._sum):
            yield

    def _sum(
        self, modules: Sequence[nn.Module], begun: Sequence[Begun], weights: Sequence[Tensor]
    ) -> Tensor:
        if self._off or not torch.is_grad_enabled():
            return weighted_sum(modules, begun, weights)
        place = self._place(modules)
        arguments = _signature([begun, weights])
        if arguments is None or not place.can_be_compiled():
            return weighted_sum(modules, begun, weights)
        form = (place.anatomy.form(), _precision(weights[0].device.type))
        key = (form, arguments)
        graph = self._graphs.get(key)
        if graph is not None:
            return graph(place.anatomy.tensors(), begun, weights)
        if self._is_remainder(form, begun):
            return weighted_sum(modules, begun, weights)
        return self._first_run(place, key, begun, weights)

    def _is_remainder(self, form: Hashable, begun: Sequence[Begun]) -> bool:
        """Whether the same was seen with a larger batch."""
        first = next((b.value for b in begun if isinstance(b.value, Tensor)), None)
        if first is None or not first.dim():
            return False
        alike = (form, first.shape[1:], first.requires_grad)
        largest = self._largest.get(alike, 0)
        self._largest[alike] = max(largest, len(first))
        return len(first) < largest

    def _place(self, modules: Sequence[nn.Module]) -> _Place:
        ids = tuple(map(id, modules))
        place = self._places.get(ids)
        if place is None or not place.anatomy.is_whole():
            place = self._places[ids] = _Place(modules)
        return place

    def _first_run(
        self, place: _Place, key: Hashable, begun: Sequence[Begun], weights: Sequence[Tensor]
    ) -> Tensor:
        names = ', '.join(type(module).__name__ for module in place.modules)
        if len(self._graphs) == self._max_graphs:
            self._give_up(f'there are {self._max_graphs} graphs already, and {names} need one')
            return weighted_sum(place.modules, begun, weights)
        start = time.perf_counter()
        graph = place.compile(self._options, len(self._graphs))
        try:
            with _settings(), warnings.catch_warnings():
                # Tracing looks at every input in ways that PyTorch warns of.
                warnings.filterwarnings(
                    'ignore', 'The .grad attribute of a Tensor', UserWarning
                )
                total = graph(place.anatomy.tensors(), begun, weights)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Whatever a compiler may raise.
            # What is wrong with a candidate itself is raised here, by its own code.
            total = weighted_sum(place.modules, begun, weights)
            # The first line may only say which part of the compiler raised.
            reason = ' '.join(str(error).split('\n')[:2]) or type(error).__name__
            self._give_up(f'torch.compile failed on {names}: {reason}')
            return total
        seconds = time.perf_counter() - start
        self._graphs[key] = graph
        self.num_graphs += 1
        self.seconds += seconds
        _logger.info('Compiled graph %d in %.1f s: %s', self.num_graphs, seconds, names)
        return total

    def _give_up(self, why: str) -> None:
        self._off = True
        warnings.warn(
            f'What is not compiled yet runs as it is from now on, because {why}',
            RuntimeWarning,
            stacklevel=2,
        )


_Graph = Callable[[Sequence[Tensor], Sequence[Begun], Sequence[Tensor]], Tensor]


class _Place:
    """The candidates of one mutable."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = list(modules)
        self.candidates = nn.ModuleList(modules)
        self.anatomy = Anatomy(self.candidates)
        self._holds_mutables = any(
            isinstance(m, MutableModule) for m in self.candidates.modules()
        )

    def can_be_compiled(self) -> bool:
        """Whether a graph would do what the candidates do just now."""
        training = all(module.training for module in self.modules)
        return training and not self._holds_mutables and not self.anatomy.is_hooked()

    def compile(self, options: Mapping[str, Any], number: int) -> _Graph:
        """Return a compiled function, which compiles when it is called."""
        # Only the code is of interest: values always come from outside.
        region = _WeightedSum(copy.deepcopy(self.candidates).to('meta'))
        names = tuple(f'candidates.{name}' for name in self.anatomy.names)

        def run(
            tensors: Sequence[Tensor], begun: Sequence[Begun], weights: Sequence[Tensor]
        ) -> Tensor:
            values = dict(zip(names, tensors, strict=True))
            return torch.func.functional_call(region, values, (begun, weights))

        # Graphs are counted, and limited, by code object: each gets its own.
        code = run.__code__.replace(co_name=f'weighted_sum_{number}')
        own = FunctionType(code, run.__globals__, None, None, run.__closure__)
        return torch.compile(own, fullgraph=True, dynamic=False, **options)


class _WeightedSum(nn.Module):
    """The function that is compiled, as a module for ``torch.func.functional_call``."""

    def __init__(self, candidates: nn.ModuleList) -> None:
        super().__init__()
        self.candidates = candidates

    def forward(self, begun: Sequence[Begun], weights: Sequence[Tensor]) -> Tensor:
        return weighted_sum(list(self.candidates), begun, weights)


def _signature(value: Any) -> Hashable | None:
    """Return what a graph depends on in its arguments; ``None`` if it cannot take them."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device, value.requires_grad
    if value is None or isinstance(value, (bool, int, float, str)):
        return type(value), value
    if isinstance(value, (tuple, list)):
        parts = tuple(map(_signature, value))
        return None if None in parts else (type(value), parts)
    return None


def _precision(device_type: str) -> Hashable:
    on = torch.is_autocast_enabled(device_type)
    return on and torch.get_autocast_dtype(device_type)


@contextmanager
def _settings() -> Iterator[None]:
    """Let the backward be compiled with the forward, and all of it for this processor alone.

    PyTorch keeps compiled graphs on disk.  On a processor with vectors of another width it
    would take them from there, and what they compute is wrong.
    """
    functorch: Any = torch._functorch.config
    ours: Any = getattr(torch.compiler, 'config', None)
    eager, tag = 'force_non_lazy_backward_lowering', 'cache_key_tag'
    with ExitStack() as stack:
        if hasattr(functorch, eager):
            stack.enter_context(functorch.patch({eager: True}))
        if hasattr(ours, tag):
            processor = torch.backends.cpu.get_cpu_capability()
            stack.enter_context(ours.patch({tag: f'{getattr(ours, tag)} {processor}'}))
        yield


def _with_our_guards(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out PyTorch's guards: the key of a graph is all that it depends on."""
    skip_all = getattr(torch.compiler, 'skip_all_guards_unsafe', None)
    if skip_all is None or options.get('backend', 'inductor') != 'inductor':
        return options
    own = dict(options.get('options') or {})
    mode = options.get('mode')
    if mode not in (None, 'default'):
        own = {**torch._inductor.list_mode_options(mode), **own}
    rest = {key: value for key, value in options.items() if key not in ('mode', 'options')}
    return {**rest, 'options': {**own, 'guard_filter_fn': skip_all}}
