"""How the package is used on mmcv 1.x; skipped on the other host."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators import cli, host
from mmrazor_mutators.errors import ConfigError, HostError, UnknownTypeError

if host.NAME != 'mmcv1':
    pytest.skip('the host is not mmcv 1.x', allow_module_level=True)

import mmcv
from mmcv.cnn import MODELS
from mmcv.runner import BaseModule
from mmcv.utils import Registry

import mmrazor_mutators.registry as registries
from mmrazor_mutators.host.models import BaseDataPreprocessor

BACKBONE = {'type': 'mmrazor_mutators.DartsBackbone', 'in_channels': 3, 'base_channels': 8}
SUPERNET = {
    'type': 'NasBench201Supernet',
    'in_channels': 3,
    'num_classes': 4,
    'base_channels': 4,
    'num_cells': 1,
}


@pytest.fixture
def child() -> Any:
    """A registry as other packages of that time have one; gone after the test."""
    made = []

    def make(scope: str) -> Registry:
        made.append(scope)
        return Registry('models', parent=MODELS, scope=scope)

    yield make
    for scope in made:
        MODELS.children.pop(scope, None)


@pytest.fixture
def registered() -> Any:
    """Register in the host's own registry for the length of a test."""
    before = dict(MODELS.module_dict)
    yield MODELS.register_module
    MODELS.module_dict.clear()
    MODELS.module_dict.update(before)


def test_the_host() -> None:
    assert {'mmcv': mmcv.__version__} == host.VERSIONS
    assert issubclass(mm.BaseMutator, BaseModule)
    assert issubclass(mm.Darts, BaseModule)
    assert mm.MODELS.parent is MODELS
    assert MODELS.children['mmrazor_mutators'] is mm.MODELS
    assert host.DropPath is mmcv.cnn.bricks.DropPath


def test_importing_warns_of_nothing() -> None:
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'error',
            '-c',
            'import mmrazor_mutators, sys; print(sys.modules)',
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert "'mmengine" not in done.stdout
    assert 'mmrazor_mutators.engine' not in done.stdout


def test_our_parts_are_found_from_the_host_and_from_its_other_children(child: Any) -> None:
    for registry in (MODELS, child('likecls'), mm.MODELS):
        assert registry.get('mmrazor_mutators.DartsBackbone') is mm.DartsBackbone
        built = registry.build({'type': 'mmrazor_mutators.DartsMutator'})
        assert type(built) is mm.DartsMutator
        assert type(registry.build(BACKBONE)) is mm.DartsBackbone
    assert 'DartsBackbone' not in MODELS
    with pytest.raises(UnknownTypeError, match=r"'DartsMutater'.*did you mean 'DartsMutator'"):
        MODELS.build({'type': 'mmrazor_mutators.DartsMutater'})


def test_optimizers_are_found_as_well() -> None:
    from mmcv.runner import build_optimizer

    model = nn.ParameterList([torch.full((4,), 0.25)])
    cfg = {'type': 'mmrazor_mutators.ExponentiatedGradient', 'lr': 0.1}
    built = build_optimizer(model, cfg)
    assert type(built) is mm.ExponentiatedGradient
    assert registries.OPTIMIZERS.get('SGD') is torch.optim.SGD


@pytest.mark.parametrize(
    ('key', 'part'),
    [
        ('ReLU', nn.ReLU),
        ('Conv2d', nn.Conv2d),
        ('BN', nn.BatchNorm2d),
        ('mmcv.ReLU', nn.ReLU),
        ('DropPath', host.DropPath),
        ('torch.nn.GELU', nn.GELU),
        ('mmrazor_mutators.mutators.GDASMutator', mm.GDASMutator),
    ],
)
def test_layers_and_paths(key: str, part: type) -> None:
    assert mm.MODELS.get(key) is part
    assert key in mm.MODELS


def test_registering() -> None:
    registry = host.Registry('part')

    @registry.register_module()
    class First:
        pass

    @registry.register_module(['Second', 'Third'])
    class Other:
        pass

    assert registry.module_dict == {'First': First, 'Second': Other, 'Third': Other}
    assert registry.register_module('First', force=True, module=Other) is Other
    assert registry.get('First') is Other
    with pytest.raises(KeyError, match='First is already registered in part'):
        registry.register_module(module=First)
    for wrong in (First, 3, ['a', 3]):
        with pytest.raises(
            ConfigError, match=r'`name` to be None.* but got .*; a deco'
        ) as caught:
            registry.register_module(wrong)
        assert repr(wrong) in str(caught.value)


