"""The hooks of mutators and extensions in docs/your_own_algorithm.md, from their classes."""

from __future__ import annotations

import inspect
from typing import Any

import mmrazor_mutators as mm

from .options import docstring_of, table, to_markdown

MUTATOR = {
    'convert_placeholder': ('prepare', 'in `prepare_from_supernet`, first'),
    'build_search_spaces': (
        'prepare',
        'in `prepare_from_supernet`, when the mutables are there',
    ),
    'build_arch_params': ('prepare', 'in `prepare_from_supernet`, when the spaces are known'),
    'modify_supernet_forward': ('prepare', 'in `prepare_from_supernet`, after all checks'),
    'on_epoch': ('epoch restore', 'before each epoch, and when a checkpoint is loaded'),
    'relax': ('step', 'in each forward pass, once for each space'),
    'sample_paths': ('step', 'in each forward pass, once, after `relax`'),
    'arch_objective': ('step', 'in an architecture step, with the loss of its batch'),
    'regularization': ('step', 'in an architecture step, by `arch_objective`'),
    'after_arch_step': ('step', 'after each step of the architecture optimizer'),
    'search_subnet': ('read', 'whenever a subnet is asked for, at least after each epoch'),
    'choice_probs': ('read', 'by `search_subnet`, once for each space that has logits'),
    'rate': ('read', 'by `search_subnet`, once for each space'),
    'content_score': ('read', 'by `rate`, for the inputs of a node without logits of its own'),
    'select': ('read', 'by `search_subnet`, after `rate`'),
    'get_extra_state': ('save', 'by `state_dict`'),
    'set_extra_state': ('restore', 'by `load_state_dict`'),
    'for_retraining': ('retrain', 'when the network found is trained from scratch'),
}
"""When each hook of a mutator is called: the phases that the tests look at, and in words."""

EXTENSION = {
    'check': (
        'prepare',
        'in `prepare_from_supernet`: spaces are known, nothing is changed',
    ),
    'attach': ('prepare', 'in `prepare_from_supernet`, last: the supernet is bound'),
    'on_epoch': ('epoch restore', 'before each epoch, and when a checkpoint is loaded'),
    'begin_epoch': ('epoch', 'after `on_epoch`, but not when a checkpoint is loaded'),
    'before_step': ('step', 'before each search step'),
    'arch_objective': ('step', 'in an architecture step, with the loss of its batch'),
    'penalty': ('step', 'in an architecture step, after `arch_objective`'),
    'around_weight_step': ('step', 'around the step of the weights'),
    'after_search': ('finish', 'after the last epoch, by `BilevelSearch.finish`'),
    'read_off': ('read', 'by `search_subnet`, first, and again after a veto'),
    'veto': ('read', 'by `search_subnet`, on what it is about to return'),
    'figures': ('watch', 'after an epoch that a `SearchMonitor` records'),
    'hidden': ('export', 'around `export_subnet`'),
    'detach': ('release', 'by `release` and `deploy_subnet`, and if preparing fails'),
}
"""The same of an extension."""

_INTRODUCTION = """In the order in which they are called. All may be overridden, and call
`super()` unless they replace what they override."""


def signature_of(owner: Any, name: str) -> str:
    """Return a method's signature as it is called.

    >>> signature_of(mm.DartsMutator, 'relax')
    'relax(arch_param: Tensor) -> Tensor'
    """
    signature = inspect.signature(getattr(owner, name))
    params = [p for key, p in signature.parameters.items() if key != 'self']
    shown = str(signature.replace(parameters=params)).replace("'", '').replace(': Any', '')
    return f'{name}{shown.removesuffix(" -> None").replace("nn.", "")}'


def _rows(owner: Any, hooks: dict[str, tuple[str, str]]) -> list[tuple[str, ...]]:
    rows = []
    for name, (_, when) in hooks.items():
        told = to_markdown(docstring_of(getattr(owner, name)).short_description or '')
        rows.append((f'`{signature_of(owner, name)}`', when, ' '.join(told.split())))
    return rows


def section() -> str:
    """Return the part of the page that is written."""
    header = ('hook', 'is called', 'what it does')
    lines = [_INTRODUCTION, '', '### Of a mutator', '']
    lines += table(header, _rows(mm.DartsMutator, MUTATOR))
    lines += ['', 'Mutators over other mutables have those of their base class alone.', '']
    lines += ['### Of an extension', '', *table(header, _rows(mm.Extension, EXTENSION))]
    return '\n'.join(lines)
