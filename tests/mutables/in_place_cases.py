"""Candidates that work in place, and what each of them computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import toys
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import mmrazor_mutators as mm

F64 = torch.float64


WEIGHTS = torch.tensor([0.25, 0.75], dtype=F64)


class AddsInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return x * 2


class InPlaceIn(nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.when = training

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(3) if self.training is self.when else x * 3


class InPlaceFromTheSecondCall(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mul_(3) if self.calls > 1 else x * 3


class InPlaceForSomeData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(3) if x.sum() > 0 else x * 3


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(x)


class WritesThroughAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.view(-1)[0] = 5.0
        return x.t().mul_(3).t()


class UsesTwice(nn.Module):
    """Code of a user's that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() + x.cos()


class Same(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return query + (1 if query is key and key is value else 0)


def multiply(module: nn.Module, args: tuple[Tensor]) -> None:
    args[0].mul_(3)


def hooked() -> nn.Module:
    module = nn.Identity()
    module.register_forward_pre_hook(multiply)
    return module


def patched() -> nn.Module:
    module = nn.Identity()
    module.forward = lambda x: x.mul_(3)  # type: ignore[method-assign]
    return module


def nested() -> nn.Module:
    choices = {'a': nn.ReLU(inplace=True), 'b': nn.ReLU(inplace=True)}
    return nn.Sequential(
        mm.DifferentiableOP(
            space_id='inner', choices=choices, with_arch_param=False, num_chosen=2
        )
    )


def first_is_five(x: Tensor) -> Tensor:
    x = x.clone()
    x.flatten()[0] = 5.0
    return 3 * x


Reference = Callable[[Tensor], Tensor]


CASES: dict[str, tuple[Callable[[], nn.Module], Reference]] = {
    'switch': (lambda: nn.ReLU(inplace=True), torch.relu),
    'chain': (
        lambda: nn.Sequential(nn.Hardtanh(inplace=True), nn.Tanh()),
        lambda x: x.clamp(-1, 1).tanh(),
    ),
    'later': (
        lambda: nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)),
        lambda x: x.tanh().relu(),
    ),
    'code': (AddsInPlace, lambda x: 2 * (x + 1)),
    'view': (WritesThroughAView, first_is_five),
    'training': (lambda: InPlaceIn(True), lambda x: 3 * x),
    'evaluation': (lambda: InPlaceIn(False), lambda x: 3 * x),
    'second call': (InPlaceFromTheSecondCall, lambda x: 3 * x),
    'some data': (InPlaceForSomeData, lambda x: 3 * x),
    'traced': (lambda: torch.fx.symbolic_trace(Scripted()), torch.relu),
    'hook': (hooked, lambda x: 3 * x),
    'patched': (patched, lambda x: 3 * x),
    'nested': (nested, lambda x: 2 * x.relu()),
}


def prepared(first: nn.Module, kind: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    op = mm.DifferentiableOP(
        space_id='a', choices={'first': first, 'twice': UsesTwice()}, num_chosen=2
    )
    supernet, mutator = nn.Sequential(op).double(), toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def mixed(reference: Reference, x: Tensor) -> Tensor:
    return 0.25 * reference(x) + 0.75 * (x.sin() + x.cos())


def data(call: int = 0) -> Tensor:
    return torch.randn(6, 4, dtype=F64) + (1 if call % 2 else -1)


class Residual(nn.Module):
    """The usual way to feel what a candidate does to its input."""

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x) + x


def residual(case: str, kind: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    supernet, mutator = prepared(CASES[case][0](), kind)
    mutator.release(supernet)
    supernet = nn.Sequential(nn.Identity(), Residual(supernet[0])).double()
    mutator = toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


class Counts(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.called: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket._qualified_op_name
        self.called[name] = self.called.get(name, 0) + 1
        return func(*args, **(kwargs or {}))
