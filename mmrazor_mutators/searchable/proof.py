"""The dry run: whether networks exported from a supernet compute what it does."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..blame import one_line
from ..copies import SavedBuffers
from ..errors import SearchSpaceError
from ..mutables import (
    DifferentiableChannel,
    MutableModule,
    SearchPlan,
    build_search_spaces,
    find_mutables,
    network_of,
)
from ..mutables.layers import original_class
from ..structures import describe, map_tensors

__all__ = ['prove', 'run', 'where']

Choice = dict[str, str]
"""``{space_id: name}`` for all spaces."""


_MIXES = 'since some operation mixes live and dead features'


@contextmanager
def _as_in_use(model: nn.Module) -> Iterator[None]:
    """Let a model be in eval mode without a trace, inside of the block."""
    modes = {module: module.training for module in model.modules()}
    saved = SavedBuffers(model)
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        saved.put_back()


def run(model: nn.Module, plan: SearchPlan, dtype: torch.dtype | None = None) -> Any:
    """Return what a model makes of its example inputs, in eval mode and without a trace."""

    def cast(leaf: Tensor) -> Tensor:
        return leaf.detach().clone().to(dtype if leaf.is_floating_point() else None)

    args, kwargs = map_tensors(cast, plan.example_inputs)
    with _as_in_use(model):
        return model(*args, **kwargs)


def where(error: BaseException, model: nn.Module) -> str:
    """Return in which module of a model an error arose, in brackets; nothing if in none."""
    names = {id(module): name for name, module in model.named_modules()}
    found = ''
    trace = error.__traceback__
    while trace is not None:
        module: Any = trace.tb_frame.f_locals.get('self')
        if names.get(id(module)):
            found = f' (in {names[id(module)]!r}, {original_class(module).__name__})'
        trace = trace.tb_next
    return found


def prove(model: nn.Module, plan: SearchPlan, before: Any, find_place: bool = True) -> None:
    """Make sure that a converted model does what it did, and that it can get smaller.

    Args:
        model: Where no mutator is bound, so that the original is chosen.
        plan: Its plan.
        before: What it made of the example inputs before.
        find_place: Whether to look for the place that is at fault, which takes long.

    Raises:
        SearchSpaceError: Which place cannot have which choice, and why.
    """
    spaces = build_search_spaces(model)
    original = {sid: space['modules'][0].active_names[-1] for sid, space in spaces.items()}
    try:
        complaint = _differs(run(model, plan), before, exact=True)
    except Exception as error:
        raise SearchSpaceError(
            f'{type(model).__name__} failed when it was converted, although every choice was '
            f'the original: {one_line(error)}{where(error, model)}; leave that layer, and '
            'what is tied to it, out of the rules'
        ) from error
    if complaint:
        raise SearchSpaceError(
            f'{type(model).__name__} returned something else when it was converted, although '
            f'every choice was the original ({complaint}); does it return the same twice in '
            'eval mode?'
        )
    twin = copy.deepcopy(model)
    dtype = None
    if all(p.dtype == torch.float32 for p in twin.parameters()):
        dtype = torch.float64
        twin.double()
        try:
            run(twin, plan, dtype)
        except Exception:  # A model that asks for its own dtype somewhere.
            twin, dtype = copy.deepcopy(model), None
    for choice in _probes(spaces, original):
        complaint = _fails(twin, plan, choice, dtype)
        if complaint and not find_place:
            raise SearchSpaceError(complaint)
        if complaint:
            _blame(twin, plan, spaces, original, dtype, complaint)


def _probes(spaces: Mapping[str, Any], original: Choice) -> Iterator[Choice]:
    """Yield some subnets that show every kind of fault as a rule."""
    names = {sid: list(space['choice_names']) for sid, space in spaces.items()}
    others = {sid: [n for n in own if n != original[sid]] for sid, own in names.items()}
    rng = random.Random(0)
    yield original
    yield {sid: (own or names[sid])[0] for sid, own in others.items()}
    yield {sid: (own or names[sid])[-1] for sid, own in others.items()}
    for _ in range(2):
        yield {sid: rng.choice(own) for sid, own in names.items()}


def _blame(
    twin: nn.Module,
    plan: SearchPlan,
    spaces: Mapping[str, Any],
    original: Choice,
    dtype: torch.dtype | None,
    complaint: str,
) -> None:
    """Raise an error that names the place, if one by itself is enough to fail."""
    with torch.random.fork_rng(devices=[]):
        first = run(twin, plan, dtype)
        torch.rand(1)
        if _differs(run(twin, plan, dtype), first, exact=True):
            raise SearchSpaceError(
                f'{original_class(twin).__name__} draws random numbers in eval mode, so that '
                'nobody can tell whether smaller networks compute the same; let it draw them '
                'in training alone'
            )
    for space_id, space in spaces.items():
        for name in space['choice_names']:
            found = _fails(twin, plan, {**original, space_id: name}, dtype)
            if found:
                cure = '' if _MIXES in found else _cure(twin, plan, space_id)
                raise SearchSpaceError(
                    f'In space {space_id!r}: the choice {name!r} cannot work: {found}; '
                    f'{cure}leave it, or the place, out of the rule'
                )
    raise SearchSpaceError(
        f'The choices of {", ".join(spaces)} work one by one, but not together: {complaint}; '
        'leave some of them out'
    )


def _cure(twin: nn.Module, plan: SearchPlan, space_id: str) -> str:
    """Return what may help if features are chosen, as far as it can be told."""
    mutables = [m for m in find_mutables(twin) if m.space_id == space_id]
    if not all(isinstance(mutable, DifferentiableChannel) for mutable in mutables):
        return ''
    calls = _count_calls(twin, plan)
    chosen = {id(mutable) for mutable in mutables}
    for name, module in twin.named_modules():
        inside = {id(part) for part in getattr(module, 'mutables', nn.Module()).children()}
        if inside & chosen and calls.get(name, 1) > 1:
            return (
                f'{name!r} is called {calls[name]} times in a forward pass, so that the '
                'features that it reads have to agree in all of its places: '
            )
    return (
        'if code counts on a number of features, as view(-1, 256) does, let it say -1, or read '
        'the number from its layers (`num_heads` and `head_dim` in attention); or '
    )


def _count_calls(model: nn.Module, plan: SearchPlan) -> dict[str, int]:
    calls: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1

        return hook

    handles = [m.register_forward_hook(count(name)) for name, m in model.named_modules()]
    try:
        run(model, plan, next((p.dtype for p in model.parameters()), None))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fails(
    twin: nn.Module, plan: SearchPlan, choice: Choice, dtype: torch.dtype | None
) -> str | None:
    """Return what is wrong with the network of a choice, ``None`` if nothing is."""
    mutables: list[MutableModule] = list(find_mutables(twin))
    for mutable in mutables:
        runs = [name == choice[mutable.space_id] for name in mutable.full_choice_names]
        mutable.set_choice_mask(torch.tensor(runs))
    running = twin
    try:
        expected = run(twin, plan, dtype)
        running = network_of(twin, {sid: {'chosen': [name]} for sid, name in choice.items()})
        found = run(running, plan, dtype)
    except Exception as error:  # Whatever a user's code raises.
        return f'{one_line(error)}{where(error, running)}'
    finally:
        for mutable in mutables:
            mutable.set_choice_mask(mutable.build_choice_mask())
    return _differs(found, expected, exact=False)


def _differs(found: Any, expected: Any, exact: bool) -> str | None:
    """Return how two outputs differ, ``None`` if they do not."""
    ours, structure = pytree.tree_flatten(found)
    theirs, expected_structure = pytree.tree_flatten(expected)
    if structure != expected_structure:
        return f'it returns {describe(found)} instead of {describe(expected)}'
    for one, other in zip(ours, theirs, strict=True):
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            continue
        if one.shape != other.shape:
            return f'it returns {describe(found)} instead of {describe(expected)}'
        if exact and not torch.equal(one, other) and not one.isnan().any():
            gap = float((one.double() - other.double()).abs().max())
            return f'outputs differ by {gap:.3g}'
        tolerance = 1e-6 if one.dtype == torch.float64 else 1e-2
        if not torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True):
            gap = float((one.double() - other.double()).abs().max())
            return f'the exported network returns something else (by {gap:.3g}), {_MIXES}'
    return None
