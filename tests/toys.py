"""Small supernets whose right answers can be written down, for the tests of the search."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import find_mutables
from mmrazor_mutators.typing import Mixture


class Zero(nn.Module):
    """A candidate that says of itself that it is zero."""

    is_zero = True

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.features)


class Basis(nn.Module):
    """A candidate that returns the i-th unit vector: mixing them shows the weights."""

    def __init__(self, index: int, size: int) -> None:
        super().__init__()
        self.register_buffer('unit', torch.eye(size)[index])

    def forward(self, x: Any) -> Tensor:
        return self.unit + 0 * x.sum()


def candidates(in_features: int = 4, features: int = 4) -> dict[str, nn.Module]:
    return {
        'none': Zero(features),
        'linear': nn.Linear(in_features, features),
        'norm': nn.Sequential(
            nn.Linear(in_features, features), nn.BatchNorm1d(features), nn.Tanh()
        ),
        'deep': nn.Sequential(nn.Linear(in_features, 7), nn.Sigmoid(), nn.Linear(7, features)),
    }


def units(size: int = 3) -> dict[str, nn.Module]:
    return {f'u{index}': Basis(index, size) for index in range(size)}


class ToyBackbone(nn.Module):
    """An op that changes the width, two ops of one space, and a node that keeps 2 of 3."""

    def __init__(self, op: type = mm.DifferentiableOP, node_has_param: bool = False) -> None:
        super().__init__()
        self.widen = op(space_id='widen', choices=candidates(3, 4))
        self.first = op(space_id='shared', choices=candidates())
        self.second = op(space_id='shared', choices=candidates())
        inputs = {
            f'p{i}': nn.Sequential(op(space_id=f'node_p{i}', choices=candidates()))
            for i in range(3)
        }
        self.node = mm.DifferentiableEdge(
            space_id='node', with_arch_param=node_has_param, num_chosen=2, choices=inputs
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.widen(x)
        b = self.first(a)
        return self.node([a, b, self.second(b)])


class ToySupernet(nn.Module):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.backbone = ToyBackbone(**kwargs)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class UnitSupernet(nn.Module):
    """Returns the weights that two mutables of one space and one of another see."""

    def __init__(self, op: type = mm.DifferentiableOP) -> None:
        super().__init__()
        self.first = op(space_id='a', choices=units())
        self.second = op(space_id='a', choices=units())
        self.other = op(space_id='b', choices=units())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.first(x), self.second(x), self.other(x)


class UserMutator(mm.DartsMutator):
    """What a user writes: three lines."""

    def relax(self, arch_param: Tensor) -> Tensor:
        return arch_param.sigmoid() + 0.1 * torch.rand_like(arch_param)


def naive_mix(mutable: nn.Module, x: Any, mixtures: Mapping[str, Mixture]) -> Tensor:
    """Add up every choice times its weight; one that does not run counts as 1."""
    inputs = x if isinstance(mutable, mm.MutableEdge) else [x] * len(mutable.choices)
    all_ones = Mixture(torch.ones(len(mutable.choices), dtype=torch.float64))
    mixture = mixtures.get(mutable.space_id, all_ones)
    out: Any = 0.0
    for i, (choice, source) in enumerate(zip(mutable.choices.values(), inputs, strict=True)):
        nested = isinstance(choice, nn.Sequential) and isinstance(choice[0], mm.MutableModule)
        result = naive_mix(choice[0], source, mixtures) if nested else choice(source)
        if mixture.paths is not None and i not in mixture.paths:
            result = result.detach() if i in mixture.silent else 1.0
        out = out + mixture.weights[i] * result
    return out


def naive_forward(supernet: ToySupernet, x: Tensor, mixtures: Mapping[str, Mixture]) -> Tensor:
    """Write the forward pass of the toy supernet down, mixture by mixture."""
    net = supernet.backbone
    a = naive_mix(net.widen, x, mixtures)
    b = naive_mix(net.first, a, mixtures)
    c = naive_mix(net.second, b, mixtures)
    return supernet.head(naive_mix(net.node, [a, b, c], mixtures))


def naive_mixtures(mutator: Any, seed: int = 3) -> dict[str, Mixture]:
    """Relax each space by itself, in their order, and see which choices run."""
    mixtures = run(mutator.relax_spaces, seed=seed)
    torch.manual_seed(seed)
    relaxed = {
        space_id: mutator.relax(logits) for space_id, logits in mutator.arch_params.items()
    }
    # Some draw only when every space is relaxed.
    drawn = mutator.sample_paths(relaxed)
    return {
        space_id: mixtures[space_id]._replace(weights=drawn.get(space_id, Mixture(w)).weights)
        for space_id, w in relaxed.items()
    }


def build_mutator(mutator: str | type, **kwargs: Any) -> Any:
    return mm.build_mutator({'type': mutator, **kwargs})


def spread_logits(mutator: Any) -> None:
    """Give the logits values that are far from equal, also to a float32 eye."""
    with torch.no_grad():
        for logits in getattr(mutator, 'arch_params', {}).values():
            logits.normal_()
            if hasattr(mutator, 'arch_param_for'):  # They are not logits of a softmax.
                logits.copy_(mutator.arch_param_for(logits.softmax(-1)))


def prepared(
    mutator: str | type = 'DartsMutator', supernet: nn.Module | None = None, **kwargs: Any
) -> tuple[Any, Any]:
    """Return a supernet in double precision and the mutator that it is bound to."""
    supernet = (ToySupernet() if supernet is None else supernet).double()
    built = build_mutator(mutator, **kwargs)
    built.prepare_from_supernet(supernet)
    spread_logits(built.double())
    return supernet, built


def run(module: Any, *inputs: Any, seed: int = 3) -> Any:
    """Call ``module`` from a seed of its own."""
    torch.manual_seed(seed)
    return module(*inputs)


def logits_and_weights(supernet: nn.Module, mutator: Any) -> list[nn.Parameter]:
    return [*mutator.arch_params.values(), *supernet.parameters()]


def choice_sizes(supernet: nn.Module) -> Iterator[tuple[str, int]]:
    for mutable in find_mutables(supernet):
        yield mutable.space_id, mutable.num_choices


@contextmanager
def registered(*parts: type, registry: Any = mm.MUTATORS) -> Iterator[None]:
    """Register classes for the length of a test."""
    for part in parts:
        registry.register_module(module=part, force=True)
    try:
        yield
    finally:
        for part in parts:
            for known in (registry, mm.MODELS):
                known.module_dict.pop(part.__name__, None)


CONCRETE = {
    name: cls for name, cls in mm.MUTATORS.module_dict.items() if not inspect.isabstract(cls)
}
EVERY_MUTATOR = [*CONCRETE, 'UserMutator']
LEARNING_MUTATORS = [
    name
    for name in EVERY_MUTATOR
    if issubclass(CONCRETE.get(name, UserMutator), mm.DifferentiableMutator)
]


def mutator_of(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a name; a mutator of the user's own is registered for one test alone.

    The body of the fixtures that let a test run over every registered mutator.
    """
    with registered(*([] if request.param in CONCRETE else [UserMutator])):
        yield request.param
