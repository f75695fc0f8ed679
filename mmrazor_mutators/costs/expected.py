"""What the network that a mutator believes in is expected to cost."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import BindingError, ConfigError
from .building import Metric, build_cost_model
from .latency import latency_model
from .model import CostModel

__all__ = ['choice_probabilities', 'cost_model_of', 'expected_cost']

_models: Any = weakref.WeakKeyDictionary()


def cost_model_of(
    supernet: nn.Module,
    metric: Metric | Literal['latency'],
    example_inputs: Any = None,
    profile: Any = None,
) -> CostModel:
    """Return the cost model of a supernet, from an earlier call where there was one.

    See :func:`build_cost_model` and, for ``'latency'``, :func:`latency_model`.

    Raises:
        ConfigError: An unknown metric, or ``'latency'`` without a profile.
    """
    if metric == 'latency' and profile is None:
        raise ConfigError(
            'The metric \'latency\' needs `profile`, the file that "mmrazor-mutators profile" '
            'or profile_latency() writes on the device where the network is to run'
        )
    mutables = tuple(
        (
            id(module),
            getattr(module, 'full_choice_names', ()),
            getattr(module, 'is_fixed', False),
        )
        for module in supernet.modules()
    )
    known = _models.setdefault(supernet, {})
    given = id(example_inputs) if example_inputs is not None else None
    key = metric, given, profile
    before, model, _ = known.get(key, (None, None, None))
    if before != mutables or model is None:
        if metric == 'latency':
            model = latency_model(supernet, profile, example_inputs)
        else:
            model = build_cost_model(supernet, metric, example_inputs)
        known[key] = mutables, model, example_inputs
    return model


def choice_probabilities(mutator: Any) -> dict[str, Tensor]:
    """Return how likely each choice of each space is, as far as a mutator can say.

    A space with an architecture parameter has the scores by which its choices are compared,
    with their graph.  One that keeps several choices, or has no parameter, as a node of DARTS
    that keeps its two best inputs, is as it would be read off now, without a graph.  Where
    nothing was learnt, all choices are equally likely.

    Args:
        mutator: Prepared from a supernet.

    Returns:
        ``{space_id: weights}``, shape ``(num_choices,)``.

    Raises:
        BindingError: A mutator without a supernet.
    """
    spaces: Mapping[str, Any] = mutator.search_spaces
    if not spaces:
        raise BindingError(
            f'This {type(mutator).__name__} has no supernet yet; call '
            'prepare_from_supernet(supernet)'
        )
    arch_params = getattr(mutator, 'arch_params', {})
    like = next(iter(arch_params.values()), torch.empty(0))
    found: dict[str, Tensor] = {}
    subnet: Any = None
    for space_id, space in spaces.items():
        count = len(space['choice_names'])
        learnt = space_id in arch_params
        if learnt and space['num_chosen'] == 1:
            logits = arch_params[space_id]
            scores = getattr(mutator, 'scores', None)
            found[space_id] = scores(space_id) if scores else mutator.relax(logits)
        elif arch_params and hasattr(mutator, 'search_subnet'):
            if subnet is None:
                subnet = getattr(mutator, 'best_subnet', mutator.search_subnet)()
            chosen = subnet.get(space_id, {}).get('chosen', ())
            weights = [float(name in chosen) for name in space['choice_names']]
            found[space_id] = torch.tensor(weights, dtype=like.dtype, device=like.device)
        else:
            share = space['num_chosen'] / count
            found[space_id] = torch.full((count,), share, dtype=like.dtype, device=like.device)
    return found


def expected_cost(
    supernet: nn.Module,
    mutator: Any,
    metric: Metric | Literal['latency'],
    example_inputs: Any = None,
    profile: Any = None,
) -> Tensor:
    """Return what the network is expected to cost by now, a scalar with a gradient.

    Widths multiply: what one layer returns, the next one reads.  Where the logits are sure of
    one choice everywhere, it is the cost of the exported network.

    Args:
        supernet: That ``mutator`` was prepared from.
        mutator: Tells the probabilities; see :func:`choice_probabilities`.
        metric: ``'params'``, ``'macs'``, ``'memory'`` (bytes), ``'latency'`` (ms), or a
            function of a :class:`LayerShape`; see :func:`build_cost_model`.
        example_inputs: See there; ``'params'`` needs none.
        profile: For ``'latency'`` the file of :func:`profile_latency`.

    >>> import mmrazor_mutators as mm
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = mm.make_searchable(net, [dict(match='0', width=[4, 8])], torch.zeros(1, 3))
    >>> mutator = mm.DartsMutator()
    >>> mutator.prepare_from_supernet(net)
    >>> _ = torch.nn.init.zeros_(mutator.arch_params['0'])
    >>> cost = mm.expected_cost(net, mutator, 'params')
    >>> cost.item(), cost.requires_grad
    (38.0, True)
    """
    model = cost_model_of(supernet, metric, example_inputs, profile)
    return model.expected(choice_probabilities(mutator))
