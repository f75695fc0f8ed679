"""What all algorithms have in common: batches, losses, and an ordinary training step."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..architectures.wrappers import takes
from ..builder import build_architecture
from ..distributed import average_, first_of_all
from ..errors import ConfigError, NonFiniteLossError
from ..host import BaseModel
from ..mutables import load_subnet, our_classes_kept
from ..search.checks import check_takes_no_closure
from ..search.guards import buffers_kept_on_error
from ..search.hypergradients.tensors import norm
from ..search.layout import lay_out_channels_last
from ..typing import ConfigDict, LossFn, Subnet
from .batches import laid_out, pair_of
from .legacy_steps import forward_arguments, is_legacy_step, outputs_of, refuse_pruning
from .losses import accuracy_of, build_loss, evaluate_loss
from .task_models import flattened, task_of

__all__ = ['BaseAlgorithm', 'check_retraining']

_NOT_FINITE = (
    'The training {}; no step was taken. Look for NaN in the batch, or lower the learning rate '
    'or set clip_grad'
)


class BaseAlgorithm(BaseModel):
    """A network with what a runner needs of it; the base class of the searches.

    An architecture may compute its own losses, as the models of OpenMMLab's
    packages do: ``architecture(inputs, data_samples, mode='loss')``, or
    ``architecture(img, gt_label=..., return_loss=True)`` as in MMRazor v0.2.0.
    The batches are then what such a model reads; see :func:`task_of`.  Any
    other is called with the images, and ``loss`` compares its outputs with the
    targets; batches are pairs ``(inputs, targets)``, or dicts of the two.

    Args:
        architecture: Config of the network, or a network.
        mutator: A mutator, or ``None``.
        loss: Config or callable, ``(outputs, targets) -> scalar``; a type
            without a dot is looked up in ``torch.nn``.  Cross entropy if left
            out.  Not for an architecture that computes its own losses.
        auxiliary_weight: Weight of the loss of the auxiliary head.
        channels_last: Whether convolutions keep the channels of a pixel together.
        data_preprocessor: As for the host's ``BaseModel``; an architecture that
            has its own applies that after it.
        init_cfg: As for the host's ``BaseModel``.
        pruner: ``None``: the names of MMRazor v0.2.0 are there, pruning is not.
        distiller: ``None``.
        channel_cfg: ``None``.

    Attributes:
        architecture: The network.
        task: How the architecture computes its own losses; ``None`` if it does not.

    Raises:
        ConfigError: Arguments that contradict each other.
    """

    def __init__(
        self,
        architecture: nn.Module | ConfigDict,
        mutator: Any = None,
        loss: LossFn | ConfigDict | None = None,
        auxiliary_weight: float = 0.4,
        channels_last: bool = True,
        data_preprocessor: Any | None = None,
        init_cfg: Any | None = None,
        pruner: None = None,
        distiller: None = None,
        channel_cfg: None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        refuse_pruning(pruner=pruner, distiller=distiller, channel_cfg=channel_cfg)
        self.loss_fn = build_loss(loss)
        self.auxiliary_weight = auxiliary_weight
        self.architecture: Any = (
            build_architecture(architecture)
            if isinstance(architecture, Mapping)
            else architecture
        )
        self.task = task_of(self.architecture)
        if self.task is not None and loss is not None:
            raise ConfigError(
                f'{type(self.architecture).__name__} computes its own losses, but got '
                f'loss={loss!r} as well; leave it out'
            )
        self.mutator: Any = mutator
        self.retraining = True
        self.memory_format: Any = (
            torch.channels_last if channels_last else torch.contiguous_format
        )

    def _begin(
        self, retraining: bool, mutable_cfg: Subnet | str | os.PathLike[str] | None
    ) -> None:
        """Prepare the mutator; for a retraining, put the network found in its place."""
        self.retraining = retraining
        if self.mutator is not None:
            if retraining:
                self.mutator = self.mutator.for_retraining()
            if not self.mutator.search_spaces:
                self.mutator.prepare_from_supernet(self.architecture)
        if retraining and mutable_cfg is not None:
            if self.mutator is None:
                raise ConfigError(
                    '`mutable_cfg` names a network of a search space: give `mutator`'
                )
            subnet = (
                mutable_cfg if isinstance(mutable_cfg, Mapping) else load_subnet(mutable_cfg)
            )
            with our_classes_kept():  # They train faster.
                self.architecture = self.mutator.export_subnet(self.architecture, dict(subnet))
            self.mutator = None
        if self.memory_format is torch.channels_last:
            lay_out_channels_last(self.architecture)
        else:
            self.architecture.to(memory_format=self.memory_format)

    @property
    def searching(self) -> bool:
        """Whether there is something to search, and no retraining."""
        return self.mutator is not None and not self.retraining

    @property
    def with_mutator(self) -> bool:
        """Whether there is something to search."""
        return self.mutator is not None

    def simple_test(self, img: Any, img_metas: Any = None) -> Any:
        """Return predictions without augmentation, as MMRazor v0.2.0 calls it."""
        return self.architecture.simple_test(img, img_metas)

    def show_result(self, img: Any, result: Any, **kwargs: Any) -> Any:
        """Draw a result over an image, as the architecture does it."""
        return self.architecture.show_result(img, result, **kwargs)

    def _prepare(self, batch: Any, training: bool = True) -> Any:
        """Return a batch as the network takes it."""
        batch = batch if isinstance(batch, Mapping) else tuple(batch)
        batch = self.data_preprocessor(batch, training)
        if self.task is None:
            batch = pair_of(batch)
        else:
            batch = self.task.batch_of(self.architecture, batch)
        return laid_out(batch, self.memory_format)

    def forward(
        self, inputs: Any = None, targets: Any = None, mode: str | None = None, **batch: Any
    ) -> Any:
        """Run the network on a batch that is prepared already.

        Args:
            inputs: Images, shape ``(N, C, H, W)``.
            targets: Class indices, shape ``(N,)``; needed with ``mode='loss'``.
            mode: ``'tensor'`` for the outputs, ``'loss'`` for a dict of
                losses, ``'predict'`` for the predictions of an architecture
                that makes some, else for the outputs as a list of one tensor
                per image.  By default ``'tensor'``, or ``'loss'`` for ``img``.
            **batch: In place of ``targets``: ``data_samples``; or ``img``,
                ``gt_label`` and ``return_loss`` as in MMRazor v0.2.0.

        Raises:
            InputError: Another mode, or a batch that does not fit.
        """
        data, mode = forward_arguments(inputs, targets, mode, batch)
        if self.task is not None:
            if not isinstance(data, Mapping) and takes(self.architecture, 'return_loss'):
                data = self.task.batch_of(self.architecture, data)
            output = self.task.run(self.architecture, data, mode)
            return flattened(output) if mode == 'loss' else output
        inputs, targets = pair_of(data)
        if mode == 'loss':
            return self.loss(inputs, targets)
        outputs = self.architecture(inputs)
        return list(outputs) if mode == 'predict' else outputs

    def train_step(self, data: Any, optim_wrapper: Any = None) -> dict[str, Any]:
        """Take an ordinary step; with the bare optimizer of v0.2.0 leave it to the caller.

        Args:
            data: A batch.
            optim_wrapper: The host's ``OptimWrapper`` of all weights.

        Returns:
            Scalars to log; with a bare optimizer
            ``dict(loss=..., log_vars=..., num_samples=...)``.

        Raises:
            NonFiniteLossError: A loss that is NaN or infinite.
        """
        if is_legacy_step(optim_wrapper):
            return self._train_step_of_legacy(data)
        return self._train_step_of_weights(data, optim_wrapper)

    def val_step(self, data: Any, optimizer: Any = False) -> Any:
        """Return the predictions for a batch; with an optimizer, its losses as v0.2.0 does."""
        if optimizer is not False:
            return self._train_step_of_legacy(data)
        return self._run_forward(self._prepare(data, False), mode='predict')

    def test_step(self, data: Any) -> Any:
        """Return the predictions for a batch."""
        return self.val_step(data)

    def loss(self, inputs: Tensor, targets: Any) -> dict[str, Tensor]:
        """Return the losses, whose sum is to be minimised, and the accuracy."""
        auxiliary = None
        # A supernet is searched without the auxiliary head, as its authors do.
        if self.retraining and hasattr(self.architecture, 'forward_with_auxiliary'):
            outputs, auxiliary = self.architecture.forward_with_auxiliary(inputs)
        else:
            outputs = self.architecture(inputs)
        main = evaluate_loss(self.loss_fn, outputs, targets)
        losses = {'loss': main}
        if auxiliary is not None:
            weighted = self.auxiliary_weight * evaluate_loss(self.loss_fn, auxiliary, targets)
            losses = {'main_loss': main, 'auxiliary_loss': weighted}
        return {**losses, **accuracy_of(outputs, targets)}

    def losses_of(self, batch: Any) -> dict[str, Any]:
        """Return the losses of a prepared batch, and what else is logged of it."""
        if self.task is None:
            return self.loss(*batch)
        return flattened(self.task.run(self.architecture, batch, 'loss'))

    def _loss_to_step_on(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logs = self.parse_losses(self.losses_of(batch))
        if not loss.detach().isfinite():
            raise NonFiniteLossError(_NOT_FINITE.format(f'loss is {loss.item():g}'))
        return loss, logs

    def _train_step_of_weights(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Take an ordinary training step, with gradients averaged over all ranks."""
        check_takes_no_closure(getattr(optim_wrapper, 'optimizer', None))
        with buffers_kept_on_error(self.architecture):
            with optim_wrapper.optim_context(self):
                loss, logs = self.parse_losses(self.losses_of(self._prepare(data)))
            optim_wrapper.zero_grad()
            optim_wrapper.backward(loss)
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            average_(grads)
            self._check_finite(loss, grads, optim_wrapper)
        optim_wrapper.step()
        return logs

    def _check_finite(self, loss: Tensor, grads: list[Tensor], optim_wrapper: Any) -> None:
        """Look once at a loss and its gradient, before the step; no gradient is left if wrong.

        Raises:
            NonFiniteLossError: One of them is NaN or infinite.
        """
        # A scaler of half precision skips such steps itself, and learns from them.
        sizes = [] if hasattr(optim_wrapper, 'loss_scaler') or not grads else [norm(grads)]
        read = [x.detach().double() for x in (loss, *sizes)]
        value, *size = torch.stack(read).tolist()
        finite = math.isfinite(sum([value, *size]))
        if first_of_all(int(finite)):
            return
        optim_wrapper.zero_grad()
        what = f'loss is {value:g}'
        if math.isfinite(value):
            what = f'gradient of the loss ({value:g}) is {size[0]:g}'
        if finite:
            what = 'loss of another rank, or its gradient, is not finite'
        raise NonFiniteLossError(_NOT_FINITE.format(what))

    def _train_step_of_legacy(self, data: Any) -> dict[str, Any]:
        """Return the loss of a batch; whoever called goes back and steps."""
        batch = self._prepare(data)
        return outputs_of(*self._loss_to_step_on(batch), batch)


def check_retraining(retraining: bool, mutator: Any, mutable_cfg: Any) -> None:
    """Refuse to retrain a network that nobody has named.

    Raises:
        ConfigError: A mutator, but no ``mutable_cfg``.
    """
    if retraining and mutator is not None and mutable_cfg is None:
        raise ConfigError(
            'retraining=True needs to know the network: give the subnet, or the path of its '
            'file, as `mutable_cfg`'
        )
