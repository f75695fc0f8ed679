"""DARTS-PT: an operation is as good as the network is bad without it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor

from ..checks import check_count
from ..distributed import agree_on_buffers, average_
from ..errors import ConfigError, InputError, did_you_mean
from ..functional import top_names
from ..mutables import mutables_inside
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..search.guards import buffers_kept, get_rng_state, in_mode, replayed
from ..search.hypergradients.micro_batches import grouped
from .given_weights import check_simplex_weights

__all__ = ['PerturbationSelection']

_METRICS = ('accuracy', 'loss')
_ORDERS = ('random', 'given')


def _misses(outputs: Any, targets: Any) -> Tensor:
    """Return which images were taken for another class."""
    classes = (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.dim() == 2
        and targets.shape == outputs.shape[:1]
        and not targets.is_floating_point()
    )
    if not classes:
        raise InputError(
            "PerturbationSelection with metric='accuracy' needs outputs of shape (N, classes) "
            "and class indices of shape (N,) as targets; use metric='loss'"
        )
    return outputs.argmax(1) != targets


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            raise InputError('Expected `arch_batches` to yield batches, but got none')


@EXTENSIONS.register_module()
class PerturbationSelection(Extension):
    r"""Chooses after the search, by what the trained supernet loses without a choice.

    DARTS-PT (Wang et al., ICLR 2021), section 4, algorithm 1.  One space after
    the other, each choice in turn is left out, and the one without which the
    supernet does worst on the architecture batches is kept; all others are
    dropped, and the supernet is tuned before the next space.  When there are
    operations on all edges, the inputs of each node are chosen the same way.
    Then nothing else is left for ``search_subnet`` to read off.

    As in the authors' code, the weight of what is left out is 0 and the others
    stay as they are, batch norm uses the statistics of the batch, and while
    tuning the architecture parameters go on to learn and the optimizer of the
    weights starts anew with a tenth of its initial rate, which is kept (there is
    a cosine in their code, but nobody steps it).  Running statistics show no
    trace of the comparisons.

    On the DARTS space the authors decide a space of the normal and one of the reduction
    cell in every round: ``groups=['normal*', 'reduce*']``.  They tune once more after the
    last round, which changes nothing, and on NAS-Bench-201 for an epoch less before it.

    It costs one pass over the architecture batches for each choice of each space, and
    ``tune_epochs`` epochs between two rounds.  Checkpoints are not written meanwhile.

    Args:
        tune_epochs: Epochs of tuning between two rounds, at least 0.
        order: ``'random'``, or ``'given'`` for that of the spaces.
        seed: Of the random order, which touches no global random state.
        metric: ``'accuracy'``, or ``'loss'`` for tasks without classes.
        spaces_per_round: How many spaces of each group are decided one after
            the other before the supernet is tuned, at least 1.
        groups: Wildcards of space ids; each space belongs to the first that
            fits.  By default all are one group.
        tune_architecture: Whether architecture parameters go on to learn.
        lr_factor: What the initial learning rate of the weights is multiplied
            by, above 0.

    Raises:
        ConfigError: An option outside of its range, a mutator whose weights
            are drawn or not on the simplex, a space that fits no group, or a
            group without spaces.
    """

    paper = 'Wang et al., ICLR 2021'

    def __init__(
        self,
        tune_epochs: int = 5,
        order: Literal['random', 'given'] = 'random',
        seed: int = 0,
        metric: Literal['accuracy', 'loss'] = 'accuracy',
        spaces_per_round: int = 1,
        tune_architecture: bool = True,
        lr_factor: float = 0.1,
        groups: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_count('tune_epochs', tune_epochs, minimum=0)
        check_count('spaces_per_round', spaces_per_round)
        for name, text, known in (('order', order, _ORDERS), ('metric', metric, _METRICS)):
            if text not in known:
                raise ConfigError(
                    f'Expected `{name}` to be {" or ".join(map(repr, known))}, but got {text!r}'
                )
        if not lr_factor > 0:
            raise ConfigError(f'Expected `lr_factor` to be above 0, but got {lr_factor!r}')
        if groups is not None and (
            isinstance(groups, str)
            or not isinstance(groups, Sequence)
            or not groups
            or not all(isinstance(group, str) for group in groups)
        ):
            raise ConfigError(
                f'Expected `groups` to be a list of wildcards of space ids, such as '
                f"['normal*', 'reduce*'], or None, but got {groups!r}"
            )
        self.groups = ('*',) if groups is None else tuple(groups)
        self.tune_epochs, self.order, self.seed = tune_epochs, order, seed
        self.metric, self.spaces_per_round = metric, spaces_per_round
        self.tune_architecture, self.lr_factor = bool(tune_architecture), lr_factor

    def check(self, mutator: Any) -> None:
        """Refuse mutators whose weights are drawn, or are not on the simplex, and groups."""
        check_simplex_weights(type(self).__name__, mutator)
        used = {space_id: self._group_of(space_id) for space_id in mutator.search_spaces}
        for space_id, group in used.items():
            if group is None:
                raise ConfigError(
                    f'Expected one of `groups` {list(self.groups)} to fit every space, but '
                    f'none fits {space_id!r}; add a last one, such as "*"'
                )
        for number, pattern in enumerate(self.groups):
            if number not in used.values():
                raise ConfigError(
                    f'Expected every one of `groups` to fit a space, but {pattern!r} fits none '
                    f'that no other does before; {did_you_mean(pattern, used)}'
                )

    def _group_of(self, space_id: str) -> int | None:
        fitting = (n for n, group in enumerate(self.groups) if fnmatchcase(space_id, group))
        return next(fitting, None)

    def after_search(self, search: Any, train_batches: Any, arch_batches: Any) -> None:
        """Decide every space.

        Args:
            search: The search, whose epochs are over.
            train_batches: Can be iterated over more than once.
            arch_batches: The same; the comparisons are made on these.

        Raises:
            InputError: No architecture batches, or none with classes.
        """
        if arch_batches is None:
            raise InputError(
                'PerturbationSelection compares on the half of the data that the weights are '
                'not trained on: expected `arch_batches`, but got None'
            )
        rounds = [
            one_round
            for spaces in self.spaces_to_decide(search.mutator)
            for one_round in self._rounds(spaces)
        ]
        with in_mode(search.supernet, training=True), self._fresh_optimizer(search):
            for number, spaces in enumerate(rounds):
                if number:
                    self._tune(search, train_batches, arch_batches)
                for space_id in spaces:
                    self._decide(search, space_id, arch_batches)

    def spaces_to_decide(self, mutator: Any) -> tuple[list[str], list[str]]:
        """Return the spaces with more choices than a subnet keeps, in the order to decide them.

        First those of operations, then those of which a choice holds others.
        """
        operations: list[str] = []
        nodes: list[str] = []
        for space_id, space in mutator.search_spaces.items():
            kept = mutator.kept_choices(space_id)
            if len(kept) > space['num_chosen']:
                inner = any(mutables_inside(space['modules'][0], name) for name in kept)
                (nodes if inner else operations).append(space_id)
        if self.order == 'random':
            rng = random.Random(self.seed)
            rng.shuffle(operations)
            rng.shuffle(nodes)
        return operations, nodes

    def _rounds(self, spaces: Sequence[str]) -> Iterator[list[str]]:
        """Yield what is decided between two tunings, group after group."""
        queues: list[list[str]] = [[] for _ in self.groups]
        for space_id in spaces:
            queues[self._group_of(space_id) or 0].append(space_id)
        count = self.spaces_per_round
        for start in range(0, max(map(len, queues)), count):
            yield [space_id for queue in queues for space_id in queue[start : start + count]]

    def _decide(self, search: Any, space_id: str, arch_batches: Any) -> None:
        """Keep the choices without which the supernet does worst."""
        mutator = search.mutator
        kept = mutator.kept_choices(space_id)
        count = mutator.search_spaces[space_id]['num_chosen']
        eligible = [name for name in kept if name not in mutator.ignore_choices]
        harm = dict.fromkeys(eligible, 0.0)
        if len(eligible) > count:
            draws = get_rng_state()
            for name in eligible:
                with _without(mutator, space_id, name), replayed(draws):
                    harm[name] = self.badness(search, arch_batches)
        chosen = top_names(harm, count)
        mutator.drop_choices(space_id, [name for name in kept if name not in chosen])

    def badness(self, search: Any, batches: Any) -> float:
        """Return the error rate or the loss over all batches, without a trace.

        Args:
            search: The search.
            batches: Yields batches as the search takes them.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=search.weights[0].device)
        with torch.no_grad(), buffers_kept(search.supernet):
            for batch in batches:
                size = search.size_of(batch)
                if self.metric == 'loss':
                    bad = size * search.compute_loss(batch).reshape(())
                else:
                    bad = _misses(*search.predict(batch)).sum()
                sums += torch.stack([bad.to(sums), sums.new_tensor(size)])
        average_([sums])
        if not sums[1]:
            raise InputError('Expected `arch_batches` to yield batches, but got none')
        return float(sums[0] / sums[1])

    @contextmanager
    def _fresh_optimizer(self, search: Any) -> Iterator[None]:
        groups = search.weight_optimizer.param_groups
        rates = [group['lr'] for group in groups]
        try:
            search.weight_optimizer.state.clear()
            for group in groups:
                group['lr'] = self.lr_factor * group.get('initial_lr', group['lr'])
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group['lr'] = rate

    def _tune(self, search: Any, train_batches: Any, arch_batches: Any) -> None:
        step = search.step if self.tune_architecture else search.step_weights
        count = search.accumulate
        for _ in range(self.tune_epochs):
            arch = grouped(_again_and_again(arch_batches), count)
            for pair in zip(grouped(train_batches, count), arch, strict=False):
                step(*pair)
        agree_on_buffers(search.supernet)


@contextmanager
def _without(mutator: Any, space_id: str, name: str) -> Iterator[None]:
    """Leave a choice out: its weight is 0, and those of the others are as they are."""
    space = mutator.search_spaces[space_id]
    index = space['choice_names'].index(name)
    if space_id in mutator.arch_params:
        with torch.no_grad():
            mixture = mutator.relax_spaces()[space_id]
        paths = tuple(i for i in mutator.kept_indices(space_id) if i != index)
        weights = mixture.weights.index_fill(
            0, torch.tensor([index], device=mixture.weights.device), 0.0
        )
        given = {space_id: mixture._replace(weights=weights, paths=paths)}
        with mutator.mixing(given):
            yield
        return
    masks = [mutable.choice_mask for mutable in space['modules']]
    try:
        for mutable, mask in zip(space['modules'], masks, strict=True):
            less = mask.clone()
            less[index] = False
            mutable.set_choice_mask(less)
        yield
    finally:
        for mutable, mask in zip(space['modules'], masks, strict=True):
            mutable.set_choice_mask(mask)