def test_what_registers_is_imported_once(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / 'registering.py').write_text("import sys\nsys.imports_of_parts.append('it')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'imports_of_parts', [], raising=False)
    registry = host.Registry('part', locations=['registering'])
    assert sys.imports_of_parts == []
    for _ in range(2):
        registry.import_from_location()
        sys.modules.pop('registering', None)
    assert sys.imports_of_parts == ['it']


@pytest.mark.parametrize(
    'key', ['ReLu', 'mmcv.ReLu', 'likecls.ReLU', 'os.path', 'torch.nn', '.']
)
def test_unknown_names(key: str) -> None:
    assert key not in mm.MODELS
    with pytest.raises(UnknownTypeError, match=r"^'.*' is not a registered model; .*Known: "):
        mm.MODELS.get(key)


def test_other_packages_are_imported_when_they_are_named(
    tmp_path: Any, monkeypatch: Any, child: Any
) -> None:
    models = """
        from mmcv.cnn import MODELS as PARENT
        from mmcv.utils import Registry
        from torch import nn

        MODELS = Registry('models', parent=PARENT)

        @MODELS.register_module()
        class Net(nn.Linear):
            pass
    """
    for name, text in [('likecls', models), ('likedet', 'import likeops')]:
        (tmp_path / name / 'models').mkdir(parents=True)
        (tmp_path / name / '__init__.py').touch()
        (tmp_path / name / 'models' / '__init__.py').write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        cfg = {'type': 'likecls.Net', 'in_features': 2, 'out_features': 3}
        for build in (mm.MODELS.build, mm.build_op, mm.build_architecture):
            net = build(cfg)
            assert (type(net).__name__, net.out_features) == ('Net', 3)
        with pytest.raises(UnknownTypeError, match=r"'likecls\.Nets' is not a registered op"):
            mm.build_op({'type': 'likecls.Nets'})
        with pytest.raises(UnknownTypeError, match=r"'likedet\.Net' is not") as caught:
            mm.MODELS.get('likedet.Net')
        assert "No module named 'likeops'" in str(caught.value.__cause__)
    finally:
        MODELS.children.pop('likecls', None)


def test_mmrazor_itself_may_be_there(child: Any) -> None:
    theirs = child('mmrazor')

    @theirs.register_module()
    class DartsMutator(nn.Identity):
        """One of the same name."""

    assert MODELS.get('mmrazor.DartsMutator') is DartsMutator
    assert mm.MODELS.get('mmrazor.DartsMutator') is DartsMutator
    assert theirs.get('mmrazor_mutators.DartsMutator') is mm.DartsMutator
    assert mm.MODELS.get('DartsMutator') is mm.DartsMutator
    assert type(mm.build_mutator({'type': 'mmrazor.DartsMutator'})) is DartsMutator


def test_a_mutator_of_the_old_kind_in_an_algorithm_of_the_old_kind(registered: Any) -> None:
    @registered()
    class SigmoidMutator(mm.DartsMutator):
        def relax(self, arch_param: Tensor) -> Tensor:
            return arch_param.sigmoid()

    @registered()
    class Algorithm(BaseModule):
        def __init__(self, architecture: Any, mutator: Any, init_cfg: Any = None) -> None:
            super().__init__(init_cfg)
            self.architecture = MODELS.build(architecture)
            self.mutator = MODELS.build(mutator)
            self.mutator.prepare_from_supernet(self.architecture)

        def forward(self, img: Tensor) -> Tensor:
            return self.architecture(img)

    cfg = mmcv.ConfigDict(
        type='Algorithm',
        architecture={**SUPERNET, 'type': 'mmrazor_mutators.NasBench201Supernet'},
        mutator={'type': 'SigmoidMutator', 'ignore_choices': ('none',)},
    )
    assert type(mm.build_mutator({'type': 'mmcv.SigmoidMutator'})) is SigmoidMutator
    algorithm = MODELS.build(cfg)
    logits = list(algorithm.mutator.parameters())
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for parameter in logits:
            parameter.normal_()
    (seen,) = {len(p) for p in logits}
    assert seen == 5
    algorithm(x).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in logits)
    subnet = algorithm.mutator.search_subnet()
    for (space_id, chosen), parameter in zip(subnet.items(), logits, strict=True):
        space = algorithm.mutator.search_spaces[space_id]
        names = list(space['choice_names'])
        best = max(
            (i for i, name in enumerate(names) if name != 'none'),
            key=parameter.tolist().__getitem__,
        )
        assert chosen['chosen'] == [names[best]]
    net = algorithm.mutator.export_subnet(algorithm.architecture, subnet)
    assert sum(p.numel() for p in net.parameters()) < sum(
        p.numel() for p in algorithm.architecture.parameters()
    )


