"""docs/parts.md: what a config can name by ``type``, with options, types and defaults."""

from __future__ import annotations

import inspect
from typing import Any

import mmrazor_mutators as mm
from mmrazor_mutators import registry
from mmrazor_mutators.views.catalogue import KINDS

from .options import docstring_of, options_table, to_markdown

HEAD = """# Parts and their options

All that a config can name by its `type`, with every option: its type, its default, and what
values it may have. Written by `python docs/generate.py` from signatures and docstrings.
Options that a part inherits come last. A part of your own joins by
`@mm.MUTATORS.register_module()` and the like, see
[Write your own algorithm](your_own_algorithm.md).

A value of another type, an option that does not exist and a name that no registry knows are
errors that say what was expected.
"""

_GIVEN = {
    'loops': ('runner', 'dataloader'),
    'optimizers': ('params',),
    'constructors': ('optim_wrapper_cfg', 'paramwise_cfg'),
}
"""What the runner gives to parts of a kind."""

_ELSEWHERE = {'mutators', 'extensions'}

_TITLES = {
    'mutators': ('Mutators', '`model.mutator`, see [Algorithms](algorithms.md#mutators):'),
    'extensions': (
        'Extensions',
        '`model.mutator.extensions`, see [Algorithms](algorithms.md#extensions):',
    ),
    'algorithms': ('Algorithms', '`model`.'),
    'architectures': ('Architectures', '`model.architecture`.'),
    'hypergradients': (
        'Hypergradients',
        '`model.hypergradient`, or that of `BilevelSearch`: a name, or a dict with options.',
    ),
    'mutables': (
        'Mutables',
        'Places with a choice: values of `placeholder_mapping`, or modules in your own code.',
    ),
    'ops': ('Operations', 'Values of `choices`.'),
    'datasets': ('Data sets', '`dataset` of a loader.'),
    'transforms': ('Transforms', 'Entries of `transform` of a data set.'),
    'metrics': ('Metrics', '`val_evaluator` and `test_evaluator`.'),
    'hooks': ('Hooks', '`custom_hooks` and `default_hooks`.'),
    'loops': ('Loops', '`train_cfg`.'),
    'optimizers': ('Optimizers', '`optimizer`, beside all of PyTorch.'),
    'constructors': ('Optimizer constructors', '`optim_wrapper.constructor`.'),
}
_ORDER = (
    'algorithms',
    'architectures',
    'mutators',
    'extensions',
    'hypergradients',
    'mutables',
    'ops',
    'datasets',
    'transforms',
    'loops',
    'hooks',
    'metrics',
    'optimizers',
    'constructors',
)


def _parts_of(kind: str) -> dict[str, Any]:
    parts = getattr(registry, KINDS[kind])
    parts.import_from_location()
    named = sorted(parts.module_dict.items(), key=lambda item: item[0].lower())
    ours = [(n, p) for n, p in named if p.__module__.startswith('mmrazor_mutators.')]
    return {name: part for name, part in ours if not inspect.isabstract(part)}


def _section(name: str, part: Any, given: tuple[str, ...]) -> str:
    doc = docstring_of(part)
    lines = [f'### {name}', '', to_markdown(doc.short_description or '')]
    if doc.long_description:
        lines += ['', to_markdown(doc.long_description)]
    options = options_table(part, given)
    return '\n'.join([*lines, '', *options] if options else lines)


def page() -> str:
    """Return the whole page."""
    if {*_ORDER} != {*KINDS}:
        raise SystemExit(f'docs/pages/parts.py lacks {sorted({*KINDS} ^ {*_ORDER})}')
    pieces = [HEAD.rstrip()]
    for kind in _ORDER:
        title, where = _TITLES[kind]
        parts = _parts_of(kind)
        pieces.append(f'## {title}')
        if kind not in _ELSEWHERE:
            given = _GIVEN.get(kind, ())
            pieces += [where, *(_section(name, part, given) for name, part in parts.items())]
            continue
        shown = {name: part for name, part in parts.items() if part is not mm.BaseMutator}
        links = [f'[{name}](algorithms.md#{name.lower()})' for name in shown]
        pieces.append(f'{where}\n{", ".join(links)}.')
    return '\n\n'.join(pieces) + '\n'
