"""The search step: one step of the architecture, then one of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..builder import build_hypergradient
from ..distributed import average_
from ..errors import ConfigError, InputError, NonFiniteLossError
from ..mutators import DifferentiableMutator
from ..typing import ConfigDict, LossFn
from .checks import check_loss, check_optimizers, check_options, params_of
from .guards import buffers_kept_on_error, frozen
from .hypergradients import ArchGradient, FirstOrder, Hypergradient
from .hypergradients.tensors import filled, gradients, norm, unshared
from .layout import lay_out_channels_last
from .state import load_state, state_of

__all__ = ['BilevelSearch']


class BilevelSearch:
    r"""Trains the weights of a supernet and its architecture parameters together.

    DARTS (Liu et al., ICLR 2019), algorithm 1: each step moves
    :math:`\alpha` down the hypergradient of the loss on an architecture
    batch, then :math:`w` down the gradient of the loss on a training batch.

    Gradients are computed for just what is stepped.  After a step the
    ``.grad`` of an architecture parameter is its hypergradient, and that of a
    weight its training gradient (clipped), with ``None`` where the loss does
    not depend on it.  A step that raises leaves weights, buffers and
    gradients as they were; an architecture step that was complete by then
    stays.

    Args:
        supernet: Prepared by ``mutator``.
        mutator: Owns the architecture parameters.
        loss_fn: ``(outputs, targets) -> scalar``.
        weight_optimizer: Over parameters of the supernet.
        arch_optimizer: Over ``mutator.arch_params.values()``.
        hypergradient: ``'first_order'``, ``'finite_difference'``,
            ``'exact'``, ``'neumann'``, ``'cg'``, or a config such as
            ``dict(type='finite_difference', radius=0.01)``.
        grad_clip: Largest norm of the gradient of all weights together;
            ``None`` for no limit.
        arch_start_epoch: First epoch with architecture steps.
        arch_interval: Take an architecture step in every n-th step only.
        single_level: Whether both are stepped on the training batch at once,
            by the gradients of one backward pass (SNAS, Xie et al., ICLR 2019,
            section 2.1), instead of in turn on batches of their own.
        channels_last: Whether the weights of convolutions keep the channels of a
            pixel together, so that feature maps do; the results are the same,
            and most devices are faster.

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
    ) -> None:
        self.supernet = supernet
        self.mutator = mutator
        self.loss_fn = loss_fn
        self.weight_optimizer = weight_optimizer
        self.arch_optimizer = arch_optimizer
        self.hypergradient: Hypergradient = (
            hypergradient
            if isinstance(hypergradient, Hypergradient)
            else build_hypergradient(hypergradient)
        )
        check_options(grad_clip, arch_interval)
        if single_level and not isinstance(self.hypergradient, FirstOrder):
            raise ConfigError(
                'A single-level search has one loss, so expected '
                f"hypergradient='first_order', but got {hypergradient!r}"
            )
        self.single_level = single_level
        self.grad_clip = grad_clip
        self.arch_start_epoch = arch_start_epoch
        self.arch_interval = arch_interval
        self.weights: Sequence[Tensor] = params_of(weight_optimizer)
        self.arch_params: Sequence[Tensor] = params_of(arch_optimizer)
        check_optimizers(mutator, self.weights, self.arch_params, arch_optimizer)
        if channels_last:
            lay_out_channels_last(supernet)
        self.epoch = 0
        self.iteration = 0

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch; call it before the epoch begins."""
        self.mutator.on_epoch(epoch, max_epochs)
        self.epoch = epoch

    def compute_loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch; override it for batches of another form.

        Args:
            batch: A pair ``(inputs, targets)``.
        """
        if not isinstance(batch, Sequence) or len(batch) != 2:
            came = (
                f'{len(batch)} parts' if isinstance(batch, Sequence) else type(batch).__name__
            )
            raise InputError(f'Expected a batch to be a pair (inputs, targets), but got {came}')
        inputs, targets = batch
        return self.loss_fn(self.supernet(inputs), targets)

    def train_loss(self, batch: Any) -> Tensor:
        """Return the loss that the weights minimise."""
        return check_loss(self.compute_loss(batch))

    def arch_loss(self, batch: Any) -> Tensor:
        """Return the loss that the architecture minimises, regularisation included."""
        return self.mutator.arch_objective(check_loss(self.compute_loss(batch)))

    def gradient(
        self, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool = False
    ) -> list[Tensor | None]:
        """Return gradients, averaged over the ranks of a distributed run.

        ``None`` where the loss does not depend on a parameter.
        """
        grads = unshared(gradients(loss, params, retain_graph=retain_graph))
        average_([grad for grad in grads if grad is not None])
        return grads

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

        Args:
            train_batch: ``(inputs, targets)`` of the weights' half of the data.
            arch_batch: The same of the architecture's half; may be ``None``
                in a step that takes no architecture step, and is not looked
                at in a single-level search.

        Returns:
            Detached scalars: ``loss``, and ``arch_loss`` if it was evaluated.

        Raises:
            NonFiniteLossError: A loss or hypergradient that is NaN or infinite.
            InputError: A batch or a loss of the wrong form.
        """
        for extension in self.mutator.extensions:
            extension.before_step(self, train_batch, arch_batch)
        logs = {}
        together = self.single_level and self.takes_arch_step
        with buffers_kept_on_error(self.supernet):
            if self.takes_arch_step and not together:
                logs['arch_loss'] = self._step_arch(train_batch, arch_batch)
        step = self._step_both if together else self._step_weights
        logs['loss'] = self.step_weights(train_batch, arch_batch, step)
        self.iteration += 1
        return logs

    def step_weights(
        self, train_batch: Any, arch_batch: Any = None, step: Any = None
    ) -> Tensor:
        """Step the weights (or take ``step``) within the extensions; return the loss."""
        with buffers_kept_on_error(self.supernet), ExitStack() as stack:
            for extension in self.mutator.extensions:
                around = extension.around_weight_step(self, train_batch, arch_batch)
                stack.enter_context(around)
            return (step or self._step_weights)(train_batch)

    def finish(self, train_batches: Any, arch_batches: Any = None) -> None:
        """Let extensions act that choose after the last epoch; call it when that is over.

        Args:
            train_batches: Can be iterated over more than once; yields
                ``(inputs, targets)`` of the weights' half of the data.
            arch_batches: The same for the architecture's half.
        """
        for extension in self.mutator.extensions:
            extension.after_search(self, train_batches, arch_batches)

    def _step_arch(self, train_batch: Any, arch_batch: Any) -> Tensor:
        if arch_batch is None:
            raise InputError(
                f'Step {self.iteration} of epoch {self.epoch} moves the architecture: expected '
                '`arch_batch` to be a pair (inputs, targets), but got None'
            )
        result: ArchGradient = self.hypergradient(self, train_batch, arch_batch)
        self._check_finite('architecture', result.loss, result.grads)
        self._move_arch_params(result.grads)
        return result.loss

    def _move_arch_params(self, grads: Sequence[Tensor]) -> None:
        for param, grad in zip(self.arch_params, grads, strict=True):
            param.grad = grad
        self.arch_optimizer.step()
        self.mutator.after_arch_step()

    def _step_weights(self, train_batch: Any) -> Tensor:
        with frozen(self.arch_params):
            loss = self.train_loss(train_batch)
            grads = self.gradient(loss, self.weights)
        used = [grad for grad in grads if grad is not None]
        size = self._check_finite('training', loss.detach(), used)
        self._move_weights(grads, used, size)
        return loss.detach()

    def _step_both(self, batch: Any) -> Tensor:
        loss = check_loss(self.compute_loss(batch))
        objective = self.mutator.arch_objective(loss)
        grads = self.gradient(objective, [*self.arch_params, *self.weights])
        of_arch = filled(grads[: len(self.arch_params)], self.arch_params)
        of_weights = grads[len(self.arch_params) :]
        used = [grad for grad in of_weights if grad is not None]
        size = self._check_finite('training', loss.detach(), used)
        self._check_finite('architecture', objective.detach(), of_arch)
        self._move_arch_params(of_arch)
        self._move_weights(of_weights, used, size)
        return loss.detach()

    def _move_weights(
        self, grads: Sequence[Tensor | None], used: list[Tensor], size: Tensor
    ) -> None:
        if self.grad_clip is not None and used:
            torch._foreach_mul_(used, (self.grad_clip / (size + 1e-6)).clamp(max=1.0))
        for weight, grad in zip(self.weights, grads, strict=True):
            weight.grad = grad
        self.weight_optimizer.step()

    def _check_finite(self, which: str, loss: Tensor, grads: Sequence[Tensor]) -> Tensor:
        """Return the norm of the gradient, if that and the loss are finite."""
        size = norm(grads).to(loss)
        if torch.isfinite(loss + size):
            return size
        what = f'The {which} loss is {loss.item():g}'
        if torch.isfinite(loss):
            what = f'The gradient of the {which} loss ({loss.item():g}) is {size.item():g}'
        raise NonFiniteLossError(
            f'{what} in epoch {self.epoch}, step {self.iteration}; no step was taken. Look for '
            'NaN in the batch, or lower the learning rates or set grad_clip'
        )

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that is needed to go on bit for bit."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises:
            ConfigError: A state of something else; nothing is loaded then.
        """
        load_state(self, state)
