"""What every extension promises; one that is registered joins without a new line here.

Unless its constructor needs arguments: then ``ARGUMENTS`` has an entry for it.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import skip_toys
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError, NASError

ARGUMENTS: dict[str, dict[str, Any]] = {
    'BetaDecay': {'max_weight': 2.0, 'min_weight': 0.5},
    'Budget': {'params': 0.2, 'interval': 1},
    'EntropyRegularizer': {'start': 0.1, 'end': 1.0},
    'ExpectedCost': {
        'costs': {'none': 0.0, 'skip_connect': 1.0, 'conv': 9.0, 'pool': 3.0},
        'ref': 10.0,
    },
    'HessianEarlyStopping': {'start_epoch': 0, 'window': 1, 'delta': 1},
    'OperationFreezing': {'window': 1},
    'ProgressiveShrinking': {'keep': {1: 3, 2: 2}},
    'ThresholdPruning': {'threshold': 1.0, 'temperature': 0.9, 'decay': 0.5},
}
"""What a constructor needs, or what makes it act within three epochs of two steps."""

EXTENSIONS = sorted(
    name
    for name, cls in mm.EXTENSIONS.module_dict.items()
    if not inspect.isabstract(cls) and cls.__module__.startswith('mmrazor_mutators.')
)
MAX_EPOCHS = 3


def config(name: str) -> dict[str, Any]:
    return {'type': name, **ARGUMENTS.get(name, {})}


def pair(name: str, **kwargs: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return skip_toys.prepared(config(name), **kwargs)


def run_epochs(search: Any, first: int, last: int) -> list[dict[str, Tensor]]:
    logs = []
    for epoch in range(first, last):
        search.on_epoch(epoch, MAX_EPOCHS)
        logs += [search.step(skip_toys.batch(), skip_toys.batch()) for _ in range(2)]
    return logs


def searched(name: str, epochs: int = 2, **kwargs: Any) -> Any:
    """Return a search in the midst of its epochs."""
    search = skip_toys.search_over(*pair(name, **kwargs))
    run_epochs(search, 0, epochs)
    return search


every = pytest.mark.parametrize('name', EXTENSIONS)


def test_there_are_extensions() -> None:
    assert {'BetaDecay', 'AuxiliarySkip', 'ProgressiveShrinking'} <= set(EXTENSIONS)
    assert set(ARGUMENTS) <= set(EXTENSIONS)


@every
def test_it_says_what_it_does_and_is_at_hand(name: str) -> None:
    cls = mm.EXTENSIONS.get(name)
    first = (inspect.getdoc(cls) or '').splitlines()[0]
    assert first.endswith('.')
    assert isinstance(cls.paper, str)
    assert issubclass(cls, mm.Extension)
    assert getattr(mm.extensions, name) is cls
    assert name in mm.extensions.__all__


@every
def test_a_config_is_not_changed_and_unknown_arguments_are_refused(name: str) -> None:
    cfg = config(name)
    before = copy.deepcopy(cfg)
    mutators = [mm.DartsMutator(extensions=[cfg]) for _ in range(2)]
    assert cfg == before
    assert mutators[0].extensions[0] is not mutators[1].extensions[0]
    assert type(mutators[0].extensions[0]).__name__ == name
    with pytest.raises(ConfigError, match=f"{name} takes no argument 'colour'"):
        mm.DartsMutator(extensions=[{**cfg, 'colour': 'red'}])


@every
@pytest.mark.parametrize('is_prepared', [False, True])
def test_epochs(name: str, is_prepared: bool) -> None:
    mutator = pair(name)[1] if is_prepared else mm.DartsMutator(extensions=[config(name)])
    (extension,) = mutator.extensions
    for epoch in (0, 24, 49):
        mutator.on_epoch(epoch, 50)
        assert (extension.epoch, extension.max_epochs) == (epoch, 50)
    mutator.on_epoch(0, 1)
    for epoch in (-1, 50):
        with pytest.raises(InputError, match=f'from 0 to 49.*but got {epoch}'):
            extension.on_epoch(epoch, 50)


@every
def test_penalties_are_scalars_with_a_gradient(name: str) -> None:
    supernet, mutator = pair(name)
    supernet(skip_toys.batch()[0])
    felt = []
    for epoch in range(MAX_EPOCHS):
        mutator.on_epoch(epoch, MAX_EPOCHS)
        penalty = mutator.extensions[0].penalty(mutator)
        if penalty is not None:
            assert penalty.shape == ()
            grads = torch.autograd.grad(penalty, list(mutator.arch_params.values()))
            assert all(torch.isfinite(grad).all() for grad in grads)
            felt.append(any(grad.any() for grad in grads))
        loss = torch.tensor(2.0, dtype=torch.float64)
        assert mutator.arch_objective(loss).shape == ()
    # A budget comes down from what is expected at first, where nothing is above it.
    assert all(felt[1:])
    assert name == 'Budget' or all(felt[:1])


@every
def test_a_search_goes_well_to_its_end(name: str) -> None:
    search = skip_toys.search_over(*pair(name))
    logs = run_epochs(search, 0, MAX_EPOCHS)
    assert all(torch.isfinite(value) for entry in logs for value in entry.values())
    parameters = toys.logits_and_weights(search.supernet, search.mutator)
    assert all(torch.isfinite(p).all() for p in parameters)
    assert all(p.requires_grad for p in search.mutator.arch_params.values())
    batches = [skip_toys.batch()]
    search.finish(batches, batches)
    subnet = search.mutator.search_subnet()
    net = search.mutator.export_subnet(search.supernet, subnet)
    assert torch.isfinite(net(batches[0][0])).all()


def hooks_of(supernet: Any) -> list[Any]:
    kinds = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
    return [[len(getattr(module, kind)) for kind in kinds] for module in supernet.modules()]


@every
@pytest.mark.parametrize('epochs', [0, 3])
def test_release_restores_the_supernet(name: str, epochs: int) -> None:
    supernet = skip_toys.SkipSupernet()
    before = str(supernet), list(supernet.state_dict()), hooks_of(supernet)
    attributes = [list(module.__dict__) for module in supernet.modules()]
    parameters = [id(p) for p in supernet.parameters()]
    supernet, mutator = toys.prepared(supernet=supernet, extensions=[config(name)])
    search = skip_toys.search_over(supernet, mutator)
    run_epochs(search, 0, epochs)
    mutator.release(supernet)
    assert (str(supernet), list(supernet.state_dict()), hooks_of(supernet)) == before
    assert [list(module.__dict__) for module in supernet.modules()] == attributes
    assert [id(p) for p in supernet.parameters()] == parameters
    assert all(p.requires_grad for p in supernet.parameters())
    assert all(
        m.choice_mask.all() for m in supernet.modules() if isinstance(m, mm.MutableModule)
    )
    mutator.prepare_from_supernet(supernet)
    assert torch.isfinite(supernet(skip_toys.batch()[0])).all()


@every
@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(name: str, duplicate: Any) -> None:
    search = searched(name)
    ours = search.supernet, search.mutator
    twins = duplicate(ours)
    x = skip_toys.batch()[0]
    out = toys.run(ours[0], x)
    assert_close(toys.run(twins[0], x), out, rtol=0, atol=0)
    assert twins[1].extensions[0] is not ours[1].extensions[0]
    assert twins[1].extensions[0].epoch == 1
    run_epochs(skip_toys.search_over(*twins), 2, 3)
    twins[1].release(twins[0])
    ours[0].eval(), twins[0].eval()
    assert ours[1].extensions[0].epoch == 1
    assert_close(toys.run(ours[0].train(), x), out, rtol=0, atol=0)


@every
def test_a_search_that_was_saved_goes_on_bit_for_bit(name: str) -> None:
    search = searched(name)
    state = pickle.loads(pickle.dumps(search.state_dict()))
    expected = run_epochs(search, 2, 3)
    other = skip_toys.search_over(*pair(name))
    other.load_state_dict(state)
    came = run_epochs(other, 2, 3)
    assert_close(came, expected, rtol=0, atol=0)
    assert_close(
        dict(other.supernet.state_dict()), dict(search.supernet.state_dict()), rtol=0, atol=0
    )
    assert other.mutator.search_subnet() == search.mutator.search_subnet()
    assert other.stopped == search.stopped


@every
def test_the_network_found_is_that_of_a_mutator_without_it(name: str) -> None:
    search = searched(name, epochs=3)
    supernet, mutator = search.supernet, search.mutator
    subnet = mutator.random_subnet(1)
    before = str(supernet), hooks_of(supernet)
    net = mutator.export_subnet(supernet, subnet)
    assert (str(supernet), hooks_of(supernet)) == before
    assert not [m for m in net.modules() if isinstance(m, (mm.MutableModule, mm.Extension))]
    assert not any(any(kinds) for kinds in hooks_of(net))
    plain = skip_toys.SkipSupernet().double()
    weights = {k: v for k, v in supernet.state_dict().items() if k in plain.state_dict()}
    plain.load_state_dict(weights)
    bare = mm.DartsMutator()
    bare.prepare_from_supernet(plain)
    expected = bare.export_subnet(plain, subnet)
    assert str(net) == str(expected)
    assert list(net.state_dict()) == list(expected.state_dict())
    x = skip_toys.batch()[0]
    mutator.deploy_subnet(supernet, subnet)
    assert not [m for m in supernet.modules() if 'auxiliary' in type(m).__name__.lower()]
    for mode in (True, False):
        out = expected.train(mode)(x)  # Its weights lie otherwise in memory.
        assert_close(net.train(mode)(x), out)
        assert_close(supernet.train(mode)(x), out)


@every
@pytest.mark.parametrize('mutator', ['GDASMutator', 'SNASMutator', 'FairDartsMutator'])
def test_other_mutators_are_refused_or_searched_with(name: str, mutator: str) -> None:
    supernet = skip_toys.SkipSupernet().double()
    before = str(supernet), hooks_of(supernet)
    built = toys.build_mutator(mutator, extensions=[config(name)])
    try:
        built.prepare_from_supernet(supernet)
    except NASError:
        assert (str(supernet), hooks_of(supernet)) == before
        mm.DartsMutator().prepare_from_supernet(supernet)
        return
    built.double()
    logs = run_epochs(skip_toys.search_over(supernet, built), 0, MAX_EPOCHS)
    assert all(torch.isfinite(value) for entry in logs for value in entry.values())
    built.export_subnet(supernet, built.search_subnet())


def test_extensions_work_together() -> None:
    names = ('AuxiliarySkip', 'BetaDecay', 'EntropyRegularizer', 'ProgressiveShrinking')
    names += ('SkipDropout', 'SkipLimit', 'L1Regularizer')
    for order in (1, -1):
        parts = [config(name) for name in names][::order]
        supernet, mutator = skip_toys.prepared(*parts)
        before = str(supernet)
        run_epochs(skip_toys.search_over(supernet, mutator), 0, MAX_EPOCHS)
        loss = torch.tensor(0.0, dtype=torch.float64)
        each = [extension.penalty(mutator) for extension in mutator.extensions]
        assert_close(mutator.arch_objective(loss), sum(p for p in each if p is not None) + loss)
        net = mutator.export_subnet(supernet, mutator.search_subnet())
        assert not any(any(kinds) for kinds in hooks_of(net))
        assert str(supernet) == before
        mutator.release(supernet)
        assert not any(any(kinds) for kinds in hooks_of(supernet))


@pytest.mark.parametrize(
    ('extensions', 'text'),
    [
        ('x', "list of configs, but got 'x'"),
        ({'type': 'BetaDecay'}, r"list of configs, but got \{'type': 'BetaDecay'\}"),
        (None, 'list of configs, but got None'),
        (3, 'list of configs, but got 3'),
        (['BetaDecay'], 'an extension or the config of one, but got str'),
        ([nn.Identity()], 'an extension or the config of one, but got Identity'),
        ([{'type': nn.Identity}], 'an extension or the config of one, but got Identity'),
        ([{'type': 'BetaDcay'}], "'BetaDcay' is not a registered extension.*'BetaDecay'"),
        ([{'max_weight': 3.0}], 'type'),
    ],
)
def test_wrong_extensions(extensions: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        mm.DartsMutator(extensions=extensions)


def test_ready_extensions_and_iterators_are_accepted() -> None:
    ready = mm.extensions.BetaDecay()
    mutator = mm.DartsMutator(extensions=iter([ready, {'type': 'L2Regularizer'}]))
    assert mutator.extensions[0] is ready
    assert len(mutator.extensions) == 2
    assert len(mm.DartsMutator(extensions=()).extensions) == 0


class Witness(mm.Extension):
    """Notes what it is asked to do."""

    def __init__(self, name: str, calls: list[Any]) -> None:
        super().__init__()
        self.name, self.calls = name, calls

    def check(self, mutator: Any) -> None:
        assert mutator.search_spaces
        self.calls.append(('check', self.name))

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        assert supernet.first.forward.keywords['arch_param'] is mutator.arch_params['normal_s']
        self.calls.append(('attach', self.name))

    def detach(self, mutator: Any) -> None:
        self.calls.append(('detach', self.name))

    def begin_epoch(self, mutator: Any) -> None:
        self.calls.append(('begin', self.name, self.epoch, mutator.epoch))

    def arch_objective(self, mutator: Any, task_loss: Tensor) -> Tensor:
        return 10 * task_loss + (1 if self.name == 'a' else 2)

    def penalty(self, mutator: Any) -> Tensor | None:
        return torch.tensor(0.25) if self.name == 'a' else None


def test_moments_come_in_their_order() -> None:
    calls: list[Any] = []
    supernet = skip_toys.SkipSupernet()
    mutator = mm.DartsMutator(extensions=[Witness('a', calls), Witness('b', calls)])
    mutator.prepare_from_supernet(supernet)
    mutator.on_epoch(2, 5)
    mutator.set_extra_state(mutator.get_extra_state())
    mutator.release(supernet)
    assert calls == [
        *(('check', 'a'), ('check', 'b'), ('attach', 'a'), ('attach', 'b')),
        *(('begin', 'a', 2, 2), ('begin', 'b', 2, 2)),  # Not once more when a state is loaded.
        *(('detach', 'b'), ('detach', 'a')),
    ]
    # One after the other, and then all penalties: ((3 * 10 + 1) * 10 + 2) + 0.25.
    assert mutator.arch_objective(torch.tensor(3.0)) == 312.25
    assert mutator.regularization() == 0.25


@pytest.mark.parametrize('moment', ['check', 'attach'])
def test_an_extension_that_fails_leaves_nothing_behind(moment: str) -> None:
    class Failing(mm.Extension):
        def check(self, mutator: Any) -> None:
            if moment == 'check':
                raise ConfigError('not with me')

        def attach(self, mutator: Any, supernet: nn.Module) -> None:
            raise ConfigError('not with me')

    supernet = skip_toys.SkipSupernet()
    before = str(supernet), hooks_of(supernet), [list(m.__dict__) for m in supernet.modules()]
    parts = [config('AuxiliarySkip'), config('SkipDropout'), Failing()]
    mutator = mm.DartsMutator(extensions=parts)
    with pytest.raises(ConfigError, match='not with me'):
        mutator.prepare_from_supernet(supernet)
    after = str(supernet), hooks_of(supernet), [list(m.__dict__) for m in supernet.modules()]
    assert after == before
    assert not mutator.search_spaces
    mm.DartsMutator(extensions=parts[:2]).prepare_from_supernet(supernet)


def test_one_that_stops_stops_the_search() -> None:
    class Stopping(mm.Extension):
        def on_epoch(self, epoch: int, max_epochs: int) -> None:
            super().on_epoch(epoch, max_epochs)
            self.stopped = epoch >= 1

    search = skip_toys.search_over(*skip_toys.prepared(mm.Extension(), Stopping()))
    for epoch, stopped in ((0, False), (1, True)):
        search.on_epoch(epoch, 3)
        assert search.stopped == search.mutator.stopped == stopped
        logs = search.step(skip_toys.batch(), skip_toys.batch())
        assert ('arch_loss' in logs) != stopped


def test_vetoes_of_all_are_respected_until_nobody_objects() -> None:
    class Veto(mm.Extension):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def veto(self, mutator: Any, subnet: Any) -> Any:
            yield ('nowhere', self.name)
            for space_id, choice in subnet.items():
                if self.name in choice['chosen']:
                    yield space_id, self.name

    _, mutator = skip_toys.prepared(Veto('conv'), Veto('pool'), Veto('p1'))
    subnet = mutator.search_subnet()
    assert subnet['normal']['chosen'] in (['p0', 'p2'], ['p2', 'p0'])
    ops = {s: c['chosen'] for s, c in subnet.items() if s != 'normal'}
    assert all(chosen == ['skip_connect'] for chosen in ops.values())
    assert 'normal_p1' not in ops
