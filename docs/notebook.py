"""Run docs/tutorial.ipynb from top to bottom, and write its outputs anew.

python docs/notebook.py

Cells run in this process, one after the other; a kernel and what starts it (nbclient,
ipykernel, ZeroMQ) would be twenty more packages, and would show the same.
"""

from __future__ import annotations

import ast
import base64
import json
import sys
import traceback
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent / 'tutorial.ipynb'


def main() -> None:
    """Run the cells, and write the notebook."""
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    run(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(text + '\n', encoding='utf-8')


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run all cells of code, put their outputs into the notebook, and return its names."""
    names: dict[str, Any] = {'__name__': '__main__'}
    count = 0
    for cell in notebook['cells']:
        if cell['cell_type'] != 'code':
            continue
        count += 1
        cell['execution_count'] = count
        cell['outputs'] = _run_cell(''.join(cell['source']), count, names)
    return names


def _run_cell(source: str, count: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    place = f'cell {count}'
    body = ast.parse(source, place).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = StringIO(), None
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), place, 'exec'), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), place, 'eval'), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({'name': 'stdout', 'output_type': 'stream', 'text': lines})
    if value is not None:
        shown = {'data': _shown(value), 'execution_count': count, 'metadata': {}}
        outputs.append({**shown, 'output_type': 'execute_result'})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """Return what a notebook shows of a value: a picture, or text with its HTML."""
    data: dict[str, Any] = {'text/plain': repr(value).splitlines(keepends=True)}
    if hasattr(value, 'savefig'):
        data = {'text/plain': ['<Figure>']}
        picture = BytesIO()
        value.savefig(picture, format='png', dpi=80)
        data['image/png'] = base64.b64encode(picture.getvalue()).decode()
    elif hasattr(value, '_repr_html_'):
        data['text/html'] = value._repr_html_().splitlines(keepends=True)
    return data


if __name__ == '__main__':
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
