"""Latency on one's own device: a table of measured layers, and whole networks to set it right.

Each layer is measured by itself in every size that occurs.  What a whole network takes is not
the sum of these, since caches are warm or cold and there is code between layers; a line
through the times of some whole networks makes up for that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError
from ..mutables import MutableModule, build_search_spaces, match_subnet, network_of
from .building import (
    choices_of,
    counts_by_itself,
    find_arguments,
    look_at,
    original_choices,
)
from .by_clock import scaled
from .latency_file import LatencyFile
from .model import CostModel, Piece, Term
from .parts import Part, find_parts
from .shapes import Call, LayerShape, feature_dim, layer_shape
from .tables import part_terms, presence, product
from .timing import own_times, time_call
from .tracing import Arguments, Trace, with_every_choice

__all__ = ['latency_model', 'profile_latency']

Look = Callable[[str, Callable[[], list[float]]], float]
"""``(key, measure) -> seconds``."""


def latency_model(supernet: nn.Module, path: Any, example_inputs: Any = None) -> CostModel:
    """Return the milliseconds that any network of a supernet takes, by a profile.

    Args:
        supernet: Prepared or not.
        path: The file that :func:`profile_latency` has written for this supernet.
        example_inputs: What the supernet is called with.

    Raises:
        ConfigError: A file that is missing or no profile.
        SearchSpaceError: Layers that were not measured.
    """
    profile = LatencyFile.read(path)
    missing: list[str] = []

    def look(key: str, measure: Callable[[], list[float]]) -> float:
        if key not in profile.entries:
            missing.append(key)
            return 0.0
        return profile.entries[key]['median']

    model = _table(supernet, find_arguments(supernet, example_inputs), look)
    line = profile.networks.get(_signature(model))
    if missing or line is None:
        what = f'{len(missing)} layers, such as {missing[0]}' if missing else 'whole networks'
        raise SearchSpaceError(
            f'The profile {str(path)!r} lacks {what}; measure what is new with: '
            'mmrazor-mutators profile CONFIG --out FILE'
        )
    model = scaled(model, line['scale'])
    model.offset = float(line['offset'])
    return model


def profile_latency(
    supernet: nn.Module,
    path: Any,
    example_inputs: Any = None,
    device: str | torch.device = 'cpu',
    networks: int = 12,
    report: Callable[[str], None] | None = None,
) -> LatencyFile:
    """Measure every layer of a supernet in every size that occurs, and some whole networks.

    What the file has already is not measured again.

    Args:
        supernet: Not prepared, or released; it is moved to ``device``.
        path: File that is written, and read first if it is there.
        example_inputs: What the supernet is called with.
        device: Where networks are to run.
        networks: How many whole networks are measured.
        report: Is told what goes on.

    Returns:
        What the file holds then.

    Raises:
        ConfigError: A file of another device, number of threads or version of PyTorch.
    """
    say = report or (lambda text: None)
    profile = LatencyFile.read_or_new(path, device)
    supernet.to(device)
    arguments = find_arguments(supernet, example_inputs)
    new: list[str] = []

    def look(key: str, measure: Callable[[], list[float]]) -> float:
        if key not in profile.entries:
            profile.add(key, measure())
            new.append(key)
            if len(new) % 100 == 0:
                say(f'{len(new)} layers were measured')
                profile.write(path)
        return profile.entries[key]['median']

    model = _table(supernet, arguments, look)
    profile.write(path)
    say(f'{len(new)} layers were measured, {len(profile.entries) - len(new)} were known')
    signature = _signature(model)
    if new or signature not in profile.networks:
        profile.networks[signature] = _fit(supernet, model, arguments, networks, say)
        profile.write(path)
    return profile


def _fit(
    supernet: nn.Module,
    model: CostModel,
    arguments: Arguments,
    count: int,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Return the line that leads from the sums of a table to times of whole networks."""
    sums, times = [], []
    for subnet in _some_subnets(supernet, model, count):
        chosen = {sid: entry['chosen'] for sid, entry in subnet.items()}
        net = network_of(supernet, subnet).eval()
        sums.append(model.of(chosen))
        times.append(float(np.median(time_call(net, arguments, seconds=0.3))) * 1e3)
        say(f'network {len(times)} of {count}: {times[-1]:.3g} ms')
    spread = float(np.std(sums))
    if len(sums) > 1 and spread > 1e-3 * float(np.mean(sums)):
        scale, offset = np.polyfit(sums, times, 1)
        if scale > 0.1:
            return {'scale': float(scale), 'offset': float(offset), 'networks': float(count)}
    scale = float(np.mean(times) / max(np.mean(sums), 1e-9))
    return {'scale': scale, 'offset': 0.0, 'networks': float(count)}


def _some_subnets(
    supernet: nn.Module, model: CostModel, count: int
) -> Iterator[dict[str, dict[str, list[str]]]]:
    """Yield random subnets; the first has the last choice everywhere."""
    rng = random.Random(0)
    kept = {sid: space['num_chosen'] for sid, space in build_search_spaces(supernet).items()}
    for number in range(count):
        drawn = {
            sid: {
                'chosen': list(names[-kept[sid] :])
                if number == 0
                else rng.sample(names, kept[sid])
            }
            for sid, names in model.choices.items()
        }
        alive = {mutable.space_id for mutable, _ in match_subnet(supernet, drawn)}
        yield {sid: entry for sid, entry in drawn.items() if sid in alive}


