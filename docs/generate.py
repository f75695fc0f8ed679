"""Write docs/algorithms.md: every mutator and extension, from its docstring and its configs.

python docs/generate.py            # write the page
python docs/generate.py --check    # fail if the page is not what would be written
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse
from mmengine.config import Config

import mmrazor_mutators as mm
from mmrazor_mutators.views.listing import trait_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'algorithms.md'

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
[your_own_algorithm.md](your_own_algorithm.md) adds one to it.
"""


def to_markdown(text: str) -> str:
    """Turn the little of reStructuredText that docstrings use into Markdown."""
    text = re.sub(r'\.\. math:: (.+)\n', r'\n$$\n\1\n$$\n', text + '\n')
    text = re.sub(r'\.\. math::\n\n?((?:[ ]+.*\n?|\n)+)', _display, text)
    text = re.sub(r':math:`([^`]+)`', lambda m: f'${m[1]}$', text)
    text = re.sub(r':\w+:`~?([^`]+)`', r'`\1`', text)
    return text.replace('``', '`').strip()


def _display(match: re.Match[str]) -> str:
    lines = [line.strip() for line in match[1].strip().splitlines()]
    return '\n$$\n' + '\n'.join(lines) + '\n$$\n\n'


def options_of(part: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of every option, inherited ones last."""
    # What all of them take, and what this one does not take although its base does.
    seen = {'self', 'init_cfg', 'extensions', 'placeholder_mapping'}
    seen.update(getattr(part, 'refused_options', ()))
    for base in inspect.getmro(part):
        init = vars(base).get('__init__')
        if init is None or base.__module__.split('.')[0] != 'mmrazor_mutators':
            continue
        params = [p for p in docstring_of(base).params if p.args[0] == 'param']
        told = {p.arg_name: p.description or '' for p in params}
        for name, parameter in inspect.signature(init).parameters.items():
            if name in seen or parameter.kind in (2, 4):
                continue
            seen.add(name)
            default = parameter.default
            shown = 'required' if default is parameter.empty else f'`{default!r}`'
            yield name, shown, ' '.join(to_markdown(told.get(name, '')).split())


def docstring_of(part: Any) -> Docstring:
    """Return the parsed docstring, without its example."""
    text = inspect.cleandoc(part.__doc__ or '').split('>>>')[0]
    return parse(text, style=DocstringStyle.GOOGLE)


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
    options = list(options_of(part))
    if options:
        lines += ['', '| option | default | |', '| --- | --- | --- |']
        lines += [f'| `{n}` | {d} | {m.replace("|", chr(92) + "|")} |' for n, d, m in options]
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


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding='utf-8')
    elif PAGE.read_text(encoding='utf-8') != page():
        print('docs/algorithms.md is out of date: run python docs/generate.py', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
