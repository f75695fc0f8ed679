"""The pages in docs/: their examples run, and what is generated is up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import python

import mmrazor_mutators as mm
from mmrazor_mutators.searchable.rules import KINDS
from mmrazor_mutators.sharing import run_candidate

DOCS = Path(__file__).resolve().parents[1] / 'docs'
BLOCK = re.compile(r'(<!-- skip -->\n)?```python\n(.*?)```', re.DOTALL)


@pytest.fixture
def registries_kept() -> Any:
    registries = (mm.MUTATORS, mm.EXTENSIONS, mm.OPS, mm.MODELS)
    known = [dict(registry.module_dict) for registry in registries]
    yield
    for registry, parts in zip(registries, known, strict=True):
        registry.module_dict.clear()
        registry.module_dict.update(parts)


@pytest.mark.usefixtures('registries_kept')
def test_your_own_algorithm() -> None:
    text = (DOCS / 'your_own_algorithm.md').read_text(encoding='utf-8')
    blocks = [code for skipped, code in BLOCK.findall(text) if not skipped]
    assert len(blocks) == 6
    lines = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(lines) <= 15
    told: dict[str, Any] = {}
    for code in blocks:
        exec(compile(code, 'your_own_algorithm.md', 'exec'), told)
    weights = told['TopTwoMutator']().relax(torch.tensor([1.0, 3.0, 2.0]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.7310586, 0.2689414]))
    assert set(told['logs']) == {'arch_loss', 'loss'}
    assert told['net'](torch.randn(2, 1, 8, 8)).shape == (2, 10)
    logits = told['mutator'].arch_params.values()
    torch.testing.assert_close(told['penalty'], 0.1 * sum((p**2).sum() for p in logits))
    assert told['scores'].shape == (8, 10)
    maps, chosen = torch.randn(1, 2, 8, 8), told['rates']['dilation']['chosen']
    told['sampler'].deploy_subnet(told['dilated'], told['rates'])
    assert told['plain'][0].rate == int(chosen[0].removeprefix('d'))
    torch.testing.assert_close(told['plain'](maps), told['dilated'](maps))
    op = told['RectifiedConv'](in_channels=4, out_channels=4).double()
    x, weight = torch.randn(2, 4, 5, 5).double(), torch.tensor(0.3).double()
    torch.testing.assert_close(run_candidate(op, x, weight), weight * op(x))


def test_any_network(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / 'any_network.md').read_text(encoding='utf-8')
    torch.manual_seed(0)
    told: dict[str, Any] = {}
    for _, code in BLOCK.findall(text):
        exec(compile(code, 'any_network.md', 'exec'), told)
    (printed,) = re.findall(r'```text\n(.*?)```', text, re.DOTALL)
    assert capsys.readouterr().out == printed
    small, x = told['small'], told['images']
    assert small(x).shape == (16, 10)
    rows = re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE)
    assert {*rows} == {*KINDS}


def test_under_a_budget() -> None:
    text = (DOCS / 'under_a_budget.md').read_text(encoding='utf-8')
    torch.manual_seed(0)
    told: dict[str, Any] = {}
    for _, code in BLOCK.findall(text):
        exec(compile(code, 'under_a_budget.md', 'exec'), told)
    size = sum(p.numel() for p in told['small'].parameters())
    assert 0.97 * told['limits']['params'] <= size <= told['limits']['params']
    assert told['small'](told['images']).shape == (32, 10)


def test_distributed() -> None:
    text = (DOCS / 'distributed.md').read_text(encoding='utf-8')
    ((_, code),) = BLOCK.findall(text)
    told: dict[str, Any] = {}
    exec(compile(code, 'distributed.md', 'exec'), told)
    assert all(logit.grad.abs().sum() > 0 for logit in told['logits'])


def test_the_list_of_algorithms_is_up_to_date() -> None:
    result = python(str(DOCS / 'generate.py'), '--check')
    assert result.returncode == 0, result.stderr


def test_links_lead_somewhere() -> None:
    for page in DOCS.glob('*.md'):
        for target in re.findall(r'\]\(([^)#]+)\)', page.read_text(encoding='utf-8')):
            if not target.startswith('http'):
                assert (DOCS / target).exists(), f'{page.name}: {target}'


def test_shipping() -> None:
    text = (DOCS / 'shipping.md').read_text(encoding='utf-8')
    told: dict[str, Any] = {}
    for _, code in BLOCK.findall(text):
        exec(compile(code, 'shipping.md', 'exec'), told)
    assert told['program'](torch.randn(1, 1, 16, 16)).shape == (1, 10)
