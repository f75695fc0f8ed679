"""The hooks that docs/your_own_algorithm.md lists: all of them, called when it says so."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import mmrazor_mutators as mm

DOCS = Path(__file__).resolve().parents[1] / 'docs'

# Methods that are there to be called, not to be overridden, or to be asked for in a loop.
CALLED = {
    'best_subnet',
    'deploy_subnet',
    'drop_choices',
    'export_subnet',
    'kept_arch_params',
    'kept_choices',
    'kept_indices',
    'mixing',
    'mixtures',
    'prepare_from_supernet',
    'random_subnet',
    'relax_spaces',
    'release',
    'scores',
    'stopped',
    'summary',
}


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    from pages import hooks

    return hooks


def recording(base: type, names: Any, calls: list[str], prefix: str) -> Any:
    """Return a subclass whose methods of these names note that they were called."""

    def noted(name: str) -> Any:
        method = getattr(base, name)

        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f'{prefix}.{name}')
            return method(self, *args, **kwargs)

        return hook

    return type(f'Recording{base.__name__}', (base,), {name: noted(name) for name in names})


class Run:
    """A small search, phase by phase; each returns the hooks called in it, once each."""

    def __init__(self, hooks: ModuleType) -> None:
        torch.manual_seed(0)
        self.calls: list[str] = []
        extension = recording(mm.Extension, hooks.EXTENSION, self.calls, 'extension')
        mutator = recording(mm.DartsMutator, hooks.MUTATOR, self.calls, 'mutator')
        self.mutator = mutator(extensions=[extension()])
        self.supernet = mm.DartsSupernet(1, 10, base_channels=2, num_layers=1, num_nodes=2)
        self.batch = torch.randn(4, 1, 8, 8), torch.randint(10, (4,))

    def phases(self) -> Iterator[tuple[str, list[str]]]:
        steps = (self.prepare, self.epoch, self.step, self.finish)
        for phase in (*steps, self.read, self.watch, self.export, self.retrain):
            with self.noted() as found:
                phase()
            yield phase.__name__, found
        with self.noted() as found:
            state = self.mutator.state_dict()
        yield 'save', found
        with self.noted() as found:
            self.mutator.load_state_dict(state)
        yield 'restore', found
        with self.noted() as found:
            self.mutator.release(self.supernet)
        yield 'release', found

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        self.calls.clear()
        found: list[str] = []
        yield found
        found += dict.fromkeys(self.calls)

    def prepare(self) -> None:
        self.mutator.prepare_from_supernet(self.supernet)

    def epoch(self) -> None:
        self.search = mm.BilevelSearch(
            self.supernet,
            self.mutator,
            F.cross_entropy,
            torch.optim.SGD(self.supernet.parameters(), lr=0.1),
            torch.optim.Adam(self.mutator.arch_params.values(), lr=0.1),
        )
        self.search.on_epoch(0, 2)

    def step(self) -> None:
        self.search.step(self.batch, self.batch)

    def finish(self) -> None:
        self.search.finish([self.batch], [self.batch])

    def read(self) -> None:
        self.subnet = self.mutator.search_subnet()

    def watch(self) -> None:
        mm.SearchMonitor(self.supernet, self.mutator).record(0)

    def export(self) -> None:
        self.mutator.export_subnet(self.supernet, self.subnet)

    def retrain(self) -> None:
        self.mutator.for_retraining()


def test_hooks_are_called_when_the_page_says_so(hooks: ModuleType) -> None:
    tables = {'mutator': hooks.MUTATOR, 'extension': hooks.EXTENSION}
    for phase, found in Run(hooks).phases():
        for owner, listed in tables.items():
            expected = [
                f'{owner}.{name}' for name, (in_, _) in listed.items() if phase in in_.split()
            ]
            called = {call for call in found if call.startswith(owner)}
            # A monitor looks at the subnet as well.
            assert called >= {*expected} if phase == 'watch' else called == {*expected}, phase


def test_hooks_are_listed_in_the_order_of_their_calls(hooks: ModuleType) -> None:
    order: dict[str, None] = {}
    for _, found in Run(hooks).phases():
        order.update(dict.fromkeys(found))
    extension = [call.split('.')[1] for call in order if call.startswith('extension')]
    assert extension == [*hooks.EXTENSION]
    mutator = [call.split('.')[1] for call in order if call.startswith('mutator')]
    within = [name for name in hooks.MUTATOR if name != 'for_retraining']
    assert [name for name in mutator if name != 'for_retraining'] == within


def test_every_hook_is_listed(hooks: ModuleType) -> None:
    bases = (mm.Extension, mm.Extension.__mro__[1])
    public = {n for b in bases for n, v in vars(b).items() if inspect.isfunction(v)}
    state = {'get_extra_state', 'set_extra_state'}
    assert {n for n in public if n[0] != '_'} == {*hooks.EXTENSION} | state
    ours = [
        b for b in mm.DartsMutator.__mro__ if b.__module__.startswith('mmrazor_mutators.mut')
    ]
    public = {n for b in ours for n, v in vars(b).items() if inspect.isfunction(v)}
    assert {n for n in public if n[0] != '_'} - CALLED == {*hooks.MUTATOR}


def test_signatures_are_those_of_the_classes(hooks: ModuleType) -> None:
    shown = hooks.signature_of(mm.Extension, 'arch_objective')
    assert shown == 'arch_objective(mutator, task_loss: Tensor) -> Tensor'
    assert hooks.signature_of(mm.DartsMutator, 'after_arch_step') == 'after_arch_step()'