def test_configs_from_a_file_of_the_host(tmp_path: Any) -> None:
    file = tmp_path / 'config.py'
    file.write_text("mutator = dict(type='mmrazor_mutators.GDASMutator', tau_max=5.0)\n")
    cfg = mmcv.Config.fromfile(str(file))
    mutator = mm.build_mutator(cfg.mutator)
    assert type(mutator) is MODELS.build(cfg.mutator).__class__ is mm.GDASMutator


def test_weights_are_initialised_by_the_host() -> None:
    init = {'type': 'Constant', 'layer': 'Conv2d', 'val': 0.5}
    backbone = mm.DartsBackbone(in_channels=3, base_channels=8, init_cfg=init)
    backbone.init_weights()
    weights = [m.weight for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert weights
    assert all((w == 0.5).all() for w in weights)


class Scaling(BaseDataPreprocessor):
    """Halves the images."""

    def forward(self, data: Any, training: bool = False) -> Any:
        inputs, targets = self.cast_data(data)
        return inputs / 2, targets


def darts(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    mutator = {'type': 'DartsMutator'}
    cfg = {'type': 'Darts', 'architecture': SUPERNET, 'mutator': mutator, **kwargs}
    return mm.build_algorithm(cfg).eval()


def test_darts_is_a_model() -> None:
    model = darts()
    inputs, targets = torch.randn(2, 3, 8, 8), torch.tensor([3, 1])
    logits = model(inputs)
    losses = model(inputs, targets, mode='loss')
    total, logs = model.parse_losses(losses)
    torch.testing.assert_close(total, nn.functional.cross_entropy(logits, targets))
    assert logs['loss'] is total
    predicted = torch.stack(model.val_step([inputs, targets]))
    torch.testing.assert_close(predicted, logits)


def test_data_preprocessors_come_from_our_registry() -> None:
    mm.MODELS.register_module(module=Scaling)
    try:
        inputs = torch.randn(2, 3, 8, 8)
        model = darts(data_preprocessor={'type': 'Scaling', 'non_blocking': True})
        assert type(model.data_preprocessor) is Scaling
        predicted = torch.stack(model.val_step([inputs, None]))
        torch.testing.assert_close(predicted, darts()(inputs / 2))
    finally:
        mm.MODELS.module_dict.pop('Scaling')
    with pytest.raises(UnknownTypeError, match="'Scaling' is not a registered model"):
        darts(data_preprocessor={'type': 'Scaling'})
    with pytest.raises(ConfigError, match=r'`data_preprocessor` to be None.*but got 3$'):
        darts(data_preprocessor=3)


@pytest.mark.parametrize('verb', ['search', 'retrain', 'export'])
def test_jobs_say_that_they_need_mmengine(verb: str, capsys: Any) -> None:
    options = {
        'search': [],
        'retrain': ['--subnet', 'a.yaml'],
        'export': ['--subnet', 'a.yaml', '--checkpoint', 'a.pth', '--out', 'a.pt'],
    }
    assert cli.main([verb, 'configs/darts/digits.py', *options[verb]]) == 2
    out, err = capsys.readouterr()
    assert out == ''
    (line,) = err.splitlines()
    assert line.startswith(
        f'error: `{verb}` needs the runner of mmengine, but the host here is mmcv '
        f'{mmcv.__version__}. Install'
    )


def test_lists_and_subnets_are_shown(tmp_path: Any, capsys: Any) -> None:
    assert cli.main(['list', 'mutators', 'GDAS*']) == 0
    assert 'GDASMutator' in capsys.readouterr().out
    model = darts()
    mm.dump_subnet(model.mutator.search_subnet(), tmp_path / 'subnet.yaml')
    assert cli.main(['show', str(tmp_path / 'subnet.yaml')]) == 0
    assert capsys.readouterr().err == ''


def test_the_engine_says_that_it_needs_mmengine() -> None:
    from mmrazor_mutators import engine

    message = r'^BilevelTrainLoop needs the runner of mmengine, but the host here is mmcv 1\.'
    with pytest.raises(HostError, match=message):
        _ = engine.BilevelTrainLoop
    with pytest.raises(AttributeError, match='no_such_part'):
        _ = engine.no_such_part
    for registry in (registries.HOOKS, registries.LOOPS, registries.METRICS):
        with pytest.raises(
            UnknownTypeError, match=f"'SearchSubnetHook' is not a .*{registry.name}"
        ):
            registry.get('SearchSubnetHook')
    assert registries.DATASETS.get('Digits').__name__ == 'Digits'
