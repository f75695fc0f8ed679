"""From any model to a supernet, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from ..blame import one_line
from ..copies import SavedBuffers
from ..errors import BindingError, InputError, SearchSpaceError
from ..mutables import (
    SearchableLayer,
    SearchPlan,
    arguments_of,
    call_norms,
    find_mutables,
    plan_of,
    restore_layer,
    set_plan,
    traverse,
)
from .alternatives import build_alternatives, like_of
from .fast_paths import check_fast_paths
from .heads import add_heads
from .kernels import add_kernel
from .proof import prove, run, where
from .rules import KINDS, MODULE_KINDS, Place, Rule, find_places, parse_rules
from .ties import TieFinder
from .widths import add_width, follow

__all__ = ['begin', 'convert', 'make_searchable', 'restore_original']

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def make_searchable(
    model: nn.Module, rules: Sequence[Mapping[str, Any]], example_inputs: Any
) -> nn.Module:
    """Turn a model into a supernet: the same object, in which rules give places a choice.

    The original is a choice everywhere, by identity and with its weights, and it is what runs
    until a mutator is prepared.  Before anything stays changed, smaller networks are
    exported from a copy and compared with it: what cannot work is an error, and the model
    is as it was.

    Args:
        model: Any module.
        rules: A list of dicts, each with ``match`` (a wildcard of qualified names or the name
            of a type, a type, a predicate of name and module, or a list of these), optionally
            ``space`` (an id that all matches share), and one or more of

            - ``ops``: ``{name: module or config}``, or a function of the original;
            - ``kernel_size``: sizes of a convolution's kernel;
            - ``width``: output channels, as counts or as fractions (floats up to 1), of the
              layer and of all that is tied to it;
            - ``expansion``: hidden channels of a block as multiples of what it reads; those
              above the original's are left out;
            - ``ffn``: hidden units of a block, as ``width``;
            - ``heads``: numbers of heads of a module that attends;
            - ``depth``: ``True`` for a block that may be left out;
            - ``activation`` and ``norm``: names, such as ``'silu'`` and ``'gn'``, or configs.
        example_inputs: A tensor, a tuple of positional or a dict of keyword arguments that
            the model can be called with.

    Returns:
        ``model``.

    Raises:
        ConfigError: Rules of another form.
        InputError: Inputs that do not pass the model.
        BindingError: The model is a supernet already.
        SearchSpaceError: A rule that matches nothing, or a choice that cannot work.

    >>> import mmrazor_mutators as mm
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> rules = [dict(match='0', width=[0.5, 1.0]), dict(match='ReLU', activation=['silu'])]
    >>> supernet = mm.make_searchable(model, rules, torch.zeros(1, 4))
    >>> mutator = mm.DartsMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> {space: info['choice_names'] for space, info in mutator.search_spaces.items()}
    {'1': ('original', 'silu'), '0': ('w4', 'w8')}
    >>> mutator.export_subnet(supernet, {'0': {'chosen': ['w4']}, '1': {'chosen': ['silu']}})
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
      (1): SiLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    parsed = parse_rules(rules)
    plan, before = begin(model, example_inputs)
    convert(model, parsed, plan, before)
    return model


def begin(model: Any, example_inputs: Any) -> tuple[SearchPlan, Any]:
    """Return the plan of a model without choices, and what it makes of its inputs.

    Raises:
        InputError: No module, or inputs that do not pass it.
        SearchSpaceError: A wrapper.
        BindingError: The model is a supernet already.
    """
    _check_model(model)
    plan = SearchPlan(example_inputs=arguments_of(example_inputs))
    return plan, _first_run(model, plan)


def convert(
    model: nn.Module,
    rules: Sequence[Rule],
    plan: SearchPlan,
    before: Any,
    find_place: bool = True,
) -> None:
    """Give places of a model a choice, or leave it as it was.

    Args:
        model: The model.
        rules: Which places.
        plan: A new one; see :func:`begin`.
        before: What the model makes of the plan's inputs.
        find_place: Whether an error of the dry run names the place.

    Raises:
        SearchSpaceError: A rule that matches nothing, or a choice that cannot work.
    """
    places = find_places(model, rules)
    check_fast_paths(model, places, plan)
    _check_they_run(model, places, plan)
    set_plan(model, plan)
    try:
        _convert(model, places, plan)
        prove(model, plan, before, find_place)
    except BaseException:
        restore_original(model)
        raise


