"""MobileNet and ShuffleNet with blocks to search for, as MMRazor v0.2.0 has them."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import SearchableMobileNet, SearchableShuffleNetV2
from mmrazor_mutators.errors import BindingError, ConfigError, InputError
from mmrazor_mutators.mutables import find_mutables

SMALL: dict[str, dict[str, Any]] = {
    'SearchableMobileNet': {'widen_factor': 0.1, 'first_channels': 8, 'last_channels': 12},
    'SearchableShuffleNetV2': {'widen_factor': 0.1},
}
every_backbone = pytest.mark.parametrize('name', SMALL)
STAGES = {'SearchableMobileNet': [1, 2, 3, 4, 3, 3, 1], 'SearchableShuffleNetV2': [4, 4, 8, 4]}
WIDTHS = {
    'SearchableMobileNet': [8, 8, 8, 8, 16, 16, 32, 12],
    'SearchableShuffleNetV2': [6, 16, 32, 64, 1024],
}
STRIDES = {
    'SearchableMobileNet': [2, 4, 8, 16, 16, 32, 32, 32],
    'SearchableShuffleNetV2': [4, 8, 16, 32, 32],
}


def build(name: str, **arguments: Any) -> Any:
    return mm.build_architecture({'type': name, **SMALL[name], **arguments})


def prepared(name: str, mutator: Any = None, **arguments: Any) -> Any:
    """Return a backbone with all of its candidates, or with those of ``mutator``."""
    backbone = build(name, **arguments)
    mutator = mm.RandomMutator() if mutator is None else mutator
    mutator.prepare_from_supernet(backbone)
    return backbone


def with_few(name: str, seed: int = 0, **arguments: Any) -> tuple[Any, mm.RandomMutator]:
    """Return a backbone with its first and last candidate, which is soon built."""
    mapping = build(name, **arguments).default_placeholder_mapping
    for cfg in mapping.values():
        keys = list(cfg['choices'])
        cfg['choices'] = {key: cfg['choices'][key] for key in (keys[0], keys[-1])}
    mutator = mm.RandomMutator(seed=seed, placeholder_mapping=mapping)
    return prepared(name, mutator, **arguments), mutator


def one_path(name: str, seed: int = 0, **arguments: Any) -> Any:
    """Return a network in which every choice is made."""
    supernet, mutator = with_few(name, seed, **arguments)
    return mutator.export_subnet(supernet, mutator.search_subnet())


@every_backbone
def test_spaces_have_the_names_of_v0_2_0(name: str) -> None:
    mutator = mm.RandomMutator()
    prepared(name, mutator)
    expected = [f'stage_{i}_block_{j}' for i, n in enumerate(STAGES[name]) for j in range(n)]
    assert list(mutator.search_spaces) == expected
    for space in mutator.search_spaces.values():
        assert len(space['modules']) == 1


@pytest.mark.parametrize(
    ('name', 'keys'),
    [
        (
            'SearchableMobileNet',
            [
                'conv1.conv.weight',
                'conv1.bn.running_mean',
                'layer1.0.choices.mb_k3e1.depthwise_conv.conv.weight',
                'layer2.0.choices.identity.downsample.conv.weight',
                'layer2.0.choices.identity.downsample.bn.bias',
                'layer4.3.choices.mb_k5e6.expand_conv.bn.weight',
                'layer7.0.choices.mb_k7e3.linear_conv.conv.weight',
                'conv2.bn.num_batches_tracked',
            ],
        ),
        (
            'SearchableShuffleNetV2',
            [
                'conv1.conv.weight',
                'layers.0.0.choices.shuffle_3x3.branch1.1.bn.weight',
                'layers.2.7.choices.shuffle_7x7.branch2.2.conv.weight',
                'layers.3.1.choices.shuffle_xception.branch2.2.pointwise_conv.bn.running_var',
                'layers.4.conv.weight',
            ],
        ),
    ],
)
def test_checkpoints_of_v0_2_0_fit(name: str, keys: list[str]) -> None:
    assert not set(keys) - prepared(name).state_dict().keys()


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [('SearchableMobileNet', (1788, 9387114)), ('SearchableShuffleNetV2', (2004, 7565406))],
)
def test_sizes_of_v0_2_0(name: str, sizes: tuple[int, int]) -> None:
    # Tensors and values in a checkpoint of the default backbone, counted in v0.2.0 itself.
    with torch.device('meta'):
        backbone = mm.build_architecture({'type': name})
        mm.RandomMutator().prepare_from_supernet(backbone)
    state = backbone.state_dict().values()
    assert (len(state), sum(value.numel() for value in state)) == sizes


def test_choices_of_mobilenet() -> None:
    norm_cfg = {'type': 'BN', 'eps': 0.01}
    backbone = build('SearchableMobileNet', norm_cfg=norm_cfg)
    mapping = backbone.default_placeholder_mapping
    assert {group: cfg['type'] for group, cfg in mapping.items()} == {
        'searchable_blocks': 'OneShotOP',
        'first_blocks': 'OneShotOP',
    }
    rest = {'conv_cfg': None, 'norm_cfg': norm_cfg}
    blocks = {
        f'mb_k{k}e{e}': {
            'type': 'MBBlock',
            'kernel_size': k,
            'expand_ratio': e,
            'act_cfg': {'type': 'ReLU6'},
            **rest,
        }
        for k in (3, 5, 7)
        for e in (1, 3, 6)
    }
    first = {'mb_k3e1': blocks['mb_k3e1']}
    identity = {'type': 'Identity', 'act_cfg': None, **rest}
    others = {key: block for key, block in blocks.items() if not key.endswith('e1')}
    assert mapping['first_blocks']['choices'] == first
    assert mapping['searchable_blocks']['choices'] == {**others, 'identity': identity}


def test_choices_of_shufflenet() -> None:
    cfgs = {'norm_cfg': {'type': 'BN', 'eps': 0.01}, 'act_cfg': {'type': 'Tanh'}}
    backbone = build('SearchableShuffleNetV2', **cfgs)
    rest = {'conv_cfg': None, **cfgs}
    assert backbone.default_placeholder_mapping == {
        'all_blocks': {
            'type': 'OneShotOP',
            'choices': {
                'shuffle_3x3': {'type': 'ShuffleBlock', 'kernel_size': 3, **rest},
                'shuffle_5x5': {'type': 'ShuffleBlock', 'kernel_size': 5, **rest},
                'shuffle_7x7': {'type': 'ShuffleBlock', 'kernel_size': 7, **rest},
                'shuffle_xception': {'type': 'ShuffleXception', **rest},
            },
        }
    }


@every_backbone
def test_mapping_is_fresh_every_time(name: str) -> None:
    norm_cfg = {'type': 'BN'}
    backbone = build(name, norm_cfg=norm_cfg)
    first, second = (backbone.default_placeholder_mapping for _ in range(2))
    cfgs = [op['norm_cfg'] for cfg in first.values() for op in cfg['choices'].values()]
    assert len({id(cfg) for cfg in [*cfgs, norm_cfg]}) == len(cfgs) + 1
    cfgs[0]['type'] = 'IN'
    assert backbone.default_placeholder_mapping == second
    assert norm_cfg == {'type': 'BN'}


@every_backbone
@pytest.mark.parametrize('size', [(64, 64), (33, 70), (1, 1)])
def test_outputs(name: str, size: tuple[int, int]) -> None:
    last = len(WIDTHS[name]) - 1
    net = one_path(name, out_indices=(0, 2, last)).eval()
    outs = net(torch.randn(2, 3, *size))
    assert isinstance(outs, tuple)
    assert [tuple(out.shape) for out in outs] == [
        (2, WIDTHS[name][i], *[-(-side // STRIDES[name][i]) for side in size])
        for i in (0, 2, last)
    ]
    assert net.out_channels == WIDTHS[name][last]
    assert one_path(name, out_indices=[1]).out_channels == WIDTHS[name][1]


@every_backbone
def test_is_a_chain_of_its_parts(name: str) -> None:
    net = one_path(name, norm_eval=True, out_indices=(1, len(WIDTHS[name]) - 1)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    outs = net(x)
    x, maps = net.conv1(x), []
    for stage in net.stages:
        x = stage(x)
        maps.append(x)
    assert_close(outs, (maps[1], maps[-1]))
    assert net.stages[-1].conv.kernel_size == (1, 1)
    assert net.conv1.conv.stride == (2, 2)


@every_backbone
def test_what_is_not_returned_is_not_run(name: str) -> None:
    net, runs = one_path(name, out_indices=(1,)).eval(), Counter[int]()
    for i, stage in enumerate(net.stages):
        stage.register_forward_hook(lambda *_, i=i: runs.update([i]))
        for block in stage.children():
            block.register_forward_hook(lambda *_, i=i: runs.update([i]))
    net(torch.randn(1, 3, 8, 8))
    assert set(runs) == {0, 1}


def test_widths() -> None:
    def widths(cls: Any, **arguments: Any) -> list[int]:
        backbone = cls(**arguments)
        places = [m for m in backbone.modules() if isinstance(m, mm.Placeholder)]
        found = [place.placeholder_kwargs['choice_args'] for place in places]
        inner = [
            args['out_channels']
            for args in found
            if args['in_channels'] != args['out_channels']
        ]
        return [backbone.conv1.conv.out_channels, *inner, backbone.out_channels]

    mobile, shuffle = SearchableMobileNet, SearchableShuffleNetV2
    assert widths(mobile) == [32, 16, 24, 32, 64, 96, 160, 320, 1280]
    assert widths(mobile, widen_factor=1.4) == [48, 24, 32, 48, 88, 136, 224, 448, 1792]
    assert widths(mobile, widen_factor=0.5)[-1] == 1280
    proxyless = {'arch_setting_type': 'proxyless_gpu', 'first_channels': 40}
    assert widths(mobile, **proxyless) == [40, 24, 32, 56, 112, 128, 256, 432, 1280]
    assert widths(shuffle) == [16, 64, 160, 320, 640, 1024]
    assert widths(shuffle, widen_factor=1.5) == [16, 96, 240, 480, 960, 1024]
    assert widths(shuffle, stem_multiplier=3, with_last_layer=False) == [
        48,
        64,
        160,
        320,
        640,
        640,
    ]


@every_backbone
def test_images_of_one_channel(name: str) -> None:
    net = one_path(name, in_channels=1).eval()
    assert net(torch.randn(2, 1, 28, 28))[0].shape == (2, WIDTHS[name][-1], 1, 1)


@every_backbone
def test_only_the_active_block_learns(name: str) -> None:
    supernet, mutator = with_few(name, seed=1)
    subnet = mutator.search_subnet()
    for mutable in find_mutables(supernet):
        chosen = subnet[mutable.space_id]['chosen']
        mutable.set_choice_mask(torch.tensor([key in chosen for key in mutable.choice_names]))
    supernet(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
    for mutable in find_mutables(supernet):
        for key, choice in mutable.choices.items():
            learns = {p.grad is not None for p in choice.parameters()}
            assert learns <= {key in subnet[mutable.space_id]['chosen']}


@every_backbone
def test_a_differentiable_search(name: str) -> None:
    mapping = with_few(name)[1].placeholder_mapping
    group = next(iter(mapping))
    mapping[group]['type'] = 'DifferentiableOP'
    mutator = mm.DartsMutator(placeholder_mapping=mapping)
    supernet = prepared(name, mutator)
    supernet(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
    params = mutator.arch_params
    searched = {m.space_id for m in find_mutables(supernet) if m.num_choices > 1}
    assert set(params) == searched
    assert all(param.grad.abs().sum() > 0 for param in params.values())


@every_backbone
def test_copies(name: str) -> None:
    supernet = build(name)
    with pytest.raises(BindingError, match='stage_0_block_0'):
        supernet(torch.randn(1, 3, 32, 32))
    net, x = one_path(name).eval(), torch.randn(2, 3, 32, 32)
    assert_close(copy.deepcopy(net)(x), net(x))
    assert_close(pickle.loads(pickle.dumps(net))(x), net(x))
    _, mutator = with_few(name)
    for twin in (copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet))):
        own = mm.RandomMutator(placeholder_mapping=mutator.placeholder_mapping)
        own.prepare_from_supernet(twin)
        assert list(own.search_spaces) == list(mutator.search_spaces)


@every_backbone
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 'all'])
def test_frozen_stages(name: str, frozen_stages: Any) -> None:
    number = len(STAGES[name]) + 1 if frozen_stages == 'all' else frozen_stages
    # The stem is frozen from the beginning, the blocks when they are there.
    assert build(name, frozen_stages=number).conv1.conv.weight.requires_grad == (number < 0)
    supernet, _ = with_few(name, frozen_stages=number)
    assert supernet.train() is supernet
    for i, part in enumerate([supernet.conv1, *supernet.stages]):
        frozen = i <= number
        assert {p.requires_grad for p in part.parameters()} == {not frozen}
        assert {module.training for module in part.modules()} == {not frozen}
    assert supernet.training
    assert supernet.eval() is supernet
    assert not any(module.training for module in supernet.modules())


@every_backbone
def test_what_is_frozen_does_not_change(name: str) -> None:
    net = one_path(name, frozen_stages=1).train()
    frozen, last = nn.ModuleList([net.conv1, net.stages[0]]), net.stages[-1]
    before, weight = copy.deepcopy(frozen.state_dict()), last.conv.weight.detach().clone()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(torch.randn(2, 3, 32, 32))[0].square().mean().backward()
    optimizer.step()
    assert_close(frozen.state_dict(), before)
    assert last.bn.num_batches_tracked == 1
    assert not torch.equal(last.conv.weight, weight)


@every_backbone
def test_norms_in_eval_mode(name: str) -> None:
    supernet = with_few(name, norm_eval=True)[0].train()
    for module in supernet.modules():
        assert module.training != isinstance(module, nn.BatchNorm2d)
    assert all(module.training for module in with_few(name)[0].train().modules())


@every_backbone
def test_recomputed_blocks(name: str) -> None:
    plain = one_path(name, seed=2).double()
    twin = one_path(name, seed=2, with_cp=True).double()
    twin.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    sizes = []
    for net in (plain, twin):
        saved: list[int] = []

        def note(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = net(x)[0]
        sizes.append(sum(saved))
        out.square().sum().backward()
    assert sizes[1] < 0.5 * sizes[0]
    for mine, other in zip(twin.parameters(), plain.parameters(), strict=True):
        assert_close(mine.grad, other.grad)
    assert_close(dict(twin.named_buffers()), dict(plain.named_buffers()))


def passes(name: str, mutator: str, with_cp: bool) -> tuple[Any, ...]:
    """Return outputs, gradients and statistics of passes that differ in draw and mode."""
    torch.manual_seed(0)
    mapping = with_few(name)[1].placeholder_mapping
    for cfg in mapping.values():
        cfg['type'] = 'OneShotOP' if mutator == 'OneShotMutator' else 'DifferentiableOP'
    backbone = build(name, with_cp=with_cp, out_indices=(0,))
    supernet, built = toys.prepared(mutator, backbone, placeholder_mapping=mapping)
    outputs = []
    for i, training in enumerate((True, True, False, False)):
        torch.manual_seed(i)
        if mutator == 'OneShotMutator':
            spaces = built.search_spaces.items()
            built.set_subnet({k: {'chosen': [s['choice_names'][-(i % 2)]]} for k, s in spaces})
        images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        outputs.append(supernet.double().train(training)(images)[0])
    torch.stack(outputs).square().sum().backward()
    params = {**dict(supernet.named_parameters()), **getattr(built, 'arch_params', {})}
    grads = {key: p.grad for key, p in params.items() if p.grad is not None}
    return outputs, grads, dict(supernet.named_buffers())


@every_backbone
@pytest.mark.parametrize(
    'mutator', ['OneShotMutator', 'DartsMutator', 'SNASMutator', 'GDASMutator']
)
def test_each_pass_is_recomputed_as_it_was(name: str, mutator: str) -> None:
    """With its path or mixture, mode and statistics, though others have come since."""
    plain, recomputed = (passes(name, mutator, with_cp) for with_cp in (False, True))
    assert_close(recomputed, plain)


def test_weights_of_shufflenet() -> None:
    backbone, _ = with_few('SearchableShuffleNetV2', widen_factor=0.5)
    backbone.init_weights()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            std = 0.01 if name == 'conv1.conv' else 1 / module.weight.shape[1]
            weight = module.weight / std
            spread = weight.numel() ** -0.5
            assert abs(weight.mean()) < 5 * spread
            assert abs(weight.std() - 1) < 4 * spread
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.full_like(module.bias, 0.0001))


def test_weights_of_mobilenet() -> None:
    backbone, _ = with_few('SearchableMobileNet', widen_factor=0.25)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.fill_(7.0)
    backbone.init_weights()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()
            weight = module.weight / (2 / fan_out) ** 0.5
            assert abs(weight.std() - 1) < 4 * weight.numel() ** -0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


@every_backbone
@pytest.mark.parametrize('as_list', [False, True])
@pytest.mark.filterwarnings('ignore:.*weights_only.*:FutureWarning')
def test_pretrained_weights_stay(name: str, as_list: bool, tmp_path: Any) -> None:
    trained = one_path(name)
    torch.save(trained.state_dict(), tmp_path / 'trained.pth')
    cfg: Any = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'trained.pth')}
    net = one_path(name, init_cfg=[cfg] if as_list else cfg)
    net.init_weights()
    assert_close(net.state_dict(), trained.state_dict())


@pytest.mark.filterwarnings('ignore:init_weights of .* more than once:UserWarning')
def test_weights_are_initialised_once() -> None:
    net = one_path('SearchableShuffleNetV2')
    net.init_weights()
    before = copy.deepcopy(net.state_dict())
    net.init_weights()
    assert_close(net.state_dict(), before)


def test_norms_without_parameters_and_biases_are_initialised() -> None:
    plain = one_path('SearchableShuffleNetV2', norm_cfg={'type': 'BN', 'affine': False})
    plain.init_weights()
    bare = one_path('SearchableShuffleNetV2', norm_cfg=None)
    bare.init_weights()
    biases = [m.bias for m in bare.modules() if isinstance(m, nn.Conv2d)]
    assert biases
    assert all(torch.equal(bias, torch.zeros_like(bias)) for bias in biases)


@every_backbone
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'widen_factor': 0}, '`widen_factor` to be a number above 0, but got 0'),
        ({'widen_factor': '1'}, "`widen_factor` .* but got '1'"),
        ({'widen_factor': float('nan')}, '`widen_factor` .* but got nan'),
        ({'in_channels': 0}, '`in_channels` .* but got 0'),
        ({'out_indices': ()}, r'`out_indices` .* but got \(\)'),
        ({'out_indices': (-1,)}, r'`out_indices` .* but got \(-1,\)'),
        ({'out_indices': (8,)}, r'`out_indices` .* but got \(8,\)'),
        ({'out_indices': (2, 1)}, r'ascending .* but got \(2, 1\)'),
        ({'out_indices': (1, 1)}, r'ascending .* but got \(1, 1\)'),
        ({'frozen_stages': -2}, '`frozen_stages` to be an int of at least -1, but got -2'),
        ({'frozen_stages': 9}, '`frozen_stages` to be at most [58], .* but got 9'),
        ({'norm_cfg': {'type': 'NoNorm'}}, "norm_cfg={'type': 'NoNorm'}"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **arguments)


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('SearchableMobileNet', {'first_channels': 0}, '`first_channels` .* but got 0'),
        ('SearchableMobileNet', {'last_channels': 1.5}, '`last_channels` .* but got 1.5'),
        (
            'SearchableMobileNet',
            {'arch_setting_type': 'gpu'},
            "`arch_setting_type` to be 'original' or 'proxyless_gpu', but got 'gpu'",
        ),
        ('SearchableShuffleNetV2', {'stem_multiplier': 0}, '`stem_multiplier` .* but got 0'),
        ('SearchableShuffleNetV2', {'widen_factor': 0.02}, '`widen_factor` .* but got 0.02'),
        (
            'SearchableShuffleNetV2',
            {'with_last_layer': False, 'out_indices': (4,)},
            r'`out_indices` .* from 0 to 3, but got \(4,\)',
        ),
        (
            'SearchableShuffleNetV2',
            {'with_last_layer': False, 'frozen_stages': 5},
            '`frozen_stages` to be at most 4, .* but got 5',
        ),
    ],
)
def test_bad_arguments_of_one(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **arguments)


@every_backbone
def test_images_of_other_shapes(name: str) -> None:
    with pytest.raises(InputError, match=r'\(N, 3, H, W\) .* but got shape \(2, 1, 32, 32\)'):
        prepared(name)(torch.randn(2, 1, 32, 32))
