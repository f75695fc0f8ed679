"""MMRazor v0.2.0's architectures: a whole model of another package, as one part."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..host import BaseModule
from ..registry import ARCHITECTURES
from ..typing import ConfigDict
from .foreign import build_task_model

__all__ = [
    'BaseArchitecture',
    'LabelSample',
    'MMClsArchitecture',
    'MMDetArchitecture',
    'MMSegArchitecture',
    'takes',
]


def takes(module: Any, name: str) -> bool:
    """Say whether the forward pass of a module has an argument of that name.

    >>> takes(nn.ReLU(), 'input'), takes(nn.ReLU(), 'mode')
    (True, False)
    """
    return name in inspect.signature(module.forward).parameters


class LabelSample:
    """The class of one image, as the heads of MMPretrain read it.

    Args:
        gt_label: Its index, shape ``(1,)``.
    """

    def __init__(self, gt_label: Tensor) -> None:
        self.gt_label = gt_label

    def __contains__(self, name: str) -> bool:
        return name == 'gt_label'

    @classmethod
    def of(cls, labels: Tensor) -> list[LabelSample]:
        """Return one sample for each of the labels, shape ``(N,)``."""
        return [cls(label.reshape(1)) for label in labels]


class BaseArchitecture(BaseModule):
    """A model that computes its own losses, with the calls of MMRazor v0.2.0.

    Args:
        model: Config of the model, or a module: one of OpenMMLab's 0.x
            packages with ``forward(img, return_loss=True, **kwargs)``, or of
            their newer ones with ``forward(inputs, data_samples, mode)``.
        init_cfg: As for the host's ``BaseModule``.
    """

    def __init__(self, model: nn.Module | ConfigDict, init_cfg: Any | None = None) -> None:
        super().__init__(init_cfg)
        self.model: Any = model if isinstance(model, nn.Module) else build_task_model(model)

    @property
    def data_preprocessor(self) -> Any:
        """What the model makes of a batch first; ``None`` if it takes batches as they are."""
        return getattr(self.model, 'data_preprocessor', None)

    def forward_dummy(self, img: Tensor) -> Any:
        """Return what the network computes of images, without losses.

        Raises:
            InputError: The model has no such pass.
        """
        if hasattr(self.model, 'forward_dummy'):
            return self.model.forward_dummy(img)
        if takes(self.model, 'mode'):
            return self.model(img, mode='tensor')
        raise InputError(
            f'{type(self.model).__name__} has neither a forward_dummy nor modes, so it cannot '
            'run on images alone'
        )

    def forward(self, img: Any, return_loss: bool = True, **kwargs: Any) -> Any:
        """Return losses, or predictions, or the raw outputs where there are images alone.

        Args:
            img: A batch of images; for predictions also a list of one such
                batch.
            return_loss: Whether to return a dict of losses.
            **kwargs: What else the model reads, such as ``gt_label``.
        """
        if return_loss and not kwargs:
            return self.forward_dummy(img)
        if not takes(self.model, 'mode'):
            return self.model(img, return_loss=return_loss, **kwargs)
        samples = self.samples_of(**kwargs)
        return self.model(img, samples, mode='loss' if return_loss else 'predict')

    def samples_of(self, data_samples: Any = None, **kwargs: Any) -> Any:
        """Return the data samples of a batch for a model that reads them.

        Raises:
            InputError: The batch says it in another way.
        """
        if kwargs:
            raise InputError(
                f'{type(self.model).__name__} expects a batch of `inputs` and `data_samples`, '
                f'but got {", ".join(sorted(kwargs))}'
            )
        return data_samples

    def simple_test(self, img: Tensor, img_metas: Any = None) -> Any:
        """Return predictions without augmentation."""
        return self.model.simple_test(img, img_metas)

    def show_result(self, img: Any, result: Any, **kwargs: Any) -> Any:
        """Draw a result over an image, as the model does it."""
        return self.model.show_result(img, result, **kwargs)


@ARCHITECTURES.register_module()
class MMClsArchitecture(BaseArchitecture):
    """A classifier of MMClassification or MMPretrain, or our own in their place.

    ``mmcls.ImageClassifier`` is theirs where they are installed and
    :class:`ImageClassifier` elsewhere.

    Args:
        model: As for :class:`BaseArchitecture`.
        init_cfg: As for :class:`BaseArchitecture`.
    """

    def forward_dummy(self, img: Tensor) -> Any:
        """Return the logits, by the head's ``fc`` where the model stops before it."""
        head: Any = getattr(self.model, 'head', None)
        if takes(self.model, 'mode') or not hasattr(head, 'fc'):
            return super().forward_dummy(img)
        features = self.model.extract_feat(img)
        return head.fc(features if isinstance(features, Tensor) else features[-1])

    def samples_of(self, data_samples: Any = None, **kwargs: Any) -> Any:
        """Return the data samples, made from ``gt_label`` where that is given."""
        labels = kwargs.pop('gt_label', None)
        kwargs.pop('img_metas', None)
        if data_samples is None and labels is not None:
            return LabelSample.of(labels)
        return super().samples_of(data_samples, **kwargs)

    def cal_pseudo_loss(self, pseudo_img: Any) -> Any:
        """Return a scalar of the outputs, to trace what depends on what."""
        return sum(output.sum() for output in _tensors(pseudo_img))


@ARCHITECTURES.register_module()
class MMDetArchitecture(BaseArchitecture):
    """A detector of MMDetection.

    Args:
        model: As for :class:`BaseArchitecture`.
        init_cfg: As for :class:`BaseArchitecture`.
    """

    def cal_pseudo_loss(self, pseudo_img: Any) -> Any:
        """Return a scalar of the outputs, to trace what depends on what."""
        return sum(output.sum() for output in _tensors(pseudo_img))


@ARCHITECTURES.register_module()
class MMSegArchitecture(BaseArchitecture):
    """A segmentor of MMSegmentation.

    Args:
        model: As for :class:`BaseArchitecture`.
        init_cfg: As for :class:`BaseArchitecture`.
    """


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors of nested outputs."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in _tensors(output)]
