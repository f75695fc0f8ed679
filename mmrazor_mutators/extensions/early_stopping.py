"""Searches that end before they collapse: RobustDARTS and DARTS+."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import check_count
from ..errors import ConfigError
from ..functional import has_risen
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..search.curvature import hessian_product, largest_eigenvalue
from ..search.guards import buffers_kept, frozen, get_rng_state, replayed
from ..search.second_order import differentiable_twice
from .choices import check_choice_names, check_names_occur

__all__ = ['EarlyStopping', 'HessianEarlyStopping', 'SkipEarlyStopping']


class EarlyStopping(Extension):
    """What both rules have in common: they look at each epoch when it is over.

    That is before the first step of the next one, and after the search.  A
    search that ends goes back to the architecture parameters of an epoch
    before, takes no architecture step any more, and its loop is left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False
        self._running: int | None = None
        self._snapshots: dict[int, dict[str, Tensor]] = {}

    def before_step(self, search: Any, train_batch: Any, arch_batch: Any) -> None:
        """Look at the epoch that has ended, if one has."""
        if self.stopped:
            return
        if self._running is not None and search.epoch != self._running:
            batch = train_batch if search.single_level else arch_batch
            self.after_epoch(search, self._running, batch)
        self._running = search.epoch

    def after_search(self, search: Any, train_batches: Any, arch_batches: Any) -> None:
        """Look at the last epoch."""
        if not self.stopped and self._running is not None:
            batches = train_batches if search.single_level else arch_batches
            batch = None
            if batches is not None:
                with replayed(get_rng_state()):
                    batch = next(iter(batches), None)
            self.after_epoch(search, self._running, batch)
        self._running = None

    @abstractmethod
    def after_epoch(self, search: Any, epoch: int, batch: Any) -> None:
        """Decide whether the search goes on.

        Args:
            search: The search.
            epoch: The one that has ended.
            batch: Of the architecture's half, or ``None``.
        """

    def keep(self, mutator: Any, epoch: int, number: int) -> None:
        """Remember the architecture parameters of an epoch, and of the last ``number``."""
        self._snapshots[epoch] = {
            name: param.detach().clone() for name, param in mutator.named_parameters()
        }
        for old in sorted(self._snapshots)[:-number]:
            del self._snapshots[old]

    def stop_at(self, mutator: Any, epoch: int) -> None:
        """End the search, with the architecture parameters of an epoch that was kept."""
        params = dict(mutator.named_parameters())
        with torch.no_grad():
            for name, value in self._snapshots[epoch].items():
                params[name].copy_(value)
        self.stopped = True

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds beside the parameters."""
        return {
            **super().get_extra_state(),
            'stopped': self.stopped,
            'running': self._running,
            'snapshots': {epoch: dict(kept) for epoch, kept in self._snapshots.items()},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        super().set_extra_state(state)
        self.stopped = state['stopped']
        self._running = state['running']
        self._snapshots = {epoch: dict(kept) for epoch, kept in state['snapshots'].items()}


@EXTENSIONS.register_module()
class HessianEarlyStopping(EarlyStopping):
    r"""Ends the search when the validation loss becomes sharp in the architecture.

    RobustDARTS (Zela et al., ICLR 2020), section 5.1: with :math:`\lambda` the
    largest eigenvalue of :math:`\nabla^2_\alpha L_\mathrm{val}` and
    :math:`\bar\lambda` its average over a window around an epoch, the search
    ends when :math:`\bar\lambda(i) / \bar\lambda(i - k) > f`, and goes back to
    :math:`i - k`.

    This follows the authors' code: the eigenvalue is the largest one with its
    sign, of one batch in training mode, and the weight decay of the
    architecture parameters is part of the Hessian; the window is centred, so
    what is known after epoch ``e`` is the average for ``e - window // 2``; the
    last epoch ends the search in any case.  Counted in evaluations, so that
    with ``interval`` 2 every distance in epochs doubles.

    An evaluation costs one pass forward and, through a graph of second order,
    up to ``max_products`` passes backward.

    Args:
        window: Number of eigenvalues in an average, odd.
        delta: How many evaluations apart the averages are that are compared,
            at least 1.
        factor: How many times the older average the newer one may be, above 0.
        start_epoch: First epoch that the search can go back to.
        interval: Evaluate after every n-th epoch; the authors ran their code
            with 2.
        max_products: Largest number of Hessian products of an evaluation.

    Attributes:
        eigenvalues: One for each of ``epochs``.
        epochs: When they were evaluated.

    Raises:
        ConfigError: An option outside of its range, or a mutator whose loss is
            random.
    """

    paper = 'Zela et al., ICLR 2020'
    takes_gradients = True

    def __init__(
        self,
        window: int = 5,
        delta: int = 4,
        factor: float = 1.3,
        start_epoch: int = 10,
        interval: int = 1,
        max_products: int = 50,
    ) -> None:
        super().__init__()
        check_count('window', window)
        check_count('delta', delta)
        check_count('start_epoch', start_epoch, minimum=0)
        check_count('interval', interval)
        check_count('max_products', max_products)
        if window % 2 == 0:
            raise ConfigError(f'Expected `window` to be odd, but got {window!r}')
        if not factor > 0:
            raise ConfigError(f'Expected `factor` to be above 0, but got {factor!r}')
        self.window, self.delta, self.factor = window, delta, factor
        self.start_epoch, self.interval = start_epoch, interval
        self.max_products = max_products
        self.eigenvalues: list[float] = []
        self.epochs: list[int] = []

    def check(self, mutator: Any) -> None:
        """Refuse mutators that draw: from epoch to epoch the loss would be another one."""
        if mutator.samples != 'nothing':
            raise ConfigError(
                'HessianEarlyStopping compares the curvature of a loss between epochs, so '
                f'expected a mutator that draws nothing, but {type(mutator).__name__} draws '
                f'{mutator.samples}'
            )

    def after_epoch(self, search: Any, epoch: int, batch: Any) -> None:
        """Evaluate the eigenvalue, and stop where it has risen."""
        last = epoch == self.max_epochs - 1
        # Before the architecture moves, a search needs no batch for it.
        if batch is None or (epoch % self.interval and not last):
            return
        self.eigenvalues.append(self.evaluate(search, batch))
        self.epochs.append(epoch)
        distance = self.delta + self.window // 2
        self.keep(search.mutator, epoch, distance + 1)
        if last or len(self.epochs) <= distance:
            return
        back = self.epochs[-1 - distance]
        risen = has_risen(self.eigenvalues, self.window, self.delta, self.factor)
        if risen and back >= self.start_epoch:
            self.stop_at(search.mutator, back)

    def evaluate(self, search: Any, batch: Any) -> float:
        """Return the largest eigenvalue on a batch; weights and statistics stay as they are.

        Args:
            search: The search.
            batch: ``(inputs, targets)``.
        """
        quiet = buffers_kept(search.supernet), replayed(get_rng_state())
        with quiet[0], quiet[1], frozen(search.weights), differentiable_twice():
            loss = search.train_loss(batch)
            for group in search.arch_optimizer.param_groups:
                decay = group.get('weight_decay', 0)
                if decay:
                    squares = torch.stack([param.square().sum() for param in group['params']])
                    loss = loss + 0.5 * decay * squares.sum()
            product = hessian_product(loss, search.arch_params)
            like = torch.cat([param.detach().reshape(-1) for param in search.arch_params])
            return largest_eigenvalue(product, like, max_products=self.max_products)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds beside the parameters."""
        history = {'eigenvalues': list(self.eigenvalues), 'epochs': list(self.epochs)}
        return {**super().get_extra_state(), **history}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        super().set_extra_state(state)
        self.eigenvalues, self.epochs = list(state['eigenvalues']), list(state['epochs'])


