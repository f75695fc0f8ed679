"""SPOS as a model: a supernet trained path by path, and scores for an evolution."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..builder import build_mutator
from ..distributed import average_
from ..errors import ConfigError, InputError
from ..mutators import BaseMutator, OneShotMutator
from ..mutators.overrides import call_drawing
from ..registry import ALGORITHMS
from ..search import Evolution, SubnetCosts
from ..search.guards import buffers_kept, in_mode
from ..search.norm_statistics import batch_norms, recalibrated
from ..typing import ConfigDict, LossFn, Subnet
from .base import BaseAlgorithm, check_retraining
from .batches import pair_of
from .legacy_steps import is_legacy_step
from .losses import accuracy_of

__all__ = ['SPOS']


@ALGORITHMS.register_module()
class SPOS(BaseAlgorithm):
    """A supernet of which every step trains one path, or the network found.

    SPOS (Guo et al., ECCV 2020).  A path is drawn uniformly for each step
    (section 3.2), and weights that it does not use are left alone.  Then an
    evolution (section 3.4), see :meth:`build_evolution`, compares paths by
    :meth:`score`.

    Args:
        architecture: Config of the supernet, or a supernet.
        mutator: Config of an :class:`OneShotMutator`, or one; ``None`` for an
            architecture without anything to search.
        retraining: Whether to train the network of ``mutable_cfg``.
        mutable_cfg: The subnet, or the path of its file; needed for retraining.
        input_shape: Of an image, as ``(C, H, W)``, to count FLOPs with.
        bn_training_mode: Whether the batch norms of the supernet use the
            statistics of the batch in eval mode as well.  The network found
            does not.
        loss: As for :class:`BaseAlgorithm`.
        auxiliary_weight: As for :class:`BaseAlgorithm`.
        channels_last: As for :class:`BaseAlgorithm`.
        data_preprocessor: As for :class:`BaseAlgorithm`.
        init_cfg: As for :class:`BaseAlgorithm`.
        pruner: As for :class:`BaseAlgorithm`.
        distiller: As for :class:`BaseAlgorithm`.
        channel_cfg: As for :class:`BaseAlgorithm`.

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
        input_shape: Sequence[int] = (3, 224, 224),
        bn_training_mode: bool = False,
        loss: LossFn | ConfigDict | None = None,
        auxiliary_weight: float = 0.4,
        channels_last: bool = True,
        data_preprocessor: Any | None = None,
        init_cfg: Any | None = None,
        *,
        pruner: None = None,
        distiller: None = None,
        channel_cfg: None = None,
    ) -> None:
        built = build_mutator(mutator) if isinstance(mutator, Mapping) else mutator
        _check(built, retraining, mutable_cfg, input_shape)
        super().__init__(
            architecture,
            built,
            loss,
            auxiliary_weight,
            channels_last,
            data_preprocessor,
            init_cfg,
            pruner,
            distiller,
            channel_cfg,
        )
        self.input_shape = tuple(input_shape)
        self.bn_training_mode = bool(bn_training_mode)
        self._costs: SubnetCosts | None = None
        self._begin(retraining, mutable_cfg)

    @property
    def _by_batch(self) -> bool:
        return self.bn_training_mode and self.searching

    def train(self, mode: bool = True) -> SPOS:
        """Train or evaluate; see ``bn_training_mode``."""
        super().train(mode)
        if not mode and self._by_batch:
            for norm in batch_norms(self.architecture):
                norm.training = True
        return self

    def _norms_kept(self) -> Any:
        """Let norms forget what they saw if the supernet is not training."""
        kept = self._by_batch and not self.training
        return buffers_kept(self.architecture) if kept else nullcontext()

    def forward(
        self, inputs: Any = None, targets: Any = None, mode: str | None = None, **batch: Any
    ) -> Any:
        """Run the network on a batch that is prepared; see :class:`BaseAlgorithm`."""
        with self._norms_kept():
            return super().forward(inputs, targets, mode, **batch)

    def val_step(self, data: Any, optimizer: Any = False) -> Any:
        """Return the predictions for a batch; see :class:`BaseAlgorithm`."""
        with self._norms_kept():
            return super().val_step(data, optimizer)

    def on_epoch(self, epoch: int, max_epochs: int, iteration: int | None = None) -> None:
        """Move the schedules of the mutator, where it has some, to an epoch."""
        if self.searching and hasattr(self.mutator, 'on_epoch'):
            self.mutator.on_epoch(epoch, max_epochs)

    def train_step(self, data: Any, optim_wrapper: Any = None) -> dict[str, Any]:
        """Take one step with a batch, of a new path while searching.

        With the bare optimizer of MMRazor v0.2.0 the step itself is left to the
        caller, a hook of the runner.

        Args:
            data: A batch, not a pair of them.
            optim_wrapper: The host's ``OptimWrapper`` of all weights.

        Returns:
            Scalars to log; with a bare optimizer
            ``dict(loss=..., log_vars=..., num_samples=...)``.

        Raises:
            InputError: Data of another form.
            NonFiniteLossError: A loss that is NaN or infinite.
        """
        nested = (tuple, list, Mapping)
        if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], nested):
            raise InputError(
                'Expected the data of a step to be one batch, but got a pair of '
                f'{type(data[0]).__name__} and {type(data[1]).__name__}; use OneShotTrainLoop'
            )
        if self.searching:
            self.mutator.set_subnet(self.mutator.sample_subnet())
        if is_legacy_step(optim_wrapper):
            return self._train_step_of_legacy(data)
        return self._train_step_of_weights(data, optim_wrapper)

    def get_subnet_costs(self, subnet: Subnet | None = None) -> dict[str, float]:
        """Return ``{'flops': multiply-adds of an image, 'params': weights}`` of a subnet.

        Args:
            subnet: Which, by default the path that runs now.

        Raises:
            ConfigError: ``input_shape`` does not fit the architecture.
            SubnetError: The subnet does not fit it.
        """
        if self._costs is None:
            self._costs = SubnetCosts(self.architecture, self.input_shape)
        return self._costs(subnet)

    def get_subnet_flops(self) -> float:
        """Return the multiply-adds of the path that runs now, for one image."""
        return self.get_subnet_costs()['flops']

    def build_evolution(self, seed: int = 0, **options: Any) -> Evolution:
        """Return the evolution over the paths of this supernet.

        Its candidates are subnets with all spaces; two that differ where
        nothing runs are the same.

        Args:
            seed: Of all draws.
            **options: As for :class:`Evolution`.

        Raises:
            ConfigError: There is nothing to search, or an option is wrong.
        """
        if not self.searching:
            raise ConfigError('There is no evolution without a `mutator`, or while retraining')
        mutator = self.mutator

        def key_of(subnet: Subnet) -> str:
            live = mutator.live_part(subnet)
            return '|'.join(f'{sid}:{",".join(sorted(e["chosen"]))}' for sid, e in live.items())

        def drawn(method: Any, *args: Any, generator: Generator) -> Subnet:
            # Mutators written for MMRazor 0.x take masks alone, and no generator.
            masks = [
                mutator.subnet_to_masks(arg) if isinstance(arg, Mapping) else arg
                for arg in args
            ]
            return mutator.masks_to_subnet(call_drawing(method, *masks, generator=generator))

        return Evolution(
            lambda generator: drawn(mutator.sample_subnet, True, generator=generator),
            lambda *args: drawn(mutator.mutation, *args[:2], generator=args[2]),
            lambda *args: drawn(mutator.crossover, *args[:2], generator=args[2]),
            self.get_subnet_costs,
            key_of,
            seed=seed,
            **options,
        )

    def score(
        self, subnet: Subnet, batches: Iterable[Any], calibration: Iterable[Any] = ()
    ) -> float:
        """Return the accuracy of a path with the weights of the supernet, in percent.

        On several ranks it is that over the batches of all of them.

        Args:
            subnet: The path, which is the one that runs from then on.
            batches: To measure on.
            calibration: Batches of training data to take the statistics of
                batch norms from, see :func:`recalibrated`; without any those of
                the supernet are used.  With ``bn_training_mode`` they are not
                looked at.

        Raises:
            InputError: ``batches`` is empty, or has no class indices.
            SubnetError: The subnet does not fit the architecture.
        """
        self.mutator.set_subnet(self.mutator.subnet_to_masks(subnet))
        device = next(self.architecture.parameters()).device
        right_and_all = torch.zeros(2, dtype=torch.float64, device=device)
        with in_mode(self, training=False), torch.no_grad():
            used = () if self._by_batch else calibration
            with recalibrated(self.architecture, self._run, used), self._norms_kept():
                for batch in batches:
                    outputs, targets = self._run(batch), pair_of(batch)[1]
                    targets = targets.to(device) if isinstance(targets, Tensor) else targets
                    if not accuracy_of(outputs, targets):
                        raise InputError(
                            'Expected batches of images and their class indices to score a '
                            'path on'
                        )
                    right_and_all[0] += (outputs.argmax(1) == targets).sum()
                    right_and_all[1] += len(targets)
        average_([right_and_all])
        right_ones, number = right_and_all.tolist()
        if not number:
            raise InputError('Expected at least one batch to score a path on')
        return 100 * right_ones / number

    def _run(self, batch: Any) -> Tensor:
        """Return the logits, or whatever scores a whole model predicts, of a raw batch."""
        prepared = self._prepare(batch, False)
        if self.task is None:
            return self.architecture(prepared[0])
        predictions = self.task.run(self.architecture, prepared, 'predict')
        try:
            return torch.stack([torch.as_tensor(row) for row in predictions])
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                'Expected the predictions of an architecture that SPOS scores to be one row of '
                f'class scores per image, but got {type(predictions).__name__}: {error}'
            ) from error


def _check(mutator: Any, retraining: bool, mutable_cfg: Any, input_shape: Any) -> None:
    """Refuse arguments of SPOS that contradict each other."""
    if mutator is not None and not isinstance(mutator, OneShotMutator):
        raise ConfigError(
            f'Expected the `mutator` of SPOS to be an OneShotMutator, but got '
            f'{type(mutator).__name__}'
        )
    if len(input_shape) != 3 or any(type(n) is not int or n < 1 for n in input_shape):
        raise ConfigError(
            f'Expected `input_shape` to be (C, H, W), but got {tuple(input_shape)!r}'
        )
    check_retraining(retraining, mutator, mutable_cfg)
