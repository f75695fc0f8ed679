"""What has to be right before a search takes a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..builder import build_hypergradient
from ..checks import check_count
from ..errors import ConfigError, InputError
from ..mutators import DifferentiableMutator
from ..typing import ConfigDict
from .execution import check_precision
from .hypergradients import FirstOrder, Hypergradient
from .wrapped_optimizers import bare

__all__ = [
    'check_arch_batch',
    'check_loss',
    'check_optimizer_state',
    'check_optimizers',
    'check_options',
    'check_state',
    'check_takes_no_closure',
    'hypergradient_for',
    'pair_of',
    'params_of',
]


def check_optimizers(
    mutator: DifferentiableMutator,
    weights: Sequence[Tensor],
    arch_params: Sequence[Tensor],
    arch_optimizer: Optimizer,
) -> None:
    """Refuse optimizers that do not hold what they are to step.

    Args:
        mutator: Prepared from the supernet.
        weights: What the weight optimizer holds.
        arch_params: What the architecture optimizer holds.
        arch_optimizer: That optimizer.

    Raises:
        ConfigError: Something is missing, or is held by the wrong one.
    """
    if not isinstance(mutator, DifferentiableMutator):
        raise ConfigError(
            'Expected the mutator of a bilevel search to be a DifferentiableMutator, but got '
            f'{type(mutator).__name__}; derive it from DifferentiableMutator or DartsMutator'
        )
    needed = getattr(mutator, 'arch_optimizer_types', None)
    given = bare(arch_optimizer)
    if needed and not isinstance(given, needed):
        raise ConfigError(
            f'Expected `arch_optimizer` to be {" or ".join(kind.__name__ for kind in needed)}, '
            f'which {type(mutator).__name__} needs, but got {type(given).__name__}'
        )
    ours = {id(param): name for name, param in mutator.arch_params.items()}
    missing = ours.keys() - {id(param) for param in arch_params}
    if not ours or missing:
        lacking = [name for key, name in ours.items() if key in missing]
        raise ConfigError(
            'Expected `arch_optimizer` to hold every architecture parameter of the '
            f'mutator, but it lacks {", ".join(lacking) or "them (there are none)"}; call '
            'mutator.prepare_from_supernet(supernet) and then build the optimizer over '
            'mutator.arch_params.values()'
        )
    shared = [ours[id(param)] for param in weights if id(param) in ours]
    if shared:
        raise ConfigError(
            'Expected `weight_optimizer` to hold weights only, but it holds the '
            f'architecture parameters of {", ".join(shared)} as well'
        )
    held = {id(param) for param in weights}
    if any(id(param) in held for param in arch_params):
        raise ConfigError(
            'Expected `arch_optimizer` to hold architecture parameters only, but it holds '
            'weights of `weight_optimizer` as well'
        )
    candidates = [
        param
        for space in mutator.search_spaces.values()
        for mutable in space['modules']
        for param in mutable.parameters()
    ]
    if candidates and not any(id(param) in held for param in candidates):
        raise ConfigError(
            'Expected `weight_optimizer` to hold the weights of the candidates, but it holds '
            'none of them; build it after mutator.prepare_from_supernet(supernet), which '
            'makes them'
        )


def check_takes_no_closure(optimizer: Any) -> None:
    """Refuse an optimizer that wants to evaluate the loss again, such as LBFGS.

    Raises:
        ConfigError: See above.
    """
    kind: type = type(bare(optimizer))
    if _needs_closure(kind):
        raise ConfigError(
            'Expected an optimizer that steps by a gradient that it is given, such as SGD or '
            f'Adam, but got {kind.__name__}, which evaluates the loss again by a '
            'closure'
        )


@functools.cache
def _needs_closure(kind: type) -> bool:
    try:
        parameters = list(inspect.signature(kind.step).parameters.values())  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return False
    return any(p.name == 'closure' and p.default is p.empty for p in parameters)


def hypergradient_for(
    given: str | ConfigDict | Hypergradient, *, single_level: bool, autocast: str | None
) -> Hypergradient:
    """Return a hypergradient, if the options of the search can be combined with it.

    Raises:
        ConfigError: A single-level search of other than first order, or a
            precision in which finite differences mean nothing.
    """
    hypergradient: Hypergradient = (
        given if isinstance(given, Hypergradient) else build_hypergradient(given)
    )
    if single_level and not isinstance(hypergradient, FirstOrder):
        raise ConfigError(
            "A single-level search has one loss, so expected hypergradient='first_order', but "
            f'got {given!r}'
        )
    check_precision(autocast, hypergradient)
    return hypergradient


def check_options(
    grad_clip: Any, arch_interval: Any, skip_non_finite: Any = 0, accumulate: Any = 1
) -> None:
    """Refuse options outside of their range.

    Raises:
        ConfigError: See :class:`BilevelSearch`.
    """
    if grad_clip is not None and not grad_clip > 0:
        raise ConfigError(f'Expected `grad_clip` to be above 0 or None, but got {grad_clip!r}')
    if not isinstance(arch_interval, int) or arch_interval < 1:
        raise ConfigError(
            f'Expected `arch_interval` to be an int of at least 1, but got {arch_interval!r}'
        )
    check_count('skip_non_finite', skip_non_finite, 0)
    check_count('accumulate', accumulate)


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters in the optimizer's own order, which never changes.

    Raises:
        ConfigError: It wants to evaluate the loss again.
    """
    check_takes_no_closure(optimizer)
    groups: Iterable[dict[str, Any]] = optimizer.param_groups
    return [param for group in groups for param in group['params']]