def restore_original(supernet: nn.Module) -> None:
    """Undo :func:`make_searchable`, in place; weights are what they are by now.

    Raises:
        BindingError: A mutator is bound still, or there is nothing to undo.
    """
    plan = plan_of(supernet)
    if plan is None:
        raise BindingError(
            f'This {type(supernet).__name__} was not made by make_searchable, so that there '
            'is nothing to restore'
        )
    if any('forward' in vars(mutable) for mutable in find_mutables(supernet)):
        raise BindingError(
            'A mutator is bound to this supernet; call mutator.release(supernet) first'
        )
    for module in list(supernet.modules()):
        if isinstance(module, SearchableLayer):
            restore_layer(module)
    for parent, name, original in reversed(plan.replaced):
        parent._modules[name] = original
    set_plan(supernet, None)


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f'Expected a model to be an nn.Module, but got {type(model).__name__}')
    for name, module in model.named_modules():
        if isinstance(module, _WRAPPERS):
            where = f'at {name!r}' if name else 'around the model'
            raise SearchSpaceError(
                f'There is a {type(module).__name__} {where}; make its `.module` searchable, '
                'prepare the mutator, and wrap the supernet then'
            )
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or type(module).__name__ == 'OptimizedModule':
            what = repr(name) if name else 'The model'
            way = 'torch.jit.script' if scripted else 'torch.compile'
            raise SearchSpaceError(
                f'{what} was made by {way}, so that its layers cannot change; make the module '
                'searchable from which it was made, and compile the network that is exported'
            )
        if any(isinstance(p, UninitializedParameter) for p in module.parameters(False)):
            raise InputError(
                f'The lazy layer {name!r} does not know its features yet; call the model once '
                'before it is made searchable'
            )
        if plan_of(module) is not None or isinstance(module, SearchableLayer):
            raise BindingError(
                f'This {type(model).__name__} is a supernet already; call '
                'restore_original(supernet) before giving it other rules'
            )


def _first_run(model: nn.Module, plan: SearchPlan) -> Any:
    try:
        return run(model, plan)
    except Exception as error:  # Whatever a model raises that does not take the inputs.
        raise InputError(
            f'`example_inputs` do not pass {type(model).__name__}: {one_line(error)}'
            f'{where(error, model)}'
        ) from error


def _check_they_run(model: nn.Module, places: Sequence[Place], plan: SearchPlan) -> None:
    """Refuse a module that the example inputs do not reach, of which nothing can be told."""
    ran: set[int] = set()
    handles = [
        part.register_forward_hook(lambda module, *_: ran.add(id(module)))
        for place in places
        for part in place.module.modules()
    ]
    saved = SavedBuffers(model)
    try:
        run(model, plan)
    finally:
        saved.put_back()
        for handle in handles:
            handle.remove()
    for place in places:
        if not any(id(part) in ran for part in place.module.modules()):
            raise SearchSpaceError(
                f'At {place}: it does not run with the example inputs in eval mode, so that '
                'it is not known whether its choices work, and its logits might never get a '
                'gradient; give inputs that reach it, or leave it out of the rule'
            )


def _convert(model: nn.Module, places: Sequence[Place], plan: SearchPlan) -> None:
    inner_first = sorted(places, key=lambda place: -place.name.count('.'))
    for place in inner_first:
        if place.kind in MODULE_KINDS:
            _replace(model, place, plan)
    by_kind = {kind: [place for place in places if place.kind == kind] for kind in KINDS}
    widths = [place for place in places if place.kind in ('width', 'expansion', 'ffn')]
    if widths:
        finder = TieFinder(model, plan)
        # Everything is followed before any layer is changed.
        found = [(place, *follow(place, model, finder)) for place in widths]
        for place, layer, linked in found:
            add_width(place, layer, linked, plan)
        call_norms(model)
    for place in by_kind['heads']:
        add_heads(place, plan)
    for place in by_kind['kernel_size']:
        add_kernel(place, model)


def _replace(model: nn.Module, place: Place, plan: SearchPlan) -> None:
    """Put alternatives beside a module, at every place where it stands."""
    _check_shape(model, place, plan)
    standing = [
        (parent, name) for parent, name, child in traverse(model) if child is place.module
    ]
    mutable = build_alternatives(place, like_of(place.module, model))
    for parent, name in standing:
        plan.replaced.append((parent, name, place.module))
        parent._modules[name] = mutable


def _check_shape(model: nn.Module, place: Place, plan: SearchPlan) -> None:
    """Refuse a block that cannot be left out, since it changes the shape of its input."""
    if place.kind != 'depth':
        return
    seen: list[tuple[Any, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        first = args[0] if args else next(iter(kwargs.values()), None)
        seen.append((_shape(first), _shape(output)))

    handle = place.module.register_forward_hook(note, with_kwargs=True)
    saved = SavedBuffers(model)
    try:
        run(model, plan)
    finally:
        handle.remove()
        saved.put_back()
    for came, went in seen:
        if came != went or came is None:
            raise SearchSpaceError(
                f'At {place}: it cannot be left out, because it makes {went} of {came}; leave '
                'it out of the rule, which suits blocks that return the shape of their input'
            )


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None
