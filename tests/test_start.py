"""What a newcomer runs first: README.md, the notebook, and the configs of the first pages."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import mmrazor_mutators as mm
from mmrazor_mutators.engine.config import load_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
FENCE = re.compile(r'^```(\w+)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
BLOCKS = [code for language, code in FENCE.findall(README) if language == 'python']
RESULT = re.compile(r'(before|after): +([\d,]+) parameters, (\d+\.\d)% right')


def results(text: str) -> dict[str, tuple[int, float]]:
    """Read the lines that the example prints: parameters, and the share that is right."""
    found = RESULT.findall(text)
    return {name: (int(size.replace(',', '')), float(right)) for name, size, right in found}


def test_the_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands: the same sizes of networks, and accuracies up to other roundings."""
    assert len(BLOCKS[0].splitlines()) <= 25
    told: dict[str, Any] = {'__name__': '__main__'}
    exec(compile(BLOCKS[0], 'README.md', 'exec'), told)
    seen, said = results(capsys.readouterr().out), results(README)
    limit = told['mutator'].extensions[0].limits['params']
    assert seen.keys() == said.keys() == {'before', 'after'}
    assert seen['before'][0] == said['before'][0]
    for size, _ in (seen['after'], said['after']):
        assert 0.9 * limit <= size <= limit == pytest.approx(0.1 * seen['before'][0])
    for name, (_, right) in said.items():
        # Other processors round otherwise, and 600 such steps may lead elsewhere.
        assert seen[name][1] == pytest.approx(right, abs=2.5)


def test_the_other_blocks_of_the_readme() -> None:
    known = dict(mm.MUTATORS.module_dict), dict(mm.MODELS.module_dict)
    try:
        for code in BLOCKS[1:]:
            told: dict[str, Any] = {'__name__': '__main__'}
            exec(compile(code, 'README.md', 'exec'), told)
    finally:
        for registry, parts in zip((mm.MUTATORS, mm.MODELS), known, strict=True):
            registry.module_dict.clear()
            registry.module_dict.update(parts)
    assert len(BLOCKS) == 3
    weights = told['SharpMutator']().relax(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 2.0]).softmax(-1))


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        if not target.startswith('http'):
            assert (ROOT / target).exists(), target


def test_the_table_of_mutators_is_whole() -> None:
    ours = {
        name
        for name, part in mm.MUTATORS.module_dict.items()
        if part.__module__.startswith('mmrazor_mutators.')
    }
    told = {*re.findall(r'`(\w+Mutator)`', README)}
    assert told - {'SharpMutator'} <= ours


@pytest.fixture(scope='module')
def notebook() -> Any:
    return json.loads((ROOT / 'docs' / 'tutorial.ipynb').read_text(encoding='utf-8'))


def shorter(source: list[str]) -> list[str]:
    """Return a cell with a tenth of the steps."""
    return [
        line.replace('epochs = 10', 'epochs = 1').replace('(600, ', '(60, ') for line in source
    ]


def kinds(cell: Any) -> list[Any]:
    """What a cell shows, without what it says."""
    return [
        (out['output_type'], sorted(out.get('data', ()))) for out in cell.get('outputs', ())
    ]


def test_the_notebook_runs(notebook: Any) -> None:
    """From top to bottom, with a tenth of the steps."""
    cells = [dict(cell, source=shorter(cell['source'])) for cell in notebook['cells']]
    assert cells != notebook['cells']
    run = runpy.run_path(str(ROOT / 'docs' / 'notebook.py'))['run']
    told = run({'cells': cells})
    assert told['size'] <= told['mutator'].extensions[0].limits['params']
    for cell, saved in zip(cells, notebook['cells'], strict=True):
        assert kinds(cell) == kinds(saved), ''.join(cell['source'])


@pytest.mark.slow
def test_the_notebook_finds_what_it_shows(notebook: Any) -> None:
    saved = json.dumps(notebook)
    told = runpy.run_path(str(ROOT / 'docs' / 'notebook.py'))['run'](json.loads(saved))
    assert told['right'] > 0.9


def test_the_notebook_has_its_outputs(notebook: Any) -> None:
    counts = [c['execution_count'] for c in notebook['cells'] if c['cell_type'] == 'code']
    assert counts == [*range(1, len(counts) + 1)]
    shown = [out for c in notebook['cells'] for out in c.get('outputs', ()) if 'data' in out]
    assert sum('text/html' in out['data'] for out in shown) == 3
    assert sum('image/png' in out['data'] for out in shown) == 1
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            ast.parse(''.join(cell['source']))


def test_the_config_for_a_folder_of_images_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of the page in one file, as it says to."""
    from rich.console import Console

    from mmrazor_mutators.engine.jobs import search

    monkeypatch.chdir(tmp_path)
    page = (ROOT / 'docs' / 'your_own_data.md').read_text(encoding='utf-8')
    code = [text for language, text in FENCE.findall(page) if language == 'python']
    exec(compile(code[0], 'your_own_data.md', 'exec'), {})
    (steps,) = re.findall(r'^to_16 = \[.*?^\]\n', code[1], re.DOTALL | re.MULTILINE)
    text = code[2].replace("'configs/", f"'{ROOT.as_posix()}/configs/")
    Path('photos.py').write_text(text.replace('model = ', steps + 'model = ', 1))
    subnet = search(load_config('photos.py', []), Path('work'), console=Console(quiet=True))
    assert len(subnet) == 6
