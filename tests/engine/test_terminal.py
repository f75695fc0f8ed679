"""What a terminal shows fits its width, and its time left is that of all runs."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mmrazor_mutators.engine.evolution import _parts, _shown
from mmrazor_mutators.engine.hooks import ProgressHook
from mmrazor_mutators.engine.lines import fitted, split_command, width_of
from mmrazor_mutators.search import Evolution


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width)


def lines_of(console: Console) -> list[str]:
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', console.file.getvalue())  # type: ignore[attr-defined]
    return [line for line in re.split(r'[\r\n]+', text) if line.strip()]


@pytest.mark.parametrize('width', [60, 80, 120])
def test_bar_and_lines_of_a_run_fit(width: int) -> None:
    console = terminal(width)
    hook = ProgressHook('train random 12', console=console, part=(12, 20))
    runner: Any = SimpleNamespace(
        iter=0, epoch=0, max_iters=6, max_epochs=600, model=SimpleNamespace(), call_hook=None
    )
    outputs = dict.fromkeys(('arch_loss', 'loss', 'auxiliary_loss', 'accuracy'), 1234.5678)
    hook.before_train(runner)
    task = hook._progress.tasks[0]  # type: ignore[union-attr]
    assert (task.total, task.completed) == (120, 72)
    hook.before_train_epoch(runner)
    for runner.iter in range(6):
        hook.after_train_iter(runner, runner.iter, outputs=outputs)
        hook._progress.refresh()  # type: ignore[union-attr]
        assert task.completed == 72 + runner.iter + 1
    hook.after_train_epoch(runner)
    hook.after_run(runner)
    lines = lines_of(console)
    assert max(map(len, lines)) <= width
    assert any('epoch 1/600' in line for line in lines)
    assert any('run 13/20' in line for line in lines)
    (line,) = [line for line in lines if line.startswith('train random 12   1/600')]
    assert line.endswith('s')


def test_an_evolution_says_how_far_it_is() -> None:
    costs = {'flops': 1.25e9, 'params': 3.5e6, 'something_with_a_long_name': 2.0}
    evolution = Evolution(
        lambda generator: int(generator.initial_seed()) or 1,
        lambda x, _, generator: x + 1,
        lambda x, y, _: x + y,
        lambda candidate: costs,
        candidate_pool_size=2,
        num_crossover=0,
        num_mutation=2,
        max_epoch=20,
    )
    console = terminal()
    assert _shown(evolution, 1, 50, console) == 'epoch 1/20  1 of 50'
    evolution.tell(evolution.ask()[0], 71.25)
    assert _shown(evolution, 0, 50, console) == 'epoch 2/20  0 of 50  best 71.2%'
    parts = _parts(evolution, 0)
    assert parts[:4] == ['evolution  1/20', '1 paths', 'median 71.2%', 'best 71.2%']
    line = fitted(parts, '12.5s', 80)
    assert len(line) <= 80
    assert 'flops 1.25e+09' in line
    assert 'something_with_a_long_name' not in line


def test_widths() -> None:
    assert width_of(Console(file=io.StringIO(), width=200)) == 80
    assert width_of(terminal(200)) == 200
    assert fitted(['a' * 100, 'b'], 'c', 20) == f'{"a" * 100}  c'
    assert fitted(['a', '', 'b']) == 'a  b'
    words = ['show a', '--out b']
    assert split_command('Do:', words, 18) == 'Do: show a --out b'
    assert split_command('Do:', words, 17) == 'Do: show a \\\n      --out b'
