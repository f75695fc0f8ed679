"""Notebooks as pages: their text, code and outputs as they stand; nothing is run."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that it amounts to."""

    supported = ('ipynb',)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the cells one after the other."""
        env = document.settings.env
        folder = Path(env.app.outdir) / '_images'
        cells = json.loads(inputstring)['cells']
        blocks = [
            block
            for number, cell in enumerate(cells)
            for block in _blocks_of(cell, f'{env.docname}_{number}', folder)
        ]
        super().parse('\n\n'.join(blocks) + '\n', document)


def _blocks_of(cell: dict[str, Any], name: str, folder: Path) -> Iterator[str]:
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
        yield source
    elif cell['cell_type'] == 'code' and source.strip():
        yield _fenced('python', source)
        for number, output in enumerate(cell.get('outputs', [])):
            yield from _output(output, f'{name}_{number}', folder)


def _output(output: dict[str, Any], name: str, folder: Path) -> Iterator[str]:
    data = output.get('data', {})
    kinds = {kind: ''.join(content) for kind, content in data.items() if kind[:4] != 'appl'}
    for kind, ending in (('image/png', 'png'), ('image/svg+xml', 'svg')):
        if kind in kinds:
            content = kinds[kind]
            folder.mkdir(parents=True, exist_ok=True)
            raw = base64.b64decode(content) if ending == 'png' else content.encode()
            (folder / f'{name}.{ending}').write_bytes(raw)
            yield _raw(f'<img alt="what the cell shows" src="_images/{name}.{ending}">')
            return
    if 'text/html' in kinds:
        html = kinds['text/html'].replace('<table>', '<table class="docutils">')
        yield _raw(f'<div class="table-wrapper">{html}</div>')
        return
    text = kinds.get('text/plain') or ''.join(output.get('text', []))
    if text.strip():
        yield _fenced('text', text)


def _fenced(language: str, text: str) -> str:
    return f'````{language}\n{text.rstrip()}\n````'


def _raw(html: str) -> str:
    return f'````{{raw}} html\n{html}\n````'


def setup(app: Any) -> dict[str, bool]:
    """Register the ending and its parser."""
    app.add_source_suffix('.ipynb', 'ipynb')
    app.add_source_parser(NotebookParser)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
