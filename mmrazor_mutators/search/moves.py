"""Steps of the optimizers, and the one look at whether they may be taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..copies import copied, copy_into, laid_out_as
from ..distributed import first_of_all, world_size
from ..errors import NonFiniteLossError
from .hypergradients.tensors import norm

__all__ = ['Verdicts', 'clip_', 'move', 'undo_of']


class _Claim(NamedTuple):
    """That a loss and the norm of its gradient are finite."""

    which: str
    loss: Tensor
    size: Tensor
    undo: Callable[[], None]


class Verdicts:
    """Collects what has to be finite, and looks at all of it at once.

    Every look lets the host wait for the device.

    Args:
        where: Says in a message which step it is.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._claims: list[_Claim] = []

    def claim(
        self,
        which: str,
        loss: Tensor,
        grads: Sequence[Tensor | None],
        undo: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Remember what :meth:`look` is to look at; return the norm of the gradient.

        Args:
            which: The name of the loss.
            loss: A scalar.
            grads: Its gradient.
            undo: Takes back what is done as if it were finite.
        """
        loss, used = loss.detach(), [grad for grad in grads if grad is not None]
        size = norm(used) if used else torch.zeros_like(loss)
        self._claims.append(_Claim(which, loss, size, undo))
        return size

    @contextmanager
    def trusting(
        self,
        which: str,
        loss: Tensor,
        grads: Sequence[Tensor | None],
        undo: Callable[[], None],
    ) -> Iterator[None]:
        """Claim, and act on it inside of the block; undone at once if that raises."""
        self.claim(which, loss, grads, undo)
        try:
            yield
        except BaseException:
            undo()
            raise

    def look(self, *, together: bool = False) -> None:
        """Read every claim; undo all from the first one on that does not hold.

        Args:
            together: Whether a claim holds only if it does on all ranks, all of
                which look.

        Raises:
            NonFiniteLossError: A claim that does not hold.
        """
        claims, self._claims = self._claims, []
        if not claims:
            return
        like = claims[0].loss
        read = [x.to(like.device) for claim in claims for x in (claim.loss, claim.size)]
        values = torch.stack(read).tolist()
        pairs = list(zip(values[::2], values[1::2], strict=True))
        wrong = [i for i, pair in enumerate(pairs) if not math.isfinite(sum(pair))]
        first = wrong[0] if wrong else len(claims)
        of_gradient = int(not wrong or math.isfinite(pairs[first][0]))
        if together:
            # Of two ranks that disagree, that with a loss at fault is heard.
            first, of_gradient = divmod(first_of_all(2 * first + of_gradient), 2)
        if first < len(claims):
            for claim in reversed(claims[first:]):
                claim.undo()
            which = claims[first].which
            error = NonFiniteLossError(_message(which, *pairs[first], self.where))
            error.of_gradient = bool(of_gradient)
            raise error

    @contextmanager
    def read_on_error(self) -> Iterator[None]:
        """Look at what is still unread if the block raises, since that may have come of it.

        Raises:
            NonFiniteLossError: It has; what the block raised is the cause.
        """
        try:
            yield
        except BaseException as error:
            try:
                self.look()
            except NonFiniteLossError as earlier:
                if isinstance(error, Exception):
                    earlier.agreed = world_size() == 1
                    raise earlier from error
            raise


def _message(which: str, loss: float, size: float, where: str) -> str:
    what = f'The {which} loss is {loss:g}'
    if math.isfinite(loss):
        what = f'The gradient of the {which} loss ({loss:g}) is {size:g}'
    if math.isfinite(loss + size):
        what = f'The {which} loss of another rank, or its gradient, is not finite'
    return (
        f'{what} in {where}; no step was taken. Look for NaN in the batch, or lower the '
        'learning rates or set grad_clip'
    )


def clip_(grads: Sequence[Tensor | None], size: Tensor, limit: float | None) -> None:
    """Scale gradients down to a largest norm, in place and without a look at the device.

    Args:
        grads: Of all parameters together.
        size: Their norm.
        limit: The largest norm, above 0; ``None`` for no limit.
    """
    used = [grad for grad in grads if grad is not None]
    if limit is not None and used:
        torch._foreach_mul_(used, (limit / (size + 1e-6)).clamp(max=1.0))


def move(
    optimizer: Optimizer, params: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> None:
    """Take a step of an optimizer with the given gradients.

    As after ``backward()``, and as fused kernels need it, each lies in memory
    as its parameter does.
    """
    for param, grad in zip(params, grads, strict=True):
        param.grad = None if grad is None else laid_out_as(param, grad)
    _begin_late_momenta(optimizer)
    optimizer.step()


def _begin_late_momenta(optimizer: Optimizer) -> None:
    """Give weights that get their first gradient after others a momentum of zeros.

    It becomes that gradient in the step, as it does without a fused kernel.  That
    of SGD takes none or all of them for new, where a search that draws paths has
    both.
    """
    for group in optimizer.param_groups:
        if not (group.get('fused') and group.get('momentum')) or group.get('dampening'):
            continue
        moved = [param for param in group['params'] if param.grad is not None]
        states = [optimizer.state[param] for param in moved]
        late = [state.get('momentum_buffer') is None for state in states]
        if any(late) and not all(late):
            for param, state, missing in zip(moved, states, late, strict=True):
                if missing:
                    state['momentum_buffer'] = torch.zeros_like(param)


def undo_of(
    optimizer: Optimizer, params: Sequence[Tensor], owner: nn.Module
) -> Callable[[], None]:
    """Return a function that takes a step back: all that it changes is as it is now.

    Args:
        optimizer: Takes the step; of its state, tensors are copied, and other
            values are expected to be replaced, not changed.
        params: Its parameters, with their ``.grad``.
        owner: Mends its parameters, buffers and attributes after the step.
    """
    grads = [(param, param.grad) for param in params]
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    states = {param: dict(state) for param, state in optimizer.state.items()}
    attributes = [(vars(part), dict(vars(part))) for part in owner.modules()]
    buffers = [(part._buffers, dict(part._buffers)) for part in owner.modules()]
    of_state = (value for state in states.values() for value in state.values())
    found = [*params, *owner.parameters(), *owner.buffers(), *of_state]
    tensors = list({id(x): x for x in found if isinstance(x, Tensor)}.values())
    values = copied(tensors)

    def undo() -> None:
        for kept, entries in (*groups, *attributes, *buffers):
            kept.clear()
            kept.update(entries)
        optimizer.state.clear()
        for param, state in states.items():
            optimizer.state[param] = state
        for param, grad in grads:
            param.grad = grad
        copy_into(tensors, values)

    return undo
