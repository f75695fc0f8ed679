"""The pages in docs/: blocks run, commands parse, what is generated is up to date."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from processes import python

import mmrazor_mutators as mm
from mmrazor_mutators.arguments import build_parser
from mmrazor_mutators.engine import SearchMonitorHook
from mmrazor_mutators.searchable.rules import KINDS
from mmrazor_mutators.sharing import run_candidate

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
SKIP = re.compile(r'<!-- skip: .{10,} -->\n\Z')
SHELLS = ('bash', 'console', 'sh', 'shell')


class Block(NamedTuple):
    """A fenced block: its language and text, what stands before it, and where."""

    language: str
    text: str
    before: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding='utf-8')
    found, end = [], 0
    for match in FENCE.finditer(text):
        line = text[: match.start()].count('\n') + 2
        found.append(Block(match[1], match[2], text[end : match.start()], line))
        end = match.end()
    return found


def pages_with(*languages: str) -> list[str]:
    return [
        page.relative_to(ROOT).as_posix()
        for page in sorted([*DOCS.glob('*.md'), *ROOT.glob('*.md')])
        if any(block.language in languages for block in blocks_of(page))
    ]


def run_page(page: Path) -> dict[str, Any]:
    """Run a page from top to bottom; a block of text right after one is what it prints."""
    told: dict[str, Any] = {'__name__': '__main__'}
    printed: str | None = None
    for block in blocks_of(page):
        if block.language == 'text' and printed is not None and not block.before.strip():
            assert printed == block.text, f'{page.name}, line {block.line}'
        printed = None
        if block.language == 'python' and not SKIP.search(block.before):
            output = StringIO()
            # Line numbers of a failure are those of the page.
            code = compile('\n' * (block.line - 1) + block.text, str(page), 'exec')
            with redirect_stdout(output):
                exec(code, told)
            printed = output.getvalue()
    return told


@pytest.fixture
def registries_kept() -> Iterator[None]:
    registries = (mm.MUTATORS, mm.EXTENSIONS, mm.MUTABLES, mm.OPS, mm.ARCHITECTURES, mm.MODELS)
    known = [dict(registry.module_dict) for registry in registries]
    yield
    for registry, parts in zip(registries, known, strict=True):
        registry.module_dict.clear()
        registry.module_dict.update(parts)


def check_your_own_algorithm(told: dict[str, Any]) -> None:
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


def check_any_network(told: dict[str, Any]) -> None:
    assert told['small'](told['images']).shape == (16, 10)


def check_configuration(told: dict[str, Any]) -> None:
    from mmrazor_mutators.engine.schema import check_entries

    config = {key: value for key, value in told.items() if key != '__builtins__'}
    check_entries(config)
    model = mm.build_algorithm(config['model'])
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def check_distributed(told: dict[str, Any]) -> None:
    assert all(logit.grad.abs().sum() > 0 for logit in told['logits'])


def check_shipping(told: dict[str, Any]) -> None:
    assert told['program'](torch.randn(1, 1, 16, 16)).shape == (1, 10)


def check_under_a_budget(told: dict[str, Any]) -> None:
    size = sum(p.numel() for p in told['small'].parameters())
    assert 0.97 * told['limits']['params'] <= size <= told['limits']['params']
    assert told['small'](told['images']).shape == (32, 10)


def check_watching(told: dict[str, Any]) -> None:
    assert told['history'].epochs['epoch'].tolist() == [0, 1, 2, 3]
    assert len(told['entropies']) == 4
    assert {'supernet_accuracy', 'network_accuracy', 'temperature', 'loss'} <= {
        *told['history'].epochs
    }
    (hook,) = told['custom_hooks']
    assert hook.pop('type') == 'SearchMonitorHook'
    assert SearchMonitorHook(**hook).batches == 32


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    'any_network': check_any_network,
    'configuration': check_configuration,
    'distributed': check_distributed,
    'shipping': check_shipping,
    'under_a_budget': check_under_a_budget,
    'watching': check_watching,
    'your_own_algorithm': check_your_own_algorithm,
}
"""What has to be true of the names that a page leaves behind."""


@pytest.mark.usefixtures('registries_kept')
@pytest.mark.parametrize('name', [p for p in pages_with('python') if p.startswith('docs/')])
def test_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    told = run_page(ROOT / name)
    CHECKS.get(Path(name).stem, lambda told: None)(told)


def test_every_check_has_its_page() -> None:
    assert {f'docs/{name}.md' for name in CHECKS} <= {*pages_with('python')}


def test_a_mutator_of_ones_own_is_short() -> None:
    block = blocks_of(DOCS / 'your_own_algorithm.md')[0]
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 15


def test_any_network_lists_every_kind_of_rule() -> None:
    text = (DOCS / 'any_network.md').read_text(encoding='utf-8')
    assert {*re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE)} == {*KINDS}


def test_only_a_skip_with_a_reason_skips(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('<!-- skip: it names a file of yours -->\n```python\n1 / 0\n```\n')
    run_page(page)
    page.write_text('<!-- skip -->\n```python\n1 / 0\n```\n')
    with pytest.raises(ZeroDivisionError):
        run_page(page)


def test_a_block_of_text_is_what_the_one_before_prints(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('```python\nprint(2)\n```\n\n```text\n2\n```\n')
    run_page(page)
    page.write_text('```python\nprint(2)\n```\n\n```text\n3\n```\n')
    with pytest.raises(AssertionError, match=r'page\.md, line 6'):
        run_page(page)


def commands_of(page: Path) -> list[str]:
    """Return the commands of all shell blocks, those over several lines joined."""
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language in SHELLS:
            lines += block.text.replace('\\\n', ' ').splitlines()
    return [line.removeprefix('$ ') for line in lines if line.strip()]


def check_command(command: str) -> None:
    """Refuse a command that does not parse, or that names a file that is not there."""
    words = shlex.split(command, comments=True)
    if 'mmrazor-mutators' in words[:1]:
        ours = words[1:]
    elif 'mmrazor_mutators' in words and '-m' in words:
        ours = words[words.index('mmrazor_mutators') + 1 :]
    else:
        ours = []
    if ours and '--help' not in ours:
        build_parser(defaultdict(lambda: lambda args: None)).parse_args(ours)
    if words[:1] == ['make']:
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        named = [word for word in words[1:] if '=' not in word and word[0] != '-']
        assert {*named} <= {*targets}, command
    folders = ('benchmarks/', 'configs/', 'docs/', 'examples/', 'tests/')
    for word in words if ours[:1] != ['migrate'] else ():
        if word.startswith(folders):
            assert (ROOT / word).exists(), f'{command}: {word}'


@pytest.mark.parametrize('name', pages_with(*SHELLS))
def test_commands_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands_of(ROOT / name):
        try:
            check_command(command)
        except SystemExit:
            pytest.fail(f'{name}: {command}: {capsys.readouterr().err}')


@pytest.mark.parametrize(
    'command',
    [
        'mmrazor-mutators serch configs/darts/digits.py',
        'python -m mmrazor_mutators search',
        'torchrun --nproc_per_node 2 -m mmrazor_mutators search CONFIG --laucher pytorch',
    ],
)
def test_a_command_that_does_not_parse_is_found(command: str) -> None:
    with pytest.raises(SystemExit):
        check_command(command)


def test_a_command_with_a_file_that_is_not_there_is_found() -> None:
    for command in ('make tets', 'mmrazor-mutators search configs/darts/digit.py'):
        with pytest.raises(AssertionError):
            check_command(command)


def test_what_is_generated_is_up_to_date() -> None:
    result = python(str(DOCS / 'generate.py'), '--check')
    assert result.returncode == 0, result.stderr


def test_links_lead_somewhere() -> None:
    for page in DOCS.glob('*.md'):
        for target in re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text(encoding='utf-8')):
            if not target.startswith('http'):
                assert (DOCS / target).exists(), f'{page.name}: {target}'
