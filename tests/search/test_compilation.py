"""Compiled mixtures: the same results, few graphs, and a fall-back wherever there is none."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.search.compilation import Compilation, check_compile, uncompiled

# It traces and differentiates as the real one does, and leaves the code generation out.
TRACED = {'backend': 'aot_eager'}
DARTS: dict[str, Any] = {
    'type': 'DartsSupernet',
    'in_channels': 3,
    'num_classes': 3,
    'base_channels': 2,
    'num_layers': 3,
    'num_nodes': 2,
    'candidates': ['none', 'max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_3x3'],
}
NB201: dict[str, Any] = {
    'type': 'NasBench201Supernet',
    'in_channels': 3,
    'num_classes': 3,
    'base_channels': 2,
    'num_cells': 1,
}


def built(
    architecture: dict[str, Any], mutator: dict[str, Any] | None = None
) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    supernet = mm.build_architecture(architecture)
    built_mutator = mm.build_mutator(mutator or {'type': 'DartsMutator'})
    built_mutator.prepare_from_supernet(supernet)
    return supernet.double(), built_mutator.double()


def batch(seed: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(3, (4,), generator=generator)


def gradients_of(supernet: nn.Module, mutator: Any, which: str) -> dict[str, Tensor]:
    """Return the output, its gradients, and the running statistics after a pass."""
    weights, logits = list(supernet.parameters()), list(mutator.arch_params.values())
    for weight in weights:
        weight.requires_grad_(which != 'arch')
    for logit in logits:
        logit.requires_grad_(which != 'weights')
    images, targets = batch()
    out = supernet(images)
    wanted = [p for p in (*weights, *logits) if p.requires_grad]
    loss = F.cross_entropy(out, targets)
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = {f'gradient {i}': g for i, g in enumerate(grads) if g is not None}
    return {
        'out': out.detach(),
        **found,
        **{name: value.clone() for name, value in supernet.named_buffers()},
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14, msg=name)


@pytest.mark.parametrize(
    ('architecture', 'which'),
    [
        pytest.param(DARTS, 'both', id='darts-both'),
        pytest.param(DARTS, 'arch', id='darts-arch', marks=pytest.mark.slow),
        pytest.param(DARTS, 'weights', id='darts-weights', marks=pytest.mark.slow),
        pytest.param(NB201, 'both', id='nasbench201-both'),
        pytest.param(NB201, 'arch', id='nasbench201-arch', marks=pytest.mark.slow),
        pytest.param(NB201, 'weights', id='nasbench201-weights', marks=pytest.mark.slow),
    ],
)
def test_results_are_the_same(architecture: dict[str, Any], which: str) -> None:
    supernet, mutator = built(architecture)
    twin, twins_mutator = copy.deepcopy((supernet, mutator))
    compilation = Compilation(TRACED)
    with compilation.compiled():
        found = gradients_of(supernet, mutator, which)
    assert compilation.num_graphs > 0
    assert compilation.seconds > 0
    assert_same(found, gradients_of(twin, twins_mutator, which))


@pytest.mark.slow
@pytest.mark.parametrize('architecture', [DARTS, NB201], ids=['darts', 'nasbench201'])
def test_results_of_generated_code_are_the_same(architecture: dict[str, Any]) -> None:
    supernet, mutator = built(architecture)
    twin, twins_mutator = copy.deepcopy((supernet, mutator))
    compilation = Compilation()
    for which in ('arch', 'weights'):
        with compilation.compiled():
            found = gradients_of(supernet, mutator, which)
        assert_same(found, gradients_of(twin, twins_mutator, which))
    assert compilation.num_graphs > 0


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def toy(**kwargs: Any) -> tuple[Any, Any]:
    """Return a mutable that can be compiled in a second or so, and its mutator."""
    torch.manual_seed(0)
    choices = {'linear': nn.Linear(3, 3), 'norm': nn.BatchNorm1d(3), 'twice': Twice()}
    op = mm.DifferentiableOP(space_id='a', choices=choices).double()
    mutator: Any = mm.build_mutator({'type': 'DartsMutator', **kwargs})
    mutator.prepare_from_supernet(op)
    return op, mutator


def test_generated_code_computes_the_same() -> None:
    op, mutator = toy()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    compilation = Compilation()
    results = []
    for context in (compilation.compiled(), uncompiled()):
        with context:
            out = op(x)
        leaves = [x, *op.parameters(), *mutator.arch_params.values()]
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert compilation.num_graphs == 1
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert op.choices['norm'].num_batches_tracked == 2


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'config'),
    reason='this torch has no tag for graphs on disk',
)
def test_graphs_on_disk_are_of_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken from the disk of a processor with wider vectors, a gradient was wrong."""
    monkeypatch.setattr(torch.compiler.config, 'cache_key_tag', 'mine')
    tags = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        tags.append(torch.compiler.config.cache_key_tag)
        return graph.forward

    for processor in ('AVX2', 'AVX512'):
        monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda p=processor: p)
        op, _ = toy()
        with Compilation({'backend': backend}).compiled():
            op(torch.randn(5, 3, dtype=torch.float64))
    assert tags == ['mine AVX2', 'mine AVX512']
    assert torch.compiler.config.cache_key_tag == 'mine'