@EXTENSIONS.register_module()
class SkipEarlyStopping(EarlyStopping):
    """Ends the search when there are too many skip connections in a cell.

    DARTS+ (Liang et al., 2019), section 3.3, criterion 1: two of them in the
    normal cell.  The search goes back to the epoch before the one after which
    there were so many.  As long as no epoch has ended with fewer, there is
    nothing to go back to, and it goes on.

    Args:
        max_skips: The search ends when there are this many, at least 1.
        names: What counts as a skip connection.
        prefix: How the ids of the spaces begin that count; ``''`` for all.

    Raises:
        ConfigError: An option outside of its range, or no space with such an id
            has such a choice.
    """

    paper = 'Liang et al., 2019'

    def __init__(
        self,
        max_skips: int = 2,
        names: Sequence[str] = ('skip_connect',),
        prefix: str = 'normal',
    ) -> None:
        super().__init__()
        check_count('max_skips', max_skips)
        self.max_skips, self.prefix = max_skips, prefix
        self.names = check_choice_names(names)

    def check(self, mutator: Any) -> None:
        """Refuse a search space without what is counted."""
        check_names_occur(mutator, self.names, self.prefix)

    def count(self, mutator: Any) -> int:
        """Return how many skip connections a subnet would have now."""
        return sum(
            name in self.names
            for space_id, choice in mutator.search_subnet().items()
            if space_id.startswith(self.prefix)
            for name in choice['chosen']
        )

    def after_epoch(self, search: Any, epoch: int, batch: Any) -> None:
        """Count, and stop where there are too many."""
        if self.count(search.mutator) < self.max_skips:
            self.keep(search.mutator, epoch, 1)
        elif self._snapshots:
            self.stop_at(search.mutator, max(self._snapshots))
