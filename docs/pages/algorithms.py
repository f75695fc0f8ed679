"""docs/algorithms.md: every mutator and extension, from its docstring and its configs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmrazor_mutators as mm
from mmrazor_mutators.views.listing import trait_of

from .options import docstring_of, options_table, to_markdown

ROOT = Path(__file__).resolve().parents[2]

HEAD = """# Algorithms

Every mutator (how choices are mixed and read off) and every extension (what any
mutator can be combined with). Written by `python docs/generate.py` from the
docstrings and `configs/`; change those instead.

A mutator is chosen by its name, and extensions are listed in it:

```python
model = dict(
    mutator=dict(type='DartsMutator', extensions=[dict(type='BetaDecay', max_weight=50.0)]),
)
```

All mutators take `placeholder_mapping` as well, and those that learn by gradients `extensions`.
`mmrazor-mutators list mutators` shows the same list in a terminal;
[Write your own algorithm](your_own_algorithm.md) adds one to it.
"""


def types_in(cfg: Any) -> Iterator[str]:
    """Yield every ``type`` that a config names."""
    if isinstance(cfg, dict):
        if isinstance(cfg.get('type'), str):
            yield cfg['type']
        for value in cfg.values():
            yield from types_in(value)
    elif isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from types_in(value)


def configs_by_type() -> dict[str, list[str]]:
    """Return the configs of each part: of DARTS those without any extension."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / 'configs').glob('[!_]*/*.py')):
        mutator = Config.fromfile(path).to_dict()['model'].get('mutator')
        if mutator is None:  # In the form of MMRazor v0.2.0, which has an `algorithm`.
            continue
        names = dict.fromkeys(types_in(mutator.get('extensions', [])))
        if not names or mutator['type'] != 'DartsMutator':
            names[mutator['type']] = None
        for name in names:
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def section(name: str, part: Any, configs: list[str]) -> str:
    """Return the section of one part."""
    doc = docstring_of(part)
    lines = [f'### {name}', '', to_markdown(doc.short_description or '')]
    facts = [('Paper', trait_of(part, 'paper'))]
    if issubclass(part, mm.BaseMutator):
        facts += [('Samples', trait_of(part, 'samples')), ('Runs', trait_of(part, 'cost'))]
    shown = [f'{label}: {value}' for label, value in facts if value]
    if shown:
        lines += ['', ' · '.join(shown)]
    if doc.long_description:
        lines += ['', to_markdown(doc.long_description)]
    options = options_table(part)
    if options:
        lines += ['', *options]
    if configs:
        links = [f'[{c.removeprefix("configs/")}](../{c})' for c in configs]
        lines += ['', f'Configs: {", ".join(links)}']
    return '\n'.join(lines)


def page() -> str:
    """Return the whole page."""
    configs = configs_by_type()
    parts = [HEAD.rstrip()]
    for title, registry in (('Mutators', mm.MUTATORS), ('Extensions', mm.EXTENSIONS)):
        parts.append(f'## {title}')
        by_name = sorted(registry.module_dict.items(), key=lambda item: item[0].lower())
        for name, part in by_name:
            if not inspect.isabstract(part) and part is not mm.BaseMutator:
                parts.append(section(name, part, configs.get(name, [])))
    return '\n\n'.join(parts) + '\n'
