"""DARTS as a model: searching with two optimizers, then retraining what was found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..builder import build_mutator
from ..checks import check_count
from ..errors import ConfigError, InputError
from ..mutators import BaseMutator
from ..registry import ALGORITHMS
from ..search import BilevelSearch
from ..search.loss_scale import loss_scale_for
from ..typing import ConfigDict, LossFn, Subnet
from .base import BaseAlgorithm, check_retraining
from .batches import PreparedBatches, parts_of
from .legacy_steps import is_legacy_step, outputs_of, pair_of_search
from .losses import accuracy_of, evaluate_loss
from .optimizers import clipping_of, optimizer_of
from .task_models import TaskSearch

__all__ = ['Darts']


@ALGORITHMS.register_module()
class Darts(BaseAlgorithm):
    r"""A supernet that is searched, or the network found that is trained anew.

    DARTS (Liu et al., ICLR 2019), algorithm 1.  Which mixture and which
    schedule are searched with is the mutator's business, so this is the model
    for GDAS, SNAS and the like as well.  While searching, a step is one of
    :class:`BilevelSearch`; while retraining, the loss is
    :math:`L(\mathrm{logits}) + w\,L(\mathrm{auxiliary\ logits})` where the
    architecture has an auxiliary head.

    An architecture may compute its own losses, and batches may be dicts; see
    :class:`BaseAlgorithm`.

    Args:
        architecture: Config of the supernet, or a supernet.
        mutator: Config of the mutator, or a mutator; ``None`` for an
            architecture without anything to search.
        retraining: Whether to train the network of ``mutable_cfg``.
        mutable_cfg: The subnet, or the path of its file; needed for retraining.
        unroll: ``True`` for the second order by finite differences, as in
            MMRazor v0.2.0.
        hypergradient: As for :class:`BilevelSearch`; by default what
            ``unroll`` says.
        loss: As for :class:`BaseAlgorithm`.
        auxiliary_weight: As for :class:`BaseAlgorithm`.
        grad_clip: Largest norm of the weights' gradient while searching; by
            default what ``clip_grad`` of the optimizer wrapper says, and 5 with
            the bare optimizers of MMRazor v0.2.0.
        arch_start_epoch: As for :class:`BilevelSearch`.
        arch_interval: As for :class:`BilevelSearch`.
        single_level: As for :class:`BilevelSearch`.
        channels_last: As for :class:`BilevelSearch`.
        checkpoint_cells: As for :class:`BilevelSearch`.
        skip_non_finite: As for :class:`BilevelSearch`; of a run that is resumed, those in
            a row are counted anew.
        accumulate: As for :class:`BilevelSearch`; a step takes as many batches of each loader.
        autocast: As for :class:`BilevelSearch`.
        scaler: Options of the scaler, as for :class:`BilevelSearch`; its state is kept in
            checkpoints.
        compile: As for :class:`BilevelSearch`.
        data_preprocessor: As for :class:`BaseAlgorithm`.
        init_cfg: As for :class:`BaseAlgorithm`.
        pruner: As for :class:`BaseAlgorithm`.
        distiller: As for :class:`BaseAlgorithm`.
        channel_cfg: As for :class:`BaseAlgorithm`.

    Attributes:
        architecture: The supernet, or the plain network while retraining.
        mutator: The mutator, or ``None`` while retraining.

    Raises:
        ConfigError: Arguments that contradict each other.
        SubnetError: A subnet that does not fit the architecture.
    """

    def __init__(
        self,
        architecture: nn.Module | ConfigDict,
        mutator: BaseMutator | ConfigDict | None = None,
        retraining: bool = False,
        mutable_cfg: Subnet | str | os.PathLike[str] | None = None,
        unroll: bool = False,
        hypergradient: Any | None = None,
        loss: LossFn | ConfigDict | None = None,
        auxiliary_weight: float = 0.4,
        grad_clip: float | None = None,
        arch_start_epoch: int = 0,
        arch_interval: int = 1,
        single_level: bool = False,
        channels_last: bool = True,
        checkpoint_cells: bool = False,
        autocast: Literal['bfloat16', 'float16'] | None = None,
        compile: bool | Mapping[str, Any] = False,
        data_preprocessor: Any | None = None,
        init_cfg: Any | None = None,
        *,
        skip_non_finite: int = 0,
        accumulate: int = 1,
        scaler: Any = None,
        pruner: None = None,
        distiller: None = None,
        channel_cfg: None = None,
    ) -> None:
        if unroll and hypergradient not in (None, 'finite_difference'):
            raise ConfigError(
                "unroll=True means hypergradient='finite_difference', but got "
                f'hypergradient={hypergradient!r} as well; give one of them'
            )
        check_retraining(retraining, mutator, mutable_cfg)
        super().__init__(
            architecture,
            build_mutator(mutator) if isinstance(mutator, Mapping) else mutator,
            loss,
            auxiliary_weight,
            channels_last,
            data_preprocessor,
            init_cfg,
            pruner,
            distiller,
            channel_cfg,
        )
        self.unroll = unroll
        self.search_options: dict[str, Any] = {
            'hypergradient': hypergradient
            or ('finite_difference' if unroll else 'first_order'),
            'arch_start_epoch': arch_start_epoch,
            'arch_interval': arch_interval,
            'single_level': single_level,
            'channels_last': channels_last,
            'checkpoint_cells': checkpoint_cells,
            'skip_non_finite': skip_non_finite,
            'accumulate': accumulate,
            'autocast': autocast,
            'compile': compile,
        }
        check_count('accumulate', accumulate)
        if not retraining:
            scale = loss_scale_for(scaler, autocast, self.mutator)
            if scale is not None:  # A module, so that checkpoints have its state.
                self.loss_scale = scale
                self.search_options['scaler'] = scale
        self.grad_clip = grad_clip
        self.epoch = 0
        self.iteration = 0
        self._search: BilevelSearch | None = None
        self._last_logs: dict[str, Tensor] = {}
        self._begin(retraining, mutable_cfg)

    def on_epoch(self, epoch: int, max_epochs: int, iteration: int | None = None) -> None:
        """Move every schedule to an epoch; a train loop calls it before the epoch.

        Args:
            epoch: From 0 to ``max_epochs - 1``.
            max_epochs: Number of epochs of the whole search.
            iteration: Number of steps taken so far, for a search that is
                resumed; by default as counted.
        """
        self.epoch = epoch
        if iteration is not None:
            self.iteration = iteration
        if self.searching and hasattr(self.mutator, 'on_epoch'):
            self.mutator.on_epoch(epoch, max_epochs)

    @property
    def stopped(self) -> bool:
        """Whether an extension of the mutator has ended the search early."""
        return self.searching and getattr(self.mutator, 'stopped', False)

    def finish(self, optim_wrapper: Any, train_batches: Any, arch_batches: Any) -> None:
        """Let extensions act that choose after the last epoch; a train loop calls it.

        Args:
            optim_wrapper: As for :meth:`train_step`.
            train_batches: Loader of the weights' half of the data.
            arch_batches: Loader of the architecture's half, or ``None``.
        """
        if self.searching:
            batches = [
                loader and PreparedBatches(loader, self._prepare)
                for loader in (train_batches, arch_batches)
            ]
            self._search_with(optim_wrapper).finish(*batches)

    def train_step(self, data: Any, optim_wrapper: Any = None) -> dict[str, Any]:
        """Take one step.

        With the bare optimizers of MMRazor v0.2.0 it does what a step does
        there: a search with ``dict(architecture=..., mutator=...)`` takes a
        pair ``(arch_batch, train_batch)`` (in this order), and a retraining
        leaves the step to its caller, a hook of the runner.

        Args:
            data: A batch; while searching a pair ``(train_batch, arch_batch)``
                of them.
            optim_wrapper: The host's ``OptimWrapper``; while searching an
                ``OptimWrapperDict`` of ``architecture`` and ``mutator``.

        Returns:
            Scalars to log; with bare optimizers
            ``dict(loss=..., log_vars=..., num_samples=...)``.

        Raises:
            InputError: Data of another form.
            NonFiniteLossError: A loss that is NaN or infinite.
        """
        count = self.accumulate
        if is_legacy_step(optim_wrapper):
            if count > 1:
                raise ConfigError(
                    f'Expected accumulate=1 with the bare optimizers of MMRazor v0.2.0, whose '
                    f'loops hand over one pair of batches a step, but got {count}'
                )
            if not self.searching:
                return self._train_step_of_legacy(data)
            train, arch = map(self._prepare, pair_of_search(data, optim_wrapper))
            logs = self._search_step(train, arch, optim_wrapper)
            loss = logs.get('loss', torch.full((), torch.nan))
            return outputs_of(loss, logs, train)
        if not self.searching:
            return self._train_step_of_weights(data, optim_wrapper)
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise InputError(
                'Expected the data of a search step to be a pair (train_batch, arch_batch), '
                f'but got {type(data).__name__}; use BilevelTrainLoop'
            )
        train, arch = (batch and parts_of(batch, count, self._prepare) for batch in data)
        return self._search_step(train, arch, optim_wrapper)

    @property
    def accumulate(self) -> int:
        """How many batches of each loader a step takes; 1 while retraining."""
        count: int = self.search_options['accumulate']
        return count if self.searching else 1

    def _search_step(self, train_batch: Any, arch_batch: Any, optim_wrapper: Any) -> Any:
        search = self._search_with(optim_wrapper)
        search.epoch, search.iteration = self.epoch, self.iteration
        logs = search.step(train_batch, arch_batch)
        self.iteration += 1
        return logs if 'skipped' in logs else {**logs, **self._last_logs}

    @property
    def compilation(self) -> Any:
        """The search's :class:`Compilation`; ``None`` where nothing is compiled."""
        return None if self._search is None else self._search.execution.compilation

    def _search_with(self, optim_wrapper: Any) -> BilevelSearch:
        """Return the search over the given optimizers, made when they come first."""
        weight_optimizer = optimizer_of(optim_wrapper, 'architecture')
        if self._search is None or self._search.weight_optimizer is not weight_optimizer:
            kind = BilevelSearch if self.task is None else TaskSearch
            loss_fn: Any = self._search_loss if self.task is None else self._task_loss
            self._search = kind(
                self.architecture,
                self.mutator,
                loss_fn,
                weight_optimizer,
                optimizer_of(optim_wrapper, 'mutator'),
                grad_clip=clipping_of(optim_wrapper['architecture'], self.grad_clip),
                **self.search_options,
            )
        return self._search

    def _search_loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the loss of the search, and keep the accuracy of what came last."""
        self._last_logs = accuracy_of(outputs, targets)
        return evaluate_loss(self.loss_fn, outputs, targets)

    def _task_loss(self, batch: Any) -> Tensor:
        """Return the loss that the architecture computes; keep what else it logs."""
        loss, logs = self.parse_losses(self.losses_of(batch))
        self._last_logs = {name: v.detach() for name, v in logs.items() if name != 'loss'}
        return loss

    def __getstate__(self) -> dict[str, Any]:
        # The search belongs to optimizers, which a copy does not have.
        return {**self.__dict__, '_search': None}
