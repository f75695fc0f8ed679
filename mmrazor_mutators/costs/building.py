"""The cost model of a supernet, for any metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from ..errors import ConfigError, InputError, did_you_mean
from ..mutables import arguments_of, build_search_spaces, find_mutables, find_plans
from .functional_code import functional_macs
from .model import CostModel, Piece, Term
from .parts import Part, find_parts
from .shapes import Call, LayerShape, layer_shape
from .tables import part_terms, presence, union
from .tracing import Arguments, Trace, trace, with_every_choice

__all__ = [
    'METRICS',
    'Metric',
    'build_cost_model',
    'choices_of',
    'counts_by_itself',
    'find_arguments',
    'look_at',
    'original_choices',
]

Metric = Literal['params', 'macs', 'memory'] | Callable[[LayerShape], float]
"""What is counted; a function of a layer's shapes is added up over all calls of layers."""

METRICS = ('params', 'macs', 'memory')


def build_cost_model(
    supernet: nn.Module, metric: Metric, example_inputs: Any = None
) -> CostModel:
    """Return what any network of a supernet costs.

    - ``'params'``: numbers that are learnt;
    - ``'macs'``: multiply-adds of convolutions and matrix products in a forward pass of
      ``example_inputs``, as PyTorch's counter counts them (it says twice as many FLOPs);
    - ``'memory'``: the largest input and output of one layer with features, in bytes, that
      have to be there at once in a forward pass without a graph;
    - a function of a :class:`LayerShape` is added up over all calls of modules.

    Args:
        supernet: Prepared or not; nothing in it changes.
        metric: What to count.
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments; by
            default those that ``make_searchable`` was given.

    Raises:
        ConfigError: An unknown metric.
        InputError: No example inputs, or some that do not pass the supernet.
        SearchSpaceError: A layer whose cost depends on too many choices at once.

    >>> import torch
    >>> import mmrazor_mutators as mm
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = mm.make_searchable(net, [dict(match='0', width=[2, 8])], torch.zeros(1, 3))
    >>> model = build_cost_model(net, 'params')
    >>> model.of({'0': ['w8']}), model.of({'0': ['w2']})
    (50.0, 14.0)
    """
    if not callable(metric) and metric not in METRICS:
        raise ConfigError(
            f'Expected `metric` to be one of {", ".join(METRICS)}, or a function of a layer, '
            f'but got {metric!r}; {did_you_mean(str(metric), METRICS)}'
        )
    choices, parts = choices_of(supernet), list(find_parts(supernet))
    if metric == 'params':
        pieces = list(_param_pieces(parts, choices))
    else:
        seen, own = look_at(supernet, parts, find_arguments(supernet, example_inputs))
        pieces = list(_call_pieces(parts, choices, seen, metric, own))
    name = metric if isinstance(metric, str) else getattr(metric, '__name__', 'cost')
    reduce: Literal['sum', 'max'] = 'max' if metric == 'memory' else 'sum'
    return CostModel(name, choices, pieces, reduce, original_choices(supernet))


def choices_of(supernet: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return ``{space_id: names}`` of all spaces."""
    spaces = build_search_spaces(supernet)
    return {sid: tuple(space['choice_names']) for sid, space in spaces.items()}


def look_at(
    supernet: nn.Module, parts: Sequence[Part], arguments: Arguments
) -> tuple[Trace, dict[int, Term]]:
    """Return a pass in which every choice runs, and what code that is no layer costs."""
    with with_every_choice(supernet):
        seen = trace(supernet, arguments)
    return seen, functional_macs(supernet, parts, seen, arguments)


def find_arguments(supernet: nn.Module, example_inputs: Any = None) -> Arguments:
    """Return ``(args, kwargs)`` that a supernet can be called with.

    Raises:
        InputError: Nobody has said.
    """
    if example_inputs is not None:
        return arguments_of(example_inputs)
    for module, plan in find_plans(supernet):
        if module is supernet:
            return plan.example_inputs
    own = getattr(supernet, 'example_inputs', None)
    if callable(own):
        return find_arguments(supernet, own())
    raise InputError(
        f'Nobody knows what {type(supernet).__name__} is called with; give `example_inputs`, '
        'e.g. torch.zeros(1, 3, 32, 32)'
    )


def original_choices(supernet: nn.Module) -> dict[str, tuple[str, ...]] | None:
    """Return what a network was before there were choices; ``None`` if it never was."""
    found: dict[str, tuple[str, ...]] = {}
    for mutable in find_mutables(supernet):
        original = getattr(mutable, 'original', None)
        if original is None:
            return None
        found[mutable.space_id] = (original,)
    return found


def _param_pieces(
    parts: Sequence[Part], choices: Mapping[str, tuple[str, ...]]
) -> Iterator[Piece]:
    nothing = Call((), ())
    owned: set[int] = set()
    for part in parts:
        tensors = [p for p in part.module._parameters.values() if p is not None]
        mutable = part.module.parameters() if _is_value(part) else ()
        if not tensors and not any(True for _ in mutable):
            continue
        twice = [p.numel() for p in tensors if id(p) in owned]
        owned.update(map(id, tensors))

        def count(chosen: Mapping[str, str], part: Part = part, twice: Any = twice) -> float:
            # What is tied to an earlier layer's has been counted there.
            return layer_shape(part.settled(chosen), nothing).params - sum(twice)

        where = union(part.places, choices)
        yield Piece(part.name, tuple(part_terms(part, choices, count, where)))


def _is_value(part: Part) -> bool:
    return part.choices.keys() == {getattr(part.module, 'space_id', None)}


def _call_pieces(
    parts: Sequence[Part],
    choices: Mapping[str, tuple[str, ...]],
    seen: Trace,
    metric: Any,
    own: Mapping[int, Term],
) -> Iterator[Piece]:
    for part in parts:
        code = own.get(id(part.module))
        calls = seen.calls.get(id(part.module), [])
        if code is not None:
            part.choices.update((sid, choices[sid]) for sid in code.spaces)
        elif not counts_by_itself(part):
            continue
        for number, call in enumerate(calls):
            conditions = part.places[number % len(part.places)]
            where = presence(conditions, choices)

            def count(
                chosen: Mapping[str, str],
                part: Part = part,
                call: Call = call,
                code: Any = code,
            ) -> float:
                macs = None
                if code is not None:
                    index = tuple(choices[sid].index(chosen[sid]) for sid in code.spaces)
                    macs = float(code.table[index]) / len(calls)  # noqa: B023
                shape = layer_shape(part.settled(chosen), call, macs)
                if callable(metric):
                    return float(metric(shape))
                if metric == 'memory':
                    return shape.memory if shape.in_features else 0.0
                return shape.macs

            terms = tuple(part_terms(part, choices, count, where))
            if any(term.table.any() for term in terms):
                yield Piece(part.name, terms)


def counts_by_itself(part: Part) -> bool:
    """Whether a part is one by itself, and no container of others."""
    inside = set(part.module._modules) - {'mutables'}
    return not inside or any(p is not None for p in part.module._parameters.values())
