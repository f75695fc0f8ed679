"""The cost model of a supernet, for any metric."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError, SearchSpaceError, did_you_mean
from ..mutables import build_search_spaces, find_mutables, find_plans
from .functional_code import functional_macs
from .model import CostModel, Piece, Term
from .parts import Conditions, Part, find_parts
from .shapes import Call, LayerShape, layer_shape
from .tracing import Arguments, Trace, trace, with_every_choice

__all__ = ['METRICS', 'Metric', 'build_cost_model', 'find_arguments']

Metric = Literal['params', 'macs', 'memory', 'latency'] | Callable[[LayerShape], float]
"""What is counted; a function of a layer's shapes is added up over all calls of layers."""

METRICS = ('params', 'macs', 'memory', 'latency')

_LARGEST = 20_000
"""Most entries of a table."""


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
    spaces = build_search_spaces(supernet)
    choices = {sid: tuple(space['choice_names']) for sid, space in spaces.items()}
    parts = list(find_parts(supernet))
    if metric == 'params':
        pieces = list(_param_pieces(parts, choices))
    else:
        arguments = find_arguments(supernet, example_inputs)
        with with_every_choice(supernet):
            seen = trace(supernet, arguments)
        own = functional_macs(supernet, parts, seen, arguments)
        pieces = list(_call_pieces(parts, choices, seen, metric, own))
    name = metric if isinstance(metric, str) else getattr(metric, '__name__', 'cost')
    reduce: Literal['sum', 'max'] = 'max' if metric == 'memory' else 'sum'
    return CostModel(name, choices, pieces, reduce, _original(supernet, choices))


def find_arguments(supernet: nn.Module, example_inputs: Any = None) -> Arguments:
    """Return ``(args, kwargs)`` that a supernet can be called with.

    Raises:
        InputError: Nobody has said.
    """
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    if example_inputs is not None:
        raise InputError(
            'Expected `example_inputs` to be a tensor, a tuple of arguments or a dict of '
            f'keyword arguments, but got {type(example_inputs).__name__}'
        )
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


def _original(
    supernet: nn.Module, choices: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]] | None:
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

        presence = _union(part.places, choices)
        yield Piece(part.name, tuple(_terms(part, choices, count, presence)))


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
        elif not _counts(part):
            continue
        for number, call in enumerate(calls):
            conditions = part.places[number % len(part.places)]
            presence = Term(*_presence(conditions, choices))

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

            terms = tuple(_terms(part, choices, count, presence))
            if any(term.table.any() for term in terms):
                yield Piece(part.name, terms)


def _counts(part: Part) -> bool:
    """Whether a part is one by itself, and no container of others."""
    inside = set(part.module._modules) - {'mutables'}
    return not inside or any(p is not None for p in part.module._parameters.values())


def _presence(
    conditions: Conditions, choices: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], Tensor]:
    """Return a table that is 1 where all conditions hold."""
    spaces = tuple(space_id for space_id, _ in conditions)
    table = torch.zeros([len(choices[sid]) for sid in spaces], dtype=torch.float64)
    table[tuple(choices[sid].index(name) for sid, name in conditions)] = 1
    return spaces, table


def _union(places: Sequence[Conditions], choices: Mapping[str, tuple[str, ...]]) -> Term:
    """Return a table that is 1 where any of some conditions holds."""
    if () in places:
        return Term((), torch.ones((), dtype=torch.float64))
    spaces = tuple(dict.fromkeys(sid for place in places for sid, _ in place))
    table = torch.zeros([len(choices[sid]) for sid in spaces], dtype=torch.float64)
    for place in places:
        of = dict(place)
        table[tuple(choices[s].index(of[s]) if s in of else slice(None) for s in spaces)] = 1
    return Term(spaces, table)


def _product(one: Term, other: Term) -> Term:
    """Return the table of all spaces of two, its entries multiplied."""
    spaces = (*one.spaces, *(s for s in other.spaces if s not in one.spaces))

    def spread(term: Term) -> Tensor:
        order = [term.spaces.index(s) for s in spaces if s in term.spaces]
        sizes = iter(term.table.permute(order).shape)
        shape = [next(sizes) if s in term.spaces else 1 for s in spaces]
        return term.table.permute(order).reshape(shape)

    return Term(spaces, spread(one) * spread(other))


def _terms(
    part: Part,
    choices: Mapping[str, tuple[str, ...]],
    count: Callable[[Mapping[str, str]], float],
    presence: Term,
) -> Iterator[Term]:
    """Yield tables whose sum is the cost of a part under every choice."""
    several = part.reads_several
    if several and _adds_up(part, count, several):
        rest = {sid: names for sid, names in part.choices.items() if sid not in several}
        base = {sid: part.choices[sid][-1] for sid in several}
        plain = _table(part, rest, lambda chosen: count({**base, **chosen}))
        yield _product(presence, plain)
        for sid in several:
            own = _table(
                part,
                {sid: part.choices[sid], **rest},
                lambda chosen: count({**base, **chosen}) - count({**chosen, **base}),
            )
            yield _product(presence, own)
        return
    yield _product(presence, _table(part, part.choices, count))


def _table(
    part: Part,
    spaces: Mapping[str, tuple[str, ...]],
    count: Callable[[Mapping[str, str]], float],
) -> Term:
    sizes = [len(names) for names in spaces.values()]
    if math.prod(sizes) > _LARGEST:
        raise SearchSpaceError(
            f'The cost of {part.name!r} depends on {len(sizes)} spaces at once '
            f'({", ".join(spaces)}), with {math.prod(sizes):,} combinations; let some of them '
            "share one space (space='...' in a rule), or give fewer choices"
        )
    values = [
        count(dict(zip(spaces, names, strict=True)))
        for names in itertools.product(*spaces.values())
    ]
    table = torch.tensor(values, dtype=torch.float64).reshape(sizes)
    return Term(tuple(spaces), table)


def _adds_up(
    part: Part, count: Callable[[Mapping[str, str]], float], several: Sequence[str]
) -> bool:
    """Whether the inputs' spaces change the cost one by one, whatever the others do."""
    rng = random.Random(0)
    for _ in range(8):
        chosen = {sid: rng.choice(names) for sid, names in part.choices.items()}
        base = {**chosen, **{sid: part.choices[sid][-1] for sid in several}}
        whole = count(base)
        found = whole + sum(count({**base, sid: chosen[sid]}) - whole for sid in several)
        if not math.isclose(found, count(chosen), rel_tol=1e-9, abs_tol=1e-9):
            return False
    return True
