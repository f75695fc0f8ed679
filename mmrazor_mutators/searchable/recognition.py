"""What can be chosen in a model, as far as its layers and a few forward passes tell."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NASError, SearchSpaceError
from ..mutables import SearchPlan
from ..mutables.attention import head_layout
from ..mutables.layers import CONVS, TRANSPOSED, is_norm, numeric_padding
from .proof import run
from .reach import check_linked
from .rules import Place, Rule
from .ties import TieFinder, num_features
from .widths import producers

__all__ = ['FRACTIONS', 'Suggestion', 'find_suggestions']

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Of the features of a layer."""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
)


@dataclass(frozen=True)
class Suggestion:
    """A choice that a model may have in one place, or in several that are tied.

    Attributes:
        kind: As in a rule.
        names: Qualified names of the modules.
        value: What may be chosen.
    """

    kind: str
    names: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        return f'{self.kind} of {self.names[0]}'


def find_suggestions(model: nn.Module, plan: SearchPlan) -> tuple[list[Suggestion], list[str]]:
    """Return what may be chosen in a model, and a line for all that may not, with its reason.

    Args:
        model: Is run, and does not change.
        plan: Knows inputs that it can be called with.
    """
    attending = {name for name, module in model.named_modules() if head_layout(module)}
    found = [*_heads(model, attending), *_kernels(model), *_depths(model, plan)]
    widths, refused = _widths(model, plan, attending)
    return [*widths, *found], refused


def _heads(model: nn.Module, attending: set[str]) -> Iterator[Suggestion]:
    for name, module in model.named_modules():
        layout = head_layout(module) if name in attending and name else None
        if layout is not None and layout[0] > 1:
            counts = sorted({max(1, layout[0] // part) for part in (4, 2, 1)})
            yield Suggestion('heads', (name,), counts)


def _kernels(model: nn.Module) -> Iterator[Suggestion]:
    for name, module in model.named_modules():
        if isinstance(module, CONVS) and name and 'weight' in module._parameters:
            sizes = _smaller(module)
            if len(sizes) > 1:
                alike = all(len({*size}) == 1 for size in sizes)
                value = [size[0] for size in sizes] if alike else [list(s) for s in sizes]
                yield Suggestion('kernel_size', (name,), value)


def _smaller(conv: Any) -> list[tuple[int, ...]]:
    """Return sizes of a kernel up to the original, which read every pixel of the map."""
    sizes = [tuple(conv.kernel_size)]
    while True:
        largest = max(sizes[0])
        # The longest sides shrink, by one pixel on each end.
        size = tuple(side - 2 if side == largest else side for side in sizes[0])
        shapes = zip(
            size,
            conv.kernel_size,
            conv.stride,
            numeric_padding(conv),
            conv.dilation,
            strict=True,
        )
        if not all(
            side == own or (side >= stride and pad >= (own - side) // 2 * dilation)
            for side, own, stride, pad, dilation in shapes
        ):
            return sizes
        if min(size) < 1:
            return sizes
        sizes.insert(0, size)


def _depths(model: nn.Module, plan: SearchPlan) -> Iterator[Suggestion]:
    """Yield the innermost blocks that add something to their input."""
    calls = _calls(model, plan)
    residual = [
        name for name, module in model.named_modules() if _is_residual(module, calls.get(name))
    ]
    for name in residual:
        if name and not any(other.startswith(f'{name}.') for other in residual):
            yield Suggestion('depth', (name,), True)


def _calls(model: nn.Module, plan: SearchPlan) -> dict[str, Any]:
    """Return ``{name: (args, kwargs)}`` of blocks that return the shape of their input."""
    twin = copy.deepcopy(model)
    seen: dict[str, Any] = {}
    other: set[str] = set()

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            same = (
                bool(args)
                and isinstance(args[0], Tensor)
                and isinstance(output, Tensor)
                and args[0].shape == output.shape
                and args[0].is_floating_point()
            )
            if same:
                seen.setdefault(name, (args, kwargs))
            else:
                other.add(name)

        return hook

    for name, module in twin.named_modules():
        if next(module.children(), None) is not None:
            module.register_forward_hook(note(name), with_kwargs=True)
    run(twin, plan)
    return {name: call for name, call in seen.items() if name not in other}


def _is_residual(module: nn.Module, call: Any) -> bool:
    """Whether what a block returns depends on its input when all of its weights are 0.

    What only scales its input then, such as squeeze and excitation, is a gate.
    """
    if call is None:
        return False
    twin = copy.deepcopy(module).eval()
    weighted = False
    with torch.no_grad():
        for part in twin.modules():
            if not isinstance(part, _NORMS) and not is_norm(part):
                for parameter in part.parameters(recurse=False):
                    parameter.zero_()
                    weighted = True
        (x, *args), kwargs = call
        if not weighted or x.numel() == 0:
            return False
        # Not a multiple of the input, which a norm would not tell from it.
        ramp = torch.linspace(0.5, 1.5, x.numel(), device=x.device, dtype=x.dtype)
        try:
            y, other = (
                twin(given, *args, **kwargs) for given in (x.clone(), x * ramp.view_as(x))
            )
        except Exception:  # A block of a user's that needs what was around it.
            return False
        share = (y * x).sum() / x.square().sum()
        gate = torch.allclose(y, share * x) and abs(float(share) - 1) > 1e-3
    return not gate and not torch.allclose(y, other)


def _widths(
    model: nn.Module, plan: SearchPlan, attending: set[str]
) -> tuple[list[Suggestion], list[str]]:
    """Return the ties of features that stay inside of a model, and why others do not."""
    try:
        finder = TieFinder(model, plan)
    except NASError as error:
        return [], [f'no widths: {error}']
    wide = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (*CONVS, *TRANSPOSED, nn.Linear, nn.Embedding))
        and name
        and not any(name.startswith(f'{other}.') for other in attending)
    }
    if wide and not any(map(finder.runs, wide.values())):
        return [], ['no widths: the outputs of the model depend on none of its layers']
    found: list[Suggestion] = []
    refused: list[str] = []
    known: set[int] = set()
    for name, module in wide.items():
        if id(module) in known or not finder.runs(module):
            continue
        try:
            linked = finder.linked(module)
        except SearchSpaceError as error:
            refused.append(str(error))
            continue
        together = producers(linked) | {id(module)}
        known |= together
        if num_features(module, 'out') < 2 or not any(part.axis == 'in' for part in linked):
            continue  # Nothing to cut, or the output of the model.
        kind = 'ffn' if _in_attending_block(name, attending) else 'width'
        names = tuple(other for other, part in wide.items() if id(part) in together)
        place = Place(name, module, kind, list(FRACTIONS), Rule(name, {}), name)
        try:
            check_linked(place, model, linked)
        except NASError as error:
            refused.append(str(error))
        else:
            found.append(Suggestion(kind, names, list(FRACTIONS)))
    return found, refused


def _in_attending_block(name: str, attending: set[str]) -> bool:
    """Whether a layer stands in a block that attends, or in a part of one."""
    parts = name.split('.')
    blocks = {'.'.join(parts[:-depth]) for depth in (1, 2)} - {''}
    return bool(blocks & {other.rpartition('.')[0] for other in attending})