def _signature(model: CostModel) -> str:
    """Return what tells the table of one supernet from another's."""
    total = sum(float(term.table.sum()) for piece in model.pieces for term in piece.terms)
    names = ','.join(f'{sid}:{"/".join(names)}' for sid, names in model.choices.items())
    return f'{len(model.pieces)} parts, {total:.9g} ms, {names}'


def _table(supernet: nn.Module, arguments: Arguments, look: Look) -> CostModel:
    choices, parts = choices_of(supernet), list(find_parts(supernet))
    seen, code = look_at(supernet, parts, arguments)
    own = _OwnTimes(supernet, arguments)
    pieces = []
    by_id = {id(part.module): part for part in parts}
    for part in parts:
        calls = seen.calls.get(id(part.module), [])
        if not calls or not (counts_by_itself(part) or id(part.module) in code):
            continue
        source = _source(part, by_id, seen)
        for number, call in enumerate(calls):
            where = presence(part.places[number % len(part.places)], choices)
            is_code = id(part.module) in code or _has_layers(part.module)
            if is_code or len(call.inputs) != 1:
                term = _code_term(part, call, code.get(id(part.module)), own, look, len(calls))
                pieces.append(Piece(part.name, (product(where, term),)))
                continue
            if source is not None:
                part.choices.update(_outputs_of(source))

            def count(
                chosen: Mapping[str, str],
                part: Part = part,
                call: Call = call,
                source: Part | None = source,
            ) -> float:
                module = part.settled(chosen)
                shape = _shape(part, module, call, source, chosen)
                key = _key(shape, module)
                return 1e3 * look(key, lambda: _time_layer(part, module, shape))

            pieces.append(Piece(part.name, tuple(part_terms(part, choices, count, where))))
    original = original_choices(supernet)
    return CostModel('latency', choices, pieces, 'sum', original)


def _has_layers(module: nn.Module) -> bool:
    """Whether a module calls others, so that it is not a layer that can be timed alone."""
    names = {name for name, _ in module.named_children()}
    return not isinstance(module, MutableModule) and bool(names - {'mutables'})


class _OwnTimes:
    """How long the own code of modules takes inside of the supernet; measured when needed."""

    def __init__(self, supernet: nn.Module, arguments: Arguments) -> None:
        self._where = supernet, arguments
        self._times: dict[int, list[float]] | None = None

    def of(self, module: nn.Module) -> list[float]:
        """Return seconds of each of several passes."""
        if self._times is None:
            with with_every_choice(self._where[0]):
                self._times = own_times(*self._where)
        return self._times.get(id(module), [0.0])


def _code_term(
    part: Part, call: Call, code: Term | None, own: _OwnTimes, look: Look, calls: int
) -> Term:
    """Return the milliseconds of code: as measured for the largest sizes, then by its work."""
    key = f'code of {part.name} ({type(part.module).__name__}) {list(call.inputs)}'
    whole = 1e3 * look(key, lambda: own.of(part.module)) / calls
    if code is None:
        return Term((), torch.tensor(whole, dtype=torch.float64))
    return Term(code.spaces, whole * code.table / code.table.max().clamp_min(1e-12))


def _source(part: Part, by_id: Mapping[int, Part], seen: Trace) -> Part | None:
    """Return the layer whose features a module without features of its own is called with."""
    if part.members:
        return None
    current, visited = id(part.module), set()
    while current in seen.sources and current not in visited:
        visited.add(current)
        current = seen.sources[current]
        source = by_id.get(current)
        if source is not None and source.members:
            return source if source.places == part.places else None
    return None


def _outputs_of(source: Part) -> dict[str, tuple[str, ...]]:
    return {tie.space_id: tie.names for tie, member in source.members if member.axis == 'out'}


def _shape(
    part: Part, module: nn.Module, call: Call, source: Part | None, chosen: Mapping[str, str]
) -> LayerShape:
    if source is not None:
        outputs = {sid: chosen[sid] for sid in _outputs_of(source)}
        rest = {sid: names[-1] for sid, names in source.choices.items()}
        features = layer_shape(source.settled({**rest, **outputs}), Call((), ())).out_features
        whole = call.inputs[0]
        dim = feature_dim(source.module, whole)
        if features and 0 <= dim < len(whole):
            call = Call(((*whole[:dim], features, *whole[dim + 1 :]),), (), call.itemsize)
    return layer_shape(module, call)


def _key(shape: LayerShape, module: nn.Module) -> str:
    sizes = 'x'.join(map(str, shape.inputs[0]))
    return f'{type(module).__module__}.{shape.kind}({shape.settings}) of {sizes}'


def _time_layer(part: Part, module: nn.Module, shape: LayerShape) -> list[float]:
    """Return the seconds of several calls of a layer with random weights."""
    tensors: Sequence[Tensor] = [*part.module.parameters(), *part.module.buffers()]
    device = tensors[0].device if tensors else torch.device('cpu')
    layer = module.to_empty(device=device).eval()
    for tensor in (*layer.parameters(), *layer.buffers()):
        with torch.no_grad():
            tensor.fill_(0.5 if tensor.is_floating_point() else 1)
    kind = torch.long if isinstance(layer, nn.Embedding) else torch.float32
    like = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    x = torch.zeros(shape.inputs[0], device=device, dtype=kind if kind == torch.long else like)
    return time_call(layer, ((x,), {}), seconds=0.01)
