"""SDARTS: weights are learnt under perturbed mixtures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..distributed import average_, same_draws
from ..errors import ConfigError
from ..functional import clip_to_simplex
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..search.guards import buffers_kept, frozen, get_rng_state, in_mode, replayed
from ..search.hypergradients.micro_batches import mean_loss
from .given_weights import check_simplex_weights

__all__ = ['AdversarialPerturbation', 'RandomPerturbation', 'ascend']


def ascend(
    gradient: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    weights: Sequence[Tensor],
    start: Sequence[Tensor],
    project: Callable[[int, Tensor], Tensor],
    epsilon: float,
    steps: int,
) -> list[Tensor]:
    r"""Climb up a loss within a ball around weights, by the signs of its gradient.

    Madry et al., ICLR 2018, section 2.1, as in the code of SDARTS:
    :math:`w_{t+1} = \Pi(w + \mathrm{clip}_{\pm\epsilon}(w_t +
    \tfrac{2\epsilon}{T}\,\mathrm{sign}\,\nabla L(w_t) - w))`.

    Args:
        gradient: Of the loss, at a list of weights.
        weights: The middle of the ball.
        start: Where to begin.
        project: :math:`\Pi`; gets the number of the weights in the list as well.
        epsilon: Half the side of the ball, of the maximum norm.
        steps: Number of steps :math:`T`.
    """
    moved = list(start)
    for _ in range(steps):
        grads = gradient(moved)
        for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
            raised = moved[i] + (2 * epsilon / steps) * grad.sign()
            moved[i] = project(i, weight + (raised - weight).clamp(-epsilon, epsilon))
    return moved


class _Mixtures:
    """The mixtures of all spaces, whose weights are moved on the simplex.

    Args:
        mutator: Owns the spaces; what was dropped from them keeps the weight 0.
    """

    def __init__(self, mutator: Any) -> None:
        with torch.no_grad():
            self._mixtures = mutator.relax_spaces()
        self.weights = [mixture.weights for mixture in self._mixtures.values()]
        # A mask that is made on the host lets it wait for the device: none where it can be.
        self._gone = [
            torch.tensor([i not in kept for i in range(len(weight))], device=weight.device)
            if len(kept := mutator.kept_indices(space_id)) < len(weight)
            else None
            for space_id, weight in zip(self._mixtures, self.weights, strict=True)
        ]

    def project(self, i: int, values: Tensor) -> Tensor:
        """Bring the weights of the i-th space back to the simplex."""
        gone = self._gone[i]
        return clip_to_simplex(values if gone is None else values.masked_fill(gone, -torch.inf))

    def with_noise(self, epsilon: float) -> list[Tensor]:
        """Return weights with uniform noise, the same on all ranks of a distributed run."""
        with same_draws(self.weights[0].device):
            return [
                self.project(i, weight + torch.empty_like(weight).uniform_(-epsilon, epsilon))
                for i, weight in enumerate(self.weights)
            ]

    def given(self, values: Sequence[Tensor]) -> dict[str, Any]:
        """Return the mixtures with other weights."""
        pairs = zip(self._mixtures.items(), values, strict=True)
        return {space_id: mix._replace(weights=value) for (space_id, mix), value in pairs}


class Perturbation(Extension):
    """What both perturbations have in common.

    Args:
        epsilon_min: Largest change of a weight in epoch 0, at least 0.
        epsilon_max: What that would be after the last epoch, at least as much.

    Raises:
        ConfigError: An option outside of its range.
    """

    paper = 'Chen & Hsieh, ICML 2020'

    def __init__(self, epsilon_min: float = 0.03, epsilon_max: float = 0.3) -> None:
        super().__init__()
        if not epsilon_min >= 0:
            raise ConfigError(
                f'Expected `epsilon_min` to be at least 0, but got {epsilon_min!r}'
            )
        if not epsilon_min <= epsilon_max <= 1:
            raise ConfigError(
                f'Expected `epsilon_max` to be from epsilon_min={epsilon_min} to 1, but got '
                f'{epsilon_max!r}'
            )
        self.epsilon_min, self.epsilon_max = epsilon_min, epsilon_max

    @property
    def epsilon(self) -> float:
        """Largest change of a weight in this epoch."""
        progress = self.epoch / self.max_epochs
        return self.epsilon_min + (self.epsilon_max - self.epsilon_min) * progress

    def check(self, mutator: Any) -> None:
        """Refuse mutators whose weights are drawn, or are not on the simplex."""
        check_simplex_weights(type(self).__name__, mutator)

    @contextmanager
    def around_weight_step(
        self, search: Any, train_batch: Any, arch_batch: Any
    ) -> Iterator[None]:
        """Let the weights be stepped under perturbed mixtures, once only."""
        if search.single_level:
            raise ConfigError(
                f'{type(self).__name__} perturbs the step of the weights alone, but with '
                'single_level=True the architecture is stepped along'
            )
        mixed = _Mixtures(search.mutator)
        noisy = mixed.with_noise(self.epsilon)
        perturbed = self.perturb(search, train_batch, mixed, noisy)
        with search.mutator.mixing(mixed.given(perturbed)):
            yield

    @abstractmethod
    def perturb(
        self, search: Any, batch: Any, mixed: _Mixtures, noisy: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the weights to step under, by space.

        Args:
            search: The search.
            batch: The training batch.
            mixed: The mixtures, unperturbed.
            noisy: Their weights with noise, on the simplex again.
        """