def check_state(name: str, ours: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse a state whose names or shapes are not ours."""
    for key in dict.fromkeys([*ours, *given]):
        expected, came = (getattr(state.get(key), 'shape', None) for state in (ours, given))
        if key.endswith('_extra_state'):
            expected = came = None  # Its size depends on what happened.
        if expected != came or (key in ours) != (key in given):
            raise ConfigError(
                f'Expected the state of the {name} to have {key!r} of shape '
                f'{_shown(expected)}, but got {_shown(came)}; was it saved from another search?'
            )


def check_optimizer_state(name: str, optimizer: Optimizer, given: dict[str, Any]) -> None:
    """Refuse a state whose parameter groups are not those of ``optimizer``."""
    ours, came = (
        [len(group['params']) for group in groups]
        for groups in (optimizer.param_groups, given.get('param_groups', ()))
    )
    if ours != came:
        raise ConfigError(
            f'Expected the state of the {name} to have groups of {ours} parameters, but got '
            f'{came}; was it saved from another search?'
        )


def _shown(shape: Any) -> str:
    return 'none' if shape is None else str(tuple(shape))


def check_loss(loss: Any) -> Tensor:
    """Return a loss as a scalar, if it is one that can be differentiated."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        came = f'shape {tuple(loss.shape)}' if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f'Expected the loss to be a scalar tensor, but got {came}')
    if not loss.requires_grad:
        raise InputError(
            'The loss depends neither on the weights nor on the architecture parameters; is '
            'the supernet frozen, or does the loss detach its input?'
        )
    return loss.reshape(())


def check_arch_batch(batch: Any, where: str) -> None:
    """Refuse a step of the architecture without a batch for it."""
    if batch is None:
        raise InputError(
            f'The step of {where} moves the architecture: expected `arch_batch` to be a pair '
            '(inputs, targets), but got None'
        )


def pair_of(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch."""
    if not isinstance(batch, Sequence) or len(batch) != 2:
        came = f'{len(batch)} parts' if isinstance(batch, Sequence) else type(batch).__name__
        raise InputError(f'Expected a batch to be a pair (inputs, targets), but got {came}')
    return batch[0], batch[1]
