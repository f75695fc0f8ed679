"""The search step: one step of the architecture, then one of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from ..copies import SavedBuffers
from ..mutators import DifferentiableMutator
from ..typing import ConfigDict, LossFn
from .checks import (
    check_arch_batch,
    check_loss,
    check_optimizers,
    check_options,
    hypergradient_for,
    params_of,
)
from .execution import Execution
from .guards import buffers_kept_on_error, frozen, lent, uncollected
from .hypergradients import Hypergradient
from .hypergradients.micro_batches import loss_and_gradient, mean_loss
from .hypergradients.tensors import filled
from .loss_scale import loss_scale_for
from .losses import Losses
from .moves import Verdicts, clip_, move, undo_of
from .replicas import send_from_first_rank, unwrapped
from .skips import Skips
from .state import load_state, state_of
from .wrapped_optimizers import check_counted

__all__ = ['BilevelSearch']


class BilevelSearch(Losses):
    r"""Trains the weights of a supernet and its architecture parameters together.

    DARTS (Liu et al., ICLR 2019), algorithm 1: each step moves
    :math:`\alpha` down the hypergradient of the loss on an architecture
    batch, then :math:`w` down the gradient of the loss on a training batch.

    Gradients are computed for just what is stepped.  After a step the ``.grad`` of an
    architecture parameter is its hypergradient, and that of a weight its training gradient
    (clipped), with ``None`` where the loss does not depend on it.  A step that raises leaves
    weights, buffers and gradients as they were; an architecture step that was complete by
    then stays, up to the running statistics of its pass.

    Args:
        supernet: Prepared by ``mutator``; one in ``DistributedDataParallel`` is unwrapped,
            since gradients are averaged over ranks here; all ranks begin with those of rank 0.
        mutator: Owns the architecture parameters.
        loss_fn: ``(outputs, targets) -> scalar``.
        weight_optimizer: Over parameters of the supernet.
        arch_optimizer: Over ``mutator.arch_params.values()``.
        hypergradient: ``'first_order'``, ``'finite_difference'``, ``'exact'``,
            ``'neumann'``, ``'cg'``, or a config such as ``dict(type='cg')``.
        grad_clip: Largest norm of the gradient of all weights together; ``None`` for no limit.
        arch_start_epoch: First epoch with architecture steps.
        arch_interval: Take an architecture step in every n-th step only.
        single_level: Whether both are stepped on the training batch at once, by one backward
            pass (SNAS, Xie et al., ICLR 2019, section 2.1).
        channels_last: Whether weights of convolutions keep the channels of a pixel together;
            the results are the same, and most devices are faster.
        checkpoint_cells: Whether to save memory by computing each cell once more in the
            backward pass; see :class:`~.execution.Execution`.
        skip_non_finite: How many steps in a row may be skipped for a loss or gradient that is
            not finite; one more is an error.
        accumulate: Take as many micro-batches in each step, lists of which :meth:`step` is
            given then, for the gradient of the batch that they would make up together, if
            the loss is a mean.  ``neumann`` and ``cg`` keep the graphs of all of them.
        autocast: ``'bfloat16'``, ``'float16'``, or ``None`` for the precision of the weights.
        scaler: A ``torch.amp.GradScaler``, or its options; float16 has one by default.  A step
            whose gradient overflows is skipped and counted, and lowers the scale.
        compile: Whether to compile candidates, see :class:`Compilation`; or a
            mapping of options for ``torch.compile``.

    Raises:
        ConfigError: Optimizers that do not fit the mutator, or an option
            outside of its range.

    >>> import torch
    >>> import mmrazor_mutators as mm
    >>> choices = dict(linear=nn.Linear(2, 1), zero=nn.Linear(2, 1))
    >>> supernet = mm.DifferentiableOP(space_id='a', choices=choices)
    >>> mutator = mm.DartsMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> search = BilevelSearch(
    ...     supernet,
    ...     mutator,
    ...     nn.functional.mse_loss,
    ...     torch.optim.SGD(supernet.parameters(), lr=0.1),
    ...     torch.optim.Adam(mutator.arch_params.values(), lr=3e-4),
    ... )
    >>> batch = torch.ones(4, 2), torch.zeros(4, 1)
    >>> sorted(search.step(batch, batch))
    ['arch_loss', 'loss']
    """

    def __init__(
        self,
        supernet: nn.Module,
        mutator: DifferentiableMutator,
        loss_fn: LossFn,
        weight_optimizer: Optimizer,
        arch_optimizer: Optimizer,
        hypergradient: str | ConfigDict | Hypergradient = 'first_order',
        *,
        grad_clip: float | None = None,
        arch_start_epoch: int = 0,
        arch_interval: int = 1,
        single_level: bool = False,
        channels_last: bool = True,
        checkpoint_cells: bool = False,
        skip_non_finite: int = 0,
        accumulate: int = 1,
        autocast: Literal['bfloat16', 'float16'] | None = None,
        scaler: Any = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        self.supernet = supernet = unwrapped(supernet)
        self.mutator = mutator
        self.loss_fn = loss_fn
        self.weight_optimizer = weight_optimizer
        self.arch_optimizer = arch_optimizer
        self.hypergradient = hypergradient_for(
            hypergradient, single_level=single_level, autocast=autocast
        )
        check_options(grad_clip, arch_interval, skip_non_finite, accumulate)
        self.accumulate = accumulate
        self.single_level = single_level
        self.grad_clip = grad_clip
        self.arch_start_epoch = arch_start_epoch
        self.arch_interval = arch_interval
        self.loss_scale = loss_scale_for(scaler, autocast, mutator)
        self.skips = Skips(skip_non_finite, self.loss_scale)
        self.weights: Sequence[Tensor] = params_of(weight_optimizer)
        self.arch_params: Sequence[Tensor] = params_of(arch_optimizer)
        check_optimizers(mutator, self.weights, self.arch_params, arch_optimizer)
        self.execution = Execution(
            supernet,
            channels_last=channels_last,
            checkpoint_cells=checkpoint_cells,
            autocast=autocast,
            compile=compile,
        )
        send_from_first_rank([*supernet.parameters(), *self.arch_params])
        self.epoch = 0
        self.iteration = 0

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch; call it before the epoch begins."""
        self.mutator.on_epoch(epoch, max_epochs)
        self.epoch = epoch

    @property
    def takes_arch_step(self) -> bool:
        """Whether the next :meth:`step` moves the architecture parameters."""
        due = self.iteration % self.arch_interval == 0
        return self.epoch >= self.arch_start_epoch and due and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether an extension of the mutator has ended the search; leave the loop then."""
        return self.mutator.stopped

    def step(self, train_batch: Any, arch_batch: Any = None) -> dict[str, Tensor]:
        """Step the architecture, where it is due, and then the weights.

        Where all paths run, the host waits for the device once, before the weights
        move; a mutator that draws paths makes it wait in each forward pass as well.

        Args:
            train_batch: ``(inputs, targets)`` of the weights' half of the data.
            arch_batch: The same of the architecture's half; may be ``None`` in a step that
                takes no architecture step, and is not looked at in a single-level search.

        Returns:
            Detached scalars: ``loss``, and ``arch_loss`` if it was evaluated; of a step that
            was skipped ``skipped`` alone.

        Raises:
            NonFiniteLossError: A loss or gradient that is NaN or infinite, and not skipped.
            InputError: A batch or a loss of the wrong form.
        """
        train_batch, arch_batch = self._whole(train_batch, arch_batch)
        for extension in self.mutator.extensions:
            extension.before_step(self, train_batch, arch_batch)
        logs: dict[str, Tensor] = {}
        together = self.single_level and self.takes_arch_step
        with self.skips.counted(logs), self._undone_on_error() as saved:
            if self.takes_arch_step and not together:
                logs['arch_loss'] = self._step_arch(train_batch, arch_batch, saved)
            with self._within_extensions(train_batch, arch_batch):
                step = self._step_both if together else self._step_weights
                logs['loss'] = step(train_batch)
        self.iteration += 1
        return logs

    def step_weights(self, train_batch: Any, arch_batch: Any = None) -> Tensor:
        """Step the weights alone, within the extensions; return the loss."""
        train_batch, arch_batch = self._whole(train_batch, arch_batch)

        def step() -> Tensor:
            with self._undone_on_error(), self._within_extensions(train_batch, arch_batch):
                return self._step_weights(train_batch)

        return self.skips.again(step)

    def finish(self, train_batches: Any, arch_batches: Any = None) -> None:
        """Let extensions act that choose after the last epoch; call it when that is over.

        Args:
            train_batches: Yields, as often as it is iterated over, the batches of the weights.
            arch_batches: The same for the architecture's half.
        """
        for extension in self.mutator.extensions:
            extension.after_search(self, train_batches, arch_batches)

    @contextmanager
    def _undone_on_error(self) -> Iterator[SavedBuffers]:
        check_counted(self)
        self._verdicts = Verdicts(f'epoch {self.epoch}, step {self.iteration}')
        buffers = buffers_kept_on_error(self.supernet)
        with uncollected(), buffers as saved, self._verdicts.read_on_error():
            yield saved

    def _step_arch(self, train_batch: Any, arch_batch: Any, saved: SavedBuffers) -> Tensor:
        """Step the architecture; whether that was right is looked at with the weights."""
        check_arch_batch(arch_batch, self._verdicts.where)
        with lent(self, 'saved_buffers', saved):
            result = self.hypergradient(self, train_batch, arch_batch)
        undo = undo_of(self.arch_optimizer, self.arch_params, self.mutator)
        with self._verdicts.trusting('architecture', *result, undo):
            self._move_arch_params(result.grads)
        return result.loss

    @contextmanager
    def _within_extensions(self, train_batch: Any, arch_batch: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for extension in self.mutator.extensions:
                around = extension.around_weight_step(self, train_batch, arch_batch)
                stack.enter_context(around)
            yield

    def _step_weights(self, batch: Any) -> Tensor:
        with frozen(self.arch_params):
            loss, grads = loss_and_gradient(self, self.train_loss, batch, self.weights)
        size = self._verdicts.claim('training', loss, grads)
        self._verdicts.look(together=True)
        self._move_weights(grads, size)
        return loss

    def _step_both(self, batch: Any) -> Tensor:
        losses: list[Tensor] = []

        def objective_of(part: Any) -> Tensor:
            losses.append(check_loss(self.compute_loss(part)))
            return self.mutator.arch_objective(losses[-1])

        params = [*self.arch_params, *self.weights]
        objective, grads = loss_and_gradient(self, objective_of, batch, params)
        loss = mean_loss(lambda _: losses.pop(0).detach(), batch)
        of_arch = filled(grads[: len(self.arch_params)], self.arch_params)
        of_weights = grads[len(self.arch_params) :]
        size = self._verdicts.claim('training', loss, of_weights)
        self._verdicts.claim('architecture', objective, of_arch)
        self._verdicts.look(together=True)
        self._move_arch_params(of_arch)
        self._move_weights(of_weights, size)
        return loss

    def _move_arch_params(self, grads: Sequence[Tensor]) -> None:
        move(self.arch_optimizer, self.arch_params, grads)
        self.mutator.after_arch_step()

    def _move_weights(self, grads: Sequence[Tensor | None], size: Tensor) -> None:
        clip_(grads, size, self.grad_clip)
        move(self.weight_optimizer, self.weights, grads)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that is needed to go on bit for bit."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises:
            ConfigError: A state of something else; nothing is loaded then.
        """
        load_state(self, state)
