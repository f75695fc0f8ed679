"""Budget: the network found costs what it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..costs import (
    Chosen,
    Conditions,
    CostModel,
    build_cost_model,
    check_possible,
    choice_probabilities,
    choose_within,
    extreme_cost,
    find_arguments,
    latency_model,
    score_terms,
    space_conditions,
)
from ..errors import BindingError, ConfigError, SearchSpaceError
from ..mutators import DartsMutator
from ..registry import EXTENSIONS
from ..typing import Subnet
from .lagrangian import Constrained

__all__ = ['Budget']


_NAMES = ('params', 'macs', 'memory', 'latency_ms')


@EXTENSIONS.register_module()
class Budget(Constrained):
    r"""Holds the network to budgets: parameters, multiply-adds, memory, milliseconds.

    While the search goes on, an augmented Lagrangian of the expected costs (Nocedal & Wright,
    Numerical Optimization, section 17.4; see :class:`Constrained`) is added to the loss, so
    that there is no strength to choose. At the end ``search_subnet`` returns the network of
    the largest sum of log-probabilities among those that are within all budgets, and at most
    ``tolerance`` below one of them; or where the steps of the space are coarser, the closest
    one below. That is an integer program, solved exactly.

    Args:
        params: How many parameters.
        macs: How many multiply-adds in a forward pass of ``example_inputs``.
        memory: Bytes of the largest input and output of one layer.
        latency_ms: Milliseconds of a forward pass, by the table ``profile``.
        tolerance: By which fraction of a budget the network may be below it.
        interval: After how many passes the multipliers follow.
        example_inputs: What the supernet is called with: tensors, as for
            :func:`build_cost_model`, or the shape of one tensor, as ``[1, 3, 32, 32]``. By
            default those of ``make_searchable``.
        profile: File that ``mmrazor-mutators profile`` has written; for ``latency_ms``.
        ramp: Share of the epochs in which the budgets come down from what networks are
            expected to cost at first; it needs ``mutator.on_epoch(epoch, max_epochs)``.

    A budget of at most 1 is a fraction of the original network, or where there is none of the
    most expensive one; above 1 it is an absolute number.

    Raises:
        ConfigError: No budget, or one that is no positive number.
        SearchSpaceError: When prepared: a budget that no network can meet.

    >>> import mmrazor_mutators as mm
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> rules = [dict(match='0', width=[1, 2, 3, 4, 5, 6, 7, 8])]
    >>> supernet = mm.make_searchable(net, rules, torch.zeros(1, 3))
    >>> mutator = mm.DartsMutator(extensions=[dict(type='Budget', params=0.5)])
    >>> mutator.prepare_from_supernet(supernet)
    >>> mutator.search_subnet()['0']['chosen']  # 6 * 3 + 2 parameters, of 50
    ['w3']
    """

    paper = 'Nocedal & Wright, Numerical Optimization, 2006'

    def __init__(
        self,
        params: float | None = None,
        macs: float | None = None,
        memory: float | None = None,
        latency_ms: float | None = None,
        tolerance: float = 0.03,
        interval: int = 10,
        example_inputs: Any = None,
        profile: str | None = None,
        ramp: float = 0.5,
    ) -> None:
        given = dict(zip(_NAMES, (params, macs, memory, latency_ms), strict=True))
        budgets = {name: value for name, value in given.items() if value is not None}
        super().__init__(len(budgets), interval, ramp)
        self.budgets = budgets
        for name, value in self.budgets.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ConfigError(
                    f'Expected the budget of `{name}` to be a number above 0 (at most 1 for a '
                    f'fraction of the original), but got {value!r}'
                )
        if not self.budgets:
            raise ConfigError(f'Expected a budget of at least one of {", ".join(_NAMES)}')
        if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
            raise ConfigError(f'Expected `tolerance` from 0 to below 1, but got {tolerance!r}')
        if 'latency_ms' in self.budgets and profile is None:
            raise ConfigError(
                'A budget of `latency_ms` needs `profile`, the file that "mmrazor-mutators '
                'profile" writes on the device where the network is to run'
            )
        self.tolerance = float(tolerance)
        is_shape = isinstance(example_inputs, (list, tuple)) and all(
            isinstance(n, int) for n in example_inputs
        )
        self.example_inputs = torch.zeros(*example_inputs) if is_shape else example_inputs
        self.profile = profile
        self._forget()

    def _forget(self) -> None:
        self._models: dict[str, CostModel] = {}
        self._limits: dict[str, float] = {}
        self._conditions: dict[str, Conditions] = {}
        self._last: tuple[Any, Chosen | None] | None = None

    def check(self, mutator: Any) -> None:
        """Refuse mutators that do not compare choices by scores.

        Raises:
            ConfigError: A mutator whose ``search_subnet`` asks no extension.
        """
        asks = getattr(type(mutator), 'search_subnet', None) is DartsMutator.search_subnet
        if not asks:
            raise ConfigError(
                f'{type(mutator).__name__} reads off subnets in its own way, so that a budget '
                'could be broken; derive it from DartsMutator, whose `search_subnet` asks'
            )

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """Count what networks cost, and refuse budgets that none can meet.

        Raises:
            SearchSpaceError: A budget below the smallest cost of all networks.
        """
        self._models = {name: self._model(name, supernet) for name in self.budgets}
        self._conditions = space_conditions(supernet)
        try:
            self._limits = {name: self._limit(name, mutator) for name in self.budgets}
            counts, allowed = self._counts(mutator), self.allowed(mutator)
            check_possible(self._models, self._limits, counts, allowed)
        except BaseException:
            self._forget()
            raise

    def detach(self, mutator: Any) -> None:
        """Forget the costs of the supernet."""
        self._forget()

    def _model(self, name: str, supernet: nn.Module) -> CostModel:
        inputs = self.example_inputs
        if name == 'latency_ms':
            return latency_model(supernet, self.profile, inputs)
        if name != 'params':
            find_arguments(supernet, inputs)
        return build_cost_model(supernet, name, inputs)  # type: ignore[arg-type]

    def _counts(self, mutator: Any) -> dict[str, int]:
        return {sid: space['num_chosen'] for sid, space in mutator.search_spaces.items()}

    def _limit(self, name: str, mutator: Any) -> float:
        budget = float(self.budgets[name])
        if budget > 1:
            return budget
        whole = self.reference(name, mutator)
        return 0.0 if whole is None else budget * self._models[name].of(whole)

    @classmethod
    def of(cls, mutator: Any) -> Budget | None:
        """Return the budget that decides what a mutator finds; ``None`` without one."""
        extensions = getattr(mutator, 'extensions', ())
        return next((each for each in extensions if isinstance(each, cls)), None)

    @staticmethod
    def allowed(mutator: Any) -> dict[str, Sequence[str]]:
        """Return the choices that may be made in each space."""
        return {space_id: mutator._eligible(space_id) for space_id in mutator.search_spaces}

    def reference(self, name: str, mutator: Any) -> Chosen | None:
        """Return the network that a budget of at most 1 is a fraction of."""
        model = self._models[name]
        if model.original is not None:
            return model.original
        largest = extreme_cost(model, self._counts(mutator), True, self.allowed(mutator))
        return None if largest is None else largest[1]

    def costs(self, mutator: Any) -> dict[str, Tensor]:
        """Return the expected costs by now, ``{name: scalar with a graph}``.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_attached()
        weights = choice_probabilities(mutator)
        return {name: model.expected(weights) for name, model in self._models.items()}

    def costs_of(self, chosen: Chosen) -> dict[str, float]:
        """Return what one network costs, ``{name: number}``.

        Args:
            chosen: ``{space_id: names}``.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_attached()
        return {name: model.of(chosen) for name, model in self._models.items()}

    def figures(self, mutator: Any, subnet: Subnet | None) -> dict[str, Any]:
        """Return for each budget what is expected, what would be found, and the budget."""
        told: dict[str, Any] = {f'cost_{n}': cost for n, cost in self.costs(mutator).items()}
        if subnet is not None:
            found = self.costs_of({sid: entry['chosen'] for sid, entry in subnet.items()})
            told.update({f'found_{name}': cost for name, cost in found.items()})
        return {**told, **{f'budget_{name}': limit for name, limit in self._limits.items()}}

    @property
    def limits(self) -> dict[str, float]:
        """The budgets as absolute numbers, ``{name: number}``; empty before ``prepare``."""
        return dict(self._limits)

    @property
    def models(self) -> dict[str, CostModel]:
        """What any network costs, ``{name: model}``; empty before ``prepare``."""
        return dict(self._models)

    def correct(self, name: str, model: CostModel, limit: float) -> None:
        """Count one cost by another model from now on, against another limit."""
        self._check_attached()
        self._models[name], self._limits[name] = model, limit
        self._last = None

    def _check_attached(self) -> None:
        if not self._models:
            raise BindingError(
                'Budget knows no search space yet; call prepare_from_supernet(supernet)'
            )

    def penalty(self, mutator: Any) -> Tensor:
        """Return what the excess costs the architecture, and let multipliers follow it."""
        costs = self.costs(mutator)
        ratios = [cost / self._limits[name] for name, cost in costs.items()]
        return self.pressure(torch.stack(ratios))

    def read_off(self, mutator: Any, allowed: Mapping[str, Sequence[str]]) -> Chosen | None:
        """Return the most likely choices within all budgets.

        Raises:
            SearchSpaceError: None are, because choices were dropped or vetoed.
        """
        self._check_attached()
        objective = score_terms(self._conditions, mutator, allowed)
        # Solving takes a second where there are many choices, and several ask at each epoch.
        key = (
            [(term.spaces, term.table.tolist()) for term in objective],
            {space_id: [*names] for space_id, names in allowed.items()},
            dict(self._limits),
        )
        if self._last is None or self._last[0] != key:
            found = choose_within(
                list(self._models.values()),
                list(self._limits.values()),
                objective,
                self._counts(mutator),
                allowed,
                self.tolerance,
            )
            self._last = key, found
        found = self._last[1]
        if found is None:
            raise SearchSpaceError(
                'No network is within the budgets any more, since choices were dropped or '
                'vetoed; keep smaller ones in the search'
            )
        return found