def test_depth_costs_no_graphs() -> None:
    counts = []
    for layers in (8, 20):
        supernet, mutator = built(
            {**DARTS, 'num_layers': layers, 'num_nodes': 1, 'candidates': ['dil_conv_3x3']}
        )
        compilation = Compilation({'backend': 'eager'})
        with compilation.compiled():
            gradients_of(supernet, mutator, 'weights')
        counts.append(compilation.num_graphs)
    # Three widths with stride 1 and two reductions, and maps may lie in memory in two ways.
    assert 5 <= counts[0] == counts[1] <= 8


def test_a_second_pass_needs_no_new_graph_and_other_gradients_need_their_own() -> None:
    supernet, mutator = built(NB201)
    compilation = Compilation({'backend': 'eager'})
    counts = []
    with compilation.compiled():
        for which in ('arch', 'arch', 'weights', 'arch'):
            gradients_of(supernet, mutator, which)
            counts.append(compilation.num_graphs)
    # The first cell of an architecture step reads what no gradient flows into.
    assert counts == [4, 4, 7, 7]


def test_nothing_is_left_on_the_supernet() -> None:
    supernet, mutator = built(NB201)
    names = {name: set(part.__dict__) for name, part in supernet.named_modules()}
    with Compilation({'backend': 'eager'}).compiled():
        gradients_of(supernet, mutator, 'weights')
        assert names == {name: set(part.__dict__) for name, part in supernet.named_modules()}
    copy.deepcopy((supernet, mutator))


def test_no_graph_is_made_in_eval_mode_without_gradients_and_where_a_hook_listens() -> None:
    op, _ = toy()
    x = torch.randn(5, 3, dtype=torch.float64)
    compilation = Compilation({'backend': 'eager'})
    seen = []
    with compilation.compiled():
        op.eval()(x)
        with torch.no_grad():
            op.train()(x)
        with uncompiled():
            op(x)
        with uncompiled(), compilation.compiled():
            op(x)
        handle = op.choices['twice'].register_forward_hook(lambda *_: seen.append(1))
        op(x)
        assert compilation.num_graphs == 0
        assert seen == [1]
        handle.remove()
        op(x)
    assert compilation.num_graphs == 1


def test_an_attribute_that_changes_is_not_frozen_into_a_graph() -> None:
    class Scaled(nn.Module):
        scale = 1.0

        def __init__(self) -> None:
            super().__init__()
            self.scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x

    op = mm.DifferentiableOP(space_id='a', choices={'scaled': Scaled()})
    mm.DartsMutator().prepare_from_supernet(op)
    x = torch.ones(1, requires_grad=True)
    with Compilation({'backend': 'eager'}).compiled():
        assert op(x).item() == 1
        op.choices['scaled'].scale = 3.0
        assert op(x).item() == 3


