"""docs/troubleshooting.md quotes messages; each is raised here, as a user would meet it."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import NB201, options
from torch import nn
from torch.nn import functional as F

import mmrazor_mutators as mm
from mmrazor_mutators import errors
from mmrazor_mutators.costs import settle_by_clock
from mmrazor_mutators.datasets import FashionMNIST, ImageFolder
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.exporting import export
from mmrazor_mutators.engine.jobs import search as run_search
from mmrazor_mutators.engine.lock import locked
from mmrazor_mutators.host.detection import choose_host

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'troubleshooting.md'
ENTRY = re.compile(r'^\*\*(`+)(.+?)\1\*\*\s\(`(\w+)`\)', re.MULTILINE)
QUOTED = [(message, kind) for _, message, kind in ENTRY.findall(PAGE.read_text('utf-8'))]

CASES: dict[str, Callable[..., Any]] = {}
"""What raises each message, by some words of it that no other has."""


def raises(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(case: Callable[..., Any]) -> Callable[..., Any]:
        CASES[words] = case
        return case

    return register


def pattern_of(message: str) -> str:
    return '.+'.join(re.escape(part) for part in message.split('…'))


@pytest.mark.parametrize(
    ('message', 'kind'), QUOTED, ids=[message[:40] for message, _ in QUOTED]
)
def test_the_message_is_raised(
    message: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (words,) = [words for words in CASES if words in message]
    case = CASES[words]
    wanted = {'tmp_path': tmp_path, 'monkeypatch': monkeypatch}
    given = {name: wanted[name] for name in case.__code__.co_varnames if name in wanted}
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    with pytest.raises(getattr(errors, kind), match=f'(?s){pattern_of(message)}'):
        case(**given)


def test_every_case_is_on_the_page() -> None:
    assert len(QUOTED) == len(CASES) >= 40
    for words in CASES:
        assert sum(words in message for message, _ in QUOTED) == 1, words


# Small things that go wrong.


def supernet() -> nn.Module:
    return mm.NasBench201Supernet(1, 10, base_channels=4, num_cells=1)


def prepared(**kwargs: Any) -> tuple[nn.Module, Any]:
    net, mutator = supernet(), mm.DartsMutator(**kwargs)
    mutator.prepare_from_supernet(net)
    return net, mutator


def search(net: nn.Module, mutator: Any, **kwargs: Any) -> mm.BilevelSearch:
    parts = {
        'weight_optimizer': torch.optim.SGD(net.parameters(), lr=0.1),
        'arch_optimizer': torch.optim.Adam(mutator.arch_params.values(), lr=0.1),
        'loss_fn': F.cross_entropy,
        **kwargs,
    }
    return mm.BilevelSearch(net, mutator, **parts)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 1, 8, 8), torch.randint(10, (4,))


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def searchable(rules: list[dict[str, Any]], net: nn.Module | None = None) -> nn.Module:
    return mm.make_searchable(net or model(), rules, torch.randn(2, 1, 8, 8))


def config(*changes: str, **more: Any) -> Any:
    return load_config(NB201, [*options(**more)[1:], *changes])


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding='utf-8')
    return path


# Installing


@raises('mmrazor_mutators needs')
def missing_host() -> None:
    choose_host(ImportError("No module named 'mmengine'"), '2.2.0')


@raises('or newer, but got')
def old_host() -> None:
    choose_host('0.9.1', '2.2.0')


@raises('"mmrazor-mutators[…]"')
def missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    mm.write_network(nn.Linear(2, 2), tmp_path / 'net.onnx', torch.randn(2, 2))


# Configs


@raises('There is no config file')
def no_config() -> None:
    load_config('configs/darts/digit.py')


@raises('to have a `model`')
def a_base(tmp_path: Path) -> None:
    load_config(write(tmp_path / 'base.py', 'randomness = dict(seed=0)\n'))


@raises('takes no argument')
def unknown_option() -> None:
    mm.build_mutator({'type': 'GDASMutator', 'tau': 1.0})


@raises('is not a registered')
def unknown_type() -> None:
    mm.build_mutator({'type': 'DartMutator'})


@raises('is incomplete')
def incomplete() -> None:
    mm.build_architecture({'type': 'DartsSupernet', 'in_channels': 1})


@raises('to have a "type"')
def no_type() -> None:
    mm.build_mutator({'extensions': []})


@raises('Expected `…` to be …, but got')
def other_type() -> None:
    config("train_dataloader.batch_size='64'")


@raises('An option changes')
def no_entry() -> None:
    config('max_epochs=5')


@raises('of the form key=value')
def no_option() -> None:
    config('train_cfg.max_epochs')


# Preparing


@raises('has nothing to search')
def plain_network() -> None:
    mm.DartsMutator().prepare_from_supernet(model())


@raises('was not replaced by a mutable')
def run_too_early() -> None:
    supernet()(batch()[0])


@raises('is prepared already')
def prepared_twice() -> None:
    net, mutator = prepared()
    mutator.prepare_from_supernet(net)


@raises('is bound to a mutator already')
def two_mutators() -> None:
    net, _ = prepared()
    mm.DartsMutator().prepare_from_supernet(net)


@raises('was not prepared from this')
def copied_alone() -> None:
    net, mutator = prepared()
    mutator.export_subnet(copy.deepcopy(net), mutator.search_subnet())


@raises('has no supernet yet')
def asked_too_early() -> None:
    mm.DartsMutator().search_subnet()


@raises('is used twice for different things')
def one_id() -> None:
    def choice(**choices: nn.Module) -> nn.Module:
        return mm.DifferentiableOP(space_id='a', choices=choices)

    net = nn.Sequential(
        choice(tanh=nn.Tanh(), relu=nn.ReLU()), choice(tanh=nn.Tanh(), skip=nn.Identity())
    )
    mm.DartsMutator().prepare_from_supernet(net)


@raises('cannot be added up')
def other_shapes() -> None:
    choices = {'conv': nn.Conv2d(1, 1, 3), 'skip': nn.Identity()}
    net = mm.DifferentiableOP(space_id='a', choices=choices)
    mm.DartsMutator().prepare_from_supernet(net)
    net(torch.randn(1, 1, 8, 8))


@raises('`ignore_choices` … leaves')
def all_ignored() -> None:
    choices = {'tanh': nn.Tanh(), 'skip': nn.Identity()}
    net = mm.DifferentiableOP(space_id='a', choices=choices)
    mutator = mm.DartsMutator(ignore_choices=['tanh', 'skip'])
    mutator.prepare_from_supernet(net)
    mutator.search_subnet()


# Searching


@raises('but it holds none of them')
def optimizer_too_early() -> None:
    net, mutator = supernet(), mm.DartsMutator()
    early = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    mutator.prepare_from_supernet(net)
    search(net, mutator, weight_optimizer=early)


@raises('to hold every architecture parameter')
def other_logits() -> None:
    net, mutator = prepared()
    _, other = prepared()
    search(net, mutator, arch_optimizer=torch.optim.Adam(other.arch_params.values()))


@raises('to hold weights only')
def both_in_one() -> None:
    net, mutator = prepared()
    both = nn.ModuleList([net, mutator])
    search(net, mutator, weight_optimizer=torch.optim.SGD(both.parameters(), lr=0.1))


@raises('no step was taken')
def nan_in_the_batch() -> None:
    images, labels = batch()
    search(*prepared()).step((images * torch.nan, labels), batch())


@raises('a pair (inputs, targets), but got …')
def no_pair() -> None:
    search(*prepared()).step(batch()[0], batch())


@raises('moves the architecture')
def one_batch() -> None:
    search(*prepared()).step(batch())


@raises('depends neither on the weights')
def detached() -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        return F.cross_entropy(outputs.detach(), targets)

    search(*prepared(), loss_fn=loss).step(batch(), batch())


@raises('Expected an epoch from 0 to')
def one_epoch_too_far() -> None:
    search(*prepared()).on_epoch(50, 50)


@raises('has no batch')
def batch_too_large(tmp_path: Path) -> None:
    cfg = config('train_dataloader.batch_size=512', 'train_dataloader.drop_last=True')
    run_search(cfg, tmp_path)


@raises('the search has diverged')
def diverged() -> None:
    _, mutator = prepared()
    with torch.no_grad():
        next(iter(mutator.arch_params.values())).fill_(torch.nan)
    mutator.search_subnet()


@raises('A hypergradient of second order')
def unknown_optimizer() -> None:
    class Mine(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {'lr': 0.1})

        def step(self, closure: Any = None) -> None:
            """Move nothing."""

    net, mutator = prepared()
    mine = Mine(net.parameters())
    found = search(net, mutator, weight_optimizer=mine, hypergradient='exact')
    found.step(batch(), batch())


# Networks of your own


@raises('matches no module')
def no_match() -> None:
    searchable([{'match': '*.conv1', 'width': [0.5, 1.0]}])


@raises('is matched twice')
def two_matches() -> None:
    rule = {'match': '0', 'width': [0.5, 1.0]}
    searchable([rule, {**rule, 'match': nn.Conv2d}])


@raises('A rule says')
def misspelled_rule() -> None:
    searchable([{'match': '0', 'widht': [0.5, 1.0]}])


@raises('they are the output of the model')
def last_layer() -> None:
    searchable([{'match': '3', 'width': [0.5, 1.0]}])


@raises('returned something else when it was converted')
def never_the_same() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.act = 0, nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.act(x) * self.calls

    searchable([{'match': 'act', 'activation': ['relu', 'silu']}], Counting())


@raises('do not pass')
def other_inputs() -> None:
    mm.make_searchable(model(), [{'match': '0', 'width': [0.5, 1.0]}], torch.randn(2, 3, 8, 8))


# Budgets


def under(**limits: Any) -> None:
    net = searchable([{'match': '0', 'width': [0.5, 1.0]}])
    mutator = mm.DartsMutator(extensions=[mm.Budget(**limits)])
    mutator.prepare_from_supernet(net)


@raises('No network of this space')
def too_tight() -> None:
    under(params=2)


@raises('Expected the budget of')
def no_number() -> None:
    under(params='50%')


@raises('needs `profile`')
def no_profile() -> None:
    under(latency_ms=3.0)


@raises('networks that were timed takes at most')
def too_slow_for_the_clock() -> None:
    settle_by_clock(lambda factor: {'a': ['b']}, lambda _: 1.0, lambda _: 2.0, 1.0, 0.03)


# Data


@raises('Fashion-MNIST')
def no_files(tmp_path: Path) -> None:
    FashionMNIST('train', root=tmp_path)


@raises('There is no folder')
def no_folder(tmp_path: Path) -> None:
    ImageFolder(tmp_path / 'imagse')


# Work directories


@raises('There is nothing to resume')
def nothing_begun(tmp_path: Path) -> None:
    run_search(config(), tmp_path / 'new', resume=True)


@raises('was begun otherwise')
def begun_otherwise(tmp_path: Path) -> None:
    run_search(config(), tmp_path)
    run_search(config('randomness.seed=1'), tmp_path, resume=True)


@raises('is at work in')
def two_runs(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass


@raises('None of the checkpoints')
def damaged(tmp_path: Path) -> None:
    run_search(config(), tmp_path)
    for path in tmp_path.glob('*.pth'):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
    run_search(config(), tmp_path, resume=True)


# Subnets and exports


@raises('Cannot read the subnet file')
def no_subnet(tmp_path: Path) -> None:
    mm.load_subnet(tmp_path / 'subnet.yaml')


@raises('The subnet lacks the space')
def of_another_space() -> None:
    net, mutator = prepared()
    subnet = mutator.search_subnet()
    subnet.popitem()
    mutator.export_subnet(net, subnet)


@raises('there is no choice')
def edited() -> None:
    net, mutator = prepared()
    subnet = mutator.search_subnet()
    next(iter(subnet.values()))['chosen'] = ['conv_3x3']
    mutator.export_subnet(net, subnet)


@raises('There is no checkpoint')
def no_checkpoint(tmp_path: Path) -> None:
    export(config(), {}, tmp_path / 'last.pth', tmp_path / 'found.pt', None)


@raises('does not fit the network of the config')
def of_another_network(tmp_path: Path) -> None:
    _, mutator = prepared()
    torch.save({'state_dict': {'weight': torch.zeros(2)}}, tmp_path / 'last.pth')
    subnet = mutator.search_subnet()
    export(config(), subnet, tmp_path / 'last.pth', tmp_path / 'found.pt', None)


@raises('Cannot export to')
def other_ending(tmp_path: Path) -> None:
    mm.write_network(model(), tmp_path / 'found.tflite', torch.randn(2, 1, 8, 8))
