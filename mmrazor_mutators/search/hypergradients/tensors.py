"""Lists of tensors as vectors; ``None`` stands for zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ['add', 'dot', 'filled', 'gradients', 'norm', 'unshared']


def gradients(
    loss: Tensor,
    params: Sequence[Tensor],
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Return the gradient for each parameter, ``None`` where the loss does not depend on it.

    Args:
        loss: A scalar with a graph.
        params: Leaves; one that requires no gradient has none.
        retain_graph: As for ``torch.autograd.grad``.
        create_graph: As for ``torch.autograd.grad``.
    """
    asked = [param for param in params if param.requires_grad]
    if not asked:
        return [None] * len(params)
    grads = torch.autograd.grad(
        loss, asked, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
    )
    found = iter(grads)
    return [next(found) if param.requires_grad else None for param in params]


def filled(values: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Return ``values`` with zeros for ``None``."""
    return [
        torch.zeros_like(param, requires_grad=False) if value is None else value
        for value, param in zip(values, like, strict=True)
    ]


def unshared(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return gradients that can be changed in place, each by itself.

    Autograd gives one tensor to all summands of a sum.
    """
    seen: set[int] = set()
    own: list[Tensor | None] = []
    for grad in grads:
        if grad is not None:
            storage = grad.untyped_storage().data_ptr()
            if storage in seen or 0 in grad.stride():
                grad = grad.clone(memory_format=torch.contiguous_format)
            seen.add(storage)
        own.append(grad)
    return own


def add(a: Sequence[Tensor], b: Sequence[Tensor], scale: float | Tensor = 1.0) -> list[Tensor]:
    """Return ``a + scale * b``."""
    if isinstance(scale, Tensor):
        return list(torch._foreach_add(list(a), torch._foreach_mul(list(b), scale)))
    return list(torch._foreach_add(list(a), list(b), alpha=scale))


def dot(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> Tensor:
    """Return the inner product.

    >>> dot([torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, 4.0]), torch.tensor([5.0])])
    tensor(11.)
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None]
    products = torch._foreach_mul([x for x, _ in pairs], [y for _, y in pairs])
    return torch.stack([product.sum() for product in products]).sum()


def norm(a: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm.

    >>> norm([torch.tensor([3.0]), torch.tensor([4.0])])
    tensor(5.)
    """
    return torch.stack(torch._foreach_norm(list(a))).norm() if a else torch.zeros(())