def failing_backend(*_: Any) -> Any:
    raise RuntimeError('this machine has no compiler\nand more lines about it')


def test_where_nothing_can_be_compiled_there_is_one_warning_and_the_same_result() -> None:
    op, _ = toy()
    x = torch.randn(5, 3, dtype=torch.float64)
    compilation = Compilation({'backend': failing_backend})
    with compilation.compiled():
        with pytest.warns(RuntimeWarning, match='no compiler') as caught:
            found = op(x)
        assert len(caught) == 1
        assert 'and more lines' not in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            again = op(x)
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    assert op.choices['norm'].num_batches_tracked == 2
    assert compilation.num_graphs == 0


def test_a_mistake_in_a_candidate_is_raised_as_it_is() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.ones(7, 7, dtype=x.dtype)

    op = mm.DifferentiableOP(space_id='a', choices={'wrong': Wrong()}).double()
    mm.DartsMutator().prepare_from_supernet(op)
    with (
        Compilation({'backend': 'eager'}).compiled(),
        pytest.raises(RuntimeError, match='mat1 and mat2 shapes cannot be multiplied'),
    ):
        op(torch.ones(2, 3, dtype=torch.float64))


def test_there_are_no_more_graphs_than_allowed() -> None:
    op, _ = toy()
    compilation = Compilation({'backend': 'eager'}, max_graphs=1)
    with compilation.compiled():
        op(torch.randn(5, 3, dtype=torch.float64))
        with pytest.warns(RuntimeWarning, match='there are 1 graphs already'):
            op(torch.randn(6, 3, dtype=torch.float64))
        op(torch.randn(5, 3, dtype=torch.float64))
    assert compilation.num_graphs == 1


def test_the_last_batch_of_an_epoch_needs_no_graph_and_a_larger_one_gets_it() -> None:
    op, _ = toy()
    compilation = Compilation({'backend': 'eager'})
    counts = []
    with compilation.compiled():
        for size in (5, 3, 5, 7, 5, 6):
            op(torch.randn(size, 3, dtype=torch.float64))
            counts.append(compilation.num_graphs)
    assert counts == [1, 1, 1, 2, 2, 2]


def test_without_a_compiler_a_search_goes_on(tmp_path: Path) -> None:
    code = (
        'import warnings, torch, sys\n'
        'sys.path[:0] = sys.argv[1:]\n'
        'from test_compilation import toy, Compilation\n'
        'op, _ = toy()\n'
        'with warnings.catch_warnings(record=True) as caught, Compilation().compiled():\n'
        '    warnings.simplefilter("always")\n'
        '    out = op(torch.ones(4, 3, dtype=torch.float64, requires_grad=True))\n'
        'print(len([w for w in caught if "runs as it is" in str(w.message)]), out.shape)\n'
    )
    env = {
        **os.environ,
        'CXX': str(tmp_path / 'no-such-compiler'),
        'TORCHINDUCTOR_CACHE_DIR': str(tmp_path / 'cache'),
        'OMP_NUM_THREADS': '1',
    }
    result = subprocess.run(
        [sys.executable, '-c', code, str(Path(__file__).parent)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.stdout.strip() == '1 torch.Size([4, 3])', result.stderr


@pytest.mark.parametrize(
    ('value', 'expected'),
    [(True, {}), (False, None), ({'mode': 'reduce-overhead'}, {'mode': 'reduce-overhead'})],
)
def test_the_option(value: Any, expected: Any) -> None:
    assert check_compile(value) == expected


@pytest.mark.parametrize('value', ['yes', 1, None, {'fullgraph': False}, ['mode']])
def test_an_option_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(mm.NASError, match='Expected `compile` to be True, False or a mapping'):
        check_compile(value)