@EXTENSIONS.register_module()
class RandomPerturbation(Perturbation):
    r"""Adds uniform noise to the mixture in every step of the weights.

    SDARTS-RS (Chen & Hsieh, ICML 2020), equation 6:
    :math:`w \leftarrow w - \eta\,\nabla_w L_\mathrm{train}(w, \bar\alpha +
    \delta)` with :math:`\delta \sim U[-\epsilon, \epsilon]`, where
    :math:`\bar\alpha = \mathrm{softmax}(\alpha)`.  The result is clipped and
    divided by its sum, and :math:`\epsilon` grows as
    :math:`\epsilon_{\min} + (\epsilon_{\max} - \epsilon_{\min})\, e / E`, as in
    the authors' code, where it does not reach its end.  Dropped choices stay
    at 0.

    Args:
        epsilon_min: Largest change of a weight in epoch 0, at least 0.
        epsilon_max: What that would be after the last epoch, at least as much.

    Raises:
        ConfigError: An option outside of its range.

    >>> extension = RandomPerturbation()
    >>> extension.on_epoch(25, max_epochs=50)
    >>> round(extension.epsilon, 3)
    0.165
    """

    def perturb(
        self, search: Any, batch: Any, mixed: _Mixtures, noisy: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the noisy ones."""
        return noisy


@EXTENSIONS.register_module()
class AdversarialPerturbation(Perturbation):
    r"""Perturbs the mixture in every step of the weights to where the loss is worst.

    SDARTS-ADV (Chen & Hsieh, ICML 2020), equation 7:
    :math:`\delta = \arg\max_{\lVert\delta\rVert_\infty \le \epsilon}
    L_\mathrm{train}(w, \bar\alpha + \delta)`, by projected gradient ascent
    from a random start (:func:`ascend`), with the network in evaluation mode.
    As in the authors' code, the softmaxed weights stay as they are in a step
    where the attack has not raised the loss, and dividing by the sum may leave
    the ball a little.  :math:`\epsilon` grows as in
    :class:`RandomPerturbation`.

    A step costs ``steps + 2`` passes forward and ``steps`` backward more.

    Args:
        epsilon_min: Largest change of a weight in epoch 0, at least 0.
        epsilon_max: What that would be after the last epoch, at least as much.
        steps: Steps of the ascent, at least 1.

    Raises:
        ConfigError: An option outside of its range.
    """

    takes_gradients = True

    def __init__(
        self, epsilon_min: float = 0.03, epsilon_max: float = 0.3, steps: int = 7
    ) -> None:
        super().__init__(epsilon_min, epsilon_max)
        if steps < 1:
            raise ConfigError(f'Expected `steps` to be at least 1, but got {steps!r}')
        self.steps = steps

    def perturb(
        self, search: Any, batch: Any, mixed: _Mixtures, noisy: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the worst weights found; nothing else has changed."""
        draws = get_rng_state()

        def loss_at(values: Sequence[Tensor]) -> Tensor:
            with replayed(draws), search.mutator.mixing(mixed.given(values)):
                return mean_loss(search.compute_loss, batch).reshape(())

        def gradient(values: Sequence[Tensor]) -> list[Tensor]:
            leaves = [value.detach().requires_grad_() for value in values]
            with torch.enable_grad():
                grads = search.gradient(loss_at(leaves), leaves)
            return [
                torch.zeros_like(value) if grad is None else grad
                for value, grad in zip(values, grads, strict=True)
            ]

        untouched = (buffers_kept(search.supernet), in_mode(search.supernet, training=False))
        held = frozen([*search.weights, *search.arch_params])
        with untouched[0], untouched[1], held, torch.no_grad():
            found = ascend(
                gradient, mixed.weights, noisy, mixed.project, self.epsilon, self.steps
            )
            before, after = loss_at(mixed.weights), loss_at(found)
        average_([before, after])
        return [
            torch.where(before > after, weight, worse)
            for weight, worse in zip(mixed.weights, found, strict=True)
        ]
