"""ExpectedCost: the architecture pays for latency, parameters or operations."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..documents import read_yaml
from ..errors import BindingError, ConfigError, InputError, did_you_mean
from ..functional import (
    expected_cost,
    fbnet_cost_loss,
    fbnet_cost_sum_loss,
    linear_cost_loss,
    log_cost_product_loss,
)
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..typing import Subnet

__all__ = ['ExpectedCost']

_FORMS: dict[str, tuple[Callable[..., Tensor], dict[str, float | None]]] = {
    'linear': (linear_cost_loss, {'ref': None, 'lam': 0.1}),
    'log_product': (log_cost_product_loss, {'ref': None, 'alpha': 0.2, 'beta': 0.3}),
    'fbnet': (fbnet_cost_loss, {'alpha': 0.2, 'beta': 0.6}),
    'fbnet_sum': (fbnet_cost_sum_loss, {'alpha': 0.2, 'beta': 0.6}),
}
"""The loss of each form, and its options with their defaults (``None``: no default)."""

_EXPECTATIONS = ('probs', 'drawn')


@EXTENSIONS.register_module()
class ExpectedCost(Extension):
    r"""Lets the architecture minimise what the network is expected to cost as well.

    The cost :math:`E = \sum_s n_s \sum_i w_{s,i} c_{s,i}` adds up all spaces
    with an architecture parameter, where :math:`n_s` is the number of mutables
    that share the space (FBNet, Wu et al., CVPR 2019, section 3.3; ProxylessNAS,
    Cai et al., ICLR 2019, section 3.3).  What does not depend on the
    architecture is not in it, and neither is which inputs a node keeps: every
    edge counts.  With the loss :math:`L` the architecture minimises

    - ``'linear'``: :math:`L + \lambda (E - \mathrm{ref}) / \mathrm{ref}`,
      ProxylessNAS' sum, with the authors' :math:`\lambda = 0.1`;
    - ``'log_product'``: :math:`L \cdot \alpha\, (\log E / \log
      \mathrm{ref})^\beta`, ProxylessNAS' product, with the authors'
      :math:`\alpha = 0.2, \beta = 0.3`;
    - ``'fbnet'``: :math:`L \cdot \alpha \log(E)^\beta`, FBNet's equation 2,
      with the paper's :math:`\alpha = 0.2, \beta = 0.6`;
    - ``'fbnet_sum'``: :math:`L + \alpha \log(E)^\beta`, as others implement it.

    Costs have whatever unit is given (ms, MB, FLOPs), that of ``ref`` as well.
    Only ``'linear'`` does not depend on it.  The logarithms need costs above
    1: where they are below, use a smaller unit (FBNet counts microseconds).

    Args:
        costs: ``{choice: cost}`` for all spaces, ``{space_id: {choice:
            cost}}``, or the path of a YAML file with one of these.  Costs are
            finite and not negative; entries that nothing asks for are ignored.
        form: ``'linear'``, ``'log_product'``, ``'fbnet'`` or ``'fbnet_sum'``.
        ref: The cost to aim at, in the first two forms; above 0, and with a
            logarithm above 1.
        lam: :math:`\lambda`, above 0.
        alpha: :math:`\alpha`, above 0.
        beta: :math:`\beta`, above 0.
        expectation: Whether the weights :math:`w` are ``'probs'``, the scores
            :meth:`~mmrazor_mutators.DartsMutator.choice_probs` of the logits,
            or those ``'drawn'`` in the forward pass (FBNet).  The authors of
            ProxylessNAS take with two gates the softmax over the two paths;
            ``'drawn'`` has its gradient, at the cost of the active path.

    Raises:
        ConfigError: A table, form or option that cannot be used.
    """

    paper = 'Cai et al., ICLR 2019; Wu et al., CVPR 2019'
    _costs: Tensor | None

    def __init__(
        self,
        costs: Mapping[str, Any] | str | os.PathLike[str],
        form: Literal['linear', 'log_product', 'fbnet', 'fbnet_sum'] = 'linear',
        ref: float | None = None,
        lam: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        expectation: Literal['probs', 'drawn'] = 'probs',
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('form', form, tuple(_FORMS)),
            ('expectation', expectation, _EXPECTATIONS),
        ):
            if value not in known:
                raise ConfigError(
                    f'Expected `{name}` to be one of {known}, but got {value!r}; '
                    f'{did_you_mean(str(value), known)}'
                )
        self.form = form
        self.expectation = expectation
        self.options = _options(form, {'ref': ref, 'lam': lam, 'alpha': alpha, 'beta': beta})
        self.table = _read_table(costs)
        self._vectors: dict[str, list[float]] = {}
        # Not persistent: the table belongs to the config.
        self.register_buffer('_costs', None, persistent=False)

    def check(self, mutator: Any) -> None:
        """Look up the costs of every choice.

        Raises:
            ConfigError: Costs that are missing, or a mutator without scores.
        """
        if self.expectation == 'probs' and not hasattr(mutator, 'scores'):
            raise ConfigError(
                f'{type(mutator).__name__} has no `scores`: derive it from DartsMutator, or '
                "use expectation='drawn'"
            )
        vectors, missing = {}, []
        for space_id, space in mutator.search_spaces.items():
            mutable = space['modules'][0]
            if not hasattr(mutable, 'build_arch_param') or not mutable.with_arch_param:
                continue
            of_space = self.table
            if _is_nested(self.table):
                of_space = self.table.get(space_id, {})
            lacking = [name for name in space['choice_names'] if name not in of_space]
            if lacking:
                missing.append(f'{space_id!r} ({", ".join(lacking)})')
                continue
            times = len(space['modules'])
            vectors[space_id] = [times * of_space[name] for name in space['choice_names']]
        if missing:
            raise ConfigError(
                f'Expected `costs` to have every choice, but it lacks those of the spaces '
                f'{"; ".join(missing)}; its entries are {", ".join(map(str, self.table))}'
            )
        self._vectors = vectors

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """Put the costs where the architecture parameters are."""
        like = next(iter(mutator.arch_params.values()), torch.empty(0))
        values = [cost for vector in self._vectors.values() for cost in vector]
        self._costs = torch.tensor(values, dtype=like.dtype, device=like.device)

    def detach(self, mutator: Any) -> None:
        """Forget the costs of the supernet."""
        self._costs, self._vectors = None, {}

    def expected(self, mutator: Any) -> Tensor:
        """Return the cost that the network is expected to have, a scalar with a graph.

        Raises:
            BindingError: No supernet was prepared.
            InputError: Nothing was drawn yet.
        """
        if self._costs is None:
            raise BindingError(
                'ExpectedCost knows no search space yet; call prepare_from_supernet(supernet)'
            )
        weigh = self._drawn if self.expectation == 'drawn' else self._probs
        weights = torch.cat([weigh(mutator, space_id) for space_id in self._vectors])
        return expected_cost(weights, self._costs)

    def _probs(self, mutator: Any, space_id: str) -> Tensor:
        return mutator.scores(space_id)

    def _drawn(self, mutator: Any, space_id: str) -> Tensor:
        if space_id not in mutator.mixtures:
            raise InputError(
                f"In space {space_id!r}: expectation='drawn' needs the weights of a forward "
                'pass; run the supernet first'
            )
        return mutator.mixtures[space_id].weights

    def figures(self, mutator: Any, subnet: Subnet | None) -> dict[str, Any]:
        """Return the expected ``cost``, and the ``budget`` that it is to meet, if any."""
        if self.expectation == 'drawn' and not self._vectors.keys() <= {*mutator.mixtures}:
            return {}
        told = {'cost': self.expected(mutator)}
        return {**told, 'budget': self.options['ref']} if 'ref' in self.options else told

    def arch_objective(self, mutator: Any, task_loss: Tensor) -> Tensor:
        """Return the loss that is aware of the cost.

        Raises:
            ConfigError: A cost that is not above 1 under a logarithm.
        """
        cost, (loss_of, _) = self.expected(mutator), _FORMS[self.form]
        if self.form != 'linear' and bool(cost <= 1):
            raise ConfigError(
                f'Expected the cost to be above 1, because form={self.form!r} takes its '
                f'logarithm, but it is {cost.detach().item():g}; give `costs` in a smaller unit'
            )
        return loss_of(task_loss, cost, **self.options)


def _is_nested(table: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in table.values())


def _options(form: str, given: Mapping[str, float | None]) -> dict[str, float]:
    """Return the options of a form."""
    defaults, options = _FORMS[form][1], {}
    for name, value in given.items():
        if name not in defaults:
            if value is not None:
                raise ConfigError(f'form={form!r} takes no `{name}`, but got {value!r}')
            continue
        chosen = defaults[name] if value is None else value
        bound = 1 if name == 'ref' and form == 'log_product' else 0
        if not isinstance(chosen, (int, float)) or not bound < chosen < math.inf:
            raise ConfigError(
                f'Expected `{name}` to be finite and above {bound} with form={form!r}, but '
                f'got {chosen!r}'
            )
        options[name] = float(chosen)
    return options


def _read_table(costs: Any) -> dict[str, Any]:
    """Return a table whose every cost can be used."""
    source = ''
    if isinstance(costs, (str, os.PathLike)):
        source = f' in {os.fspath(costs)!r}'
        costs = read_yaml(costs, 'file of costs', ConfigError)
    if not isinstance(costs, Mapping) or not costs:
        raise ConfigError(
            f'Expected `costs`{source} to be a mapping {{choice: cost}} or '
            f'{{space_id: {{choice: cost}}}}, but got {costs!r}'
        )
    if not _is_nested(costs):
        return _check_costs(costs, f'`costs`{source}')
    flat = [name for name, value in costs.items() if not isinstance(value, Mapping)]
    if flat:
        raise ConfigError(
            f'Expected `costs`{source} to be for all spaces or for each one, but it mixes '
            f'both: {flat[0]!r} is {costs[flat[0]]!r}'
        )
    return {
        space_id: _check_costs(value, f'`costs`{source}, space {space_id!r}')
        for space_id, value in costs.items()
    }


def _check_costs(costs: Mapping[str, Any], where: str) -> dict[str, float]:
    for name, cost in costs.items():
        is_number = isinstance(cost, (int, float)) and not isinstance(cost, bool)
        if not is_number or not 0 <= cost < math.inf:
            raise ConfigError(
                f'In {where}: expected the cost of {name!r} to be a finite number of at '
                f'least 0, but got {cost!r}'
            )
    return {name: float(cost) for name, cost in costs.items()}
