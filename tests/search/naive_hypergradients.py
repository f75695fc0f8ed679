"""Hypergradients as naive code, without any part of the package's search.

The supernet is called through ``torch.func.functional_call`` with whatever
weights are wanted and throw-away buffers, so nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

Vector = list[Tensor]


class Problem:
    """The two losses of a search as functions of a list of weights.

    Args:
        search: Where weights, architecture parameters and the loss come from.
        train_batch: A pair of inputs and targets.
        arch_batch: The same.
    """

    def __init__(self, search: Any, train_batch: Any, arch_batch: Any) -> None:
        self.search = search
        self.train_batch, self.arch_batch = train_batch, arch_batch
        self.names = [name for name, _ in search.supernet.named_parameters()]
        self.weights = [param for _, param in search.supernet.named_parameters()]
        self.alphas = list(search.mutator.arch_params.values())

    def _loss(self, weights: Vector, batch: Any) -> Tensor:
        buffers = {name: b.clone() for name, b in self.search.supernet.named_buffers()}
        swapped = {**buffers, **dict(zip(self.names, weights, strict=True))}
        outputs = functional_call(self.search.supernet, swapped, (batch[0],))
        return self.search.loss_fn(outputs, batch[1])

    def train_loss(self, weights: Vector) -> Tensor:
        return self._loss(weights, self.train_batch)

    def arch_loss(self, weights: Vector) -> Tensor:
        return self._loss(weights, self.arch_batch)

    def train_gradient(self, weights: Vector, **options: bool) -> Vector:
        return _grad(self.train_loss(weights), weights, **options)

    def moved(self, direction: Vector, scale: Any) -> Vector:
        """Return leaves at a distance from the weights."""
        pairs = zip(self.weights, direction, strict=True)
        return [(w + scale * d).detach().requires_grad_() for w, d in pairs]

    def stepped(self, grads: Vector) -> Vector:
        """Return the weights after a step of SGD, as a graph over ``grads``."""
        (group,) = self.search.weight_optimizer.param_groups
        new = []
        for weight, grad in zip(self.weights, grads, strict=True):
            state = self.search.weight_optimizer.state.get(weight, {})
            change = grad + group['weight_decay'] * weight.detach()
            if 'momentum_buffer' in state:
                change = change + group['momentum'] * state['momentum_buffer']
            new.append(weight.detach() - group['lr'] * change)
        return new

    def hessian_product(self, v: Vector) -> Vector:
        """Multiply with the Hessian of the training loss, by differences of gradients."""
        shift = 1e-4 / _norm(v)
        ahead, behind = (self.train_gradient(self.moved(v, s * shift)) for s in (1, -1))
        return [(a - b) / (2 * shift) for a, b in zip(ahead, behind, strict=True)]

    def implicit(self, solve: Callable[[Vector], Vector]) -> Vector:
        loss = self.arch_loss(self.weights)
        direct, v = _grad(loss, self.alphas, retain_graph=True), _grad(loss, self.weights)
        train_grads = self.train_gradient(self.weights, create_graph=True)
        indirect = _grad(_dot(train_grads, solve(v)), self.alphas)
        return [d - i for d, i in zip(direct, indirect, strict=True)]


def first_order(problem: Problem) -> Vector:
    return _grad(problem.arch_loss(problem.weights), problem.alphas)


def exact(problem: Problem) -> Vector:
    """Differentiate the composition as it stands, step and all."""
    grads = problem.train_gradient(problem.weights, create_graph=True)
    return _grad(problem.arch_loss(problem.stepped(grads)), problem.alphas)


def finite_difference(problem: Problem, radius: float = 0.01) -> Vector:
    """DARTS, equation 8, with u the gradient at w' and the learning rate in front."""
    lr = problem.search.weight_optimizer.param_groups[0]['lr']
    grads = problem.train_gradient(problem.weights)
    stepped = [w.detach().requires_grad_() for w in problem.stepped(grads)]
    loss = problem.arch_loss(stepped)
    direct, u = _grad(loss, problem.alphas, retain_graph=True), _grad(loss, stepped)
    epsilon = radius / _norm(u)
    plus, minus = (
        _grad(problem.train_loss(problem.moved(u, sign * epsilon)), problem.alphas)
        for sign in (1, -1)
    )
    return [
        d - lr * (p - m) / (2 * epsilon) for d, p, m in zip(direct, plus, minus, strict=True)
    ]


def neumann(problem: Problem, num_terms: int = 5, step_size: float = 0.01) -> Vector:
    def solve(v: Vector) -> Vector:
        term, total = v, v
        for _ in range(num_terms):
            product = problem.hessian_product(term)
            term = [t - step_size * h for t, h in zip(term, product, strict=True)]
            total = [s + t for s, t in zip(total, term, strict=True)]
        return [step_size * s for s in total]

    return problem.implicit(solve)


def cg(problem: Problem, num_iterations: int = 10, damping: float = 0.0) -> Vector:
    """The textbook's algorithm, given up where the curvature is not positive."""

    def solve(v: Vector) -> Vector:
        x, r, p = [torch.zeros_like(part) for part in v], v, v
        for _ in range(num_iterations):
            product = problem.hessian_product(p)
            product = [h + damping * part for h, part in zip(product, p, strict=True)]
            if _dot(p, product) <= 0:
                return x
            length = _dot(r, r) / _dot(p, product)
            x = [a + length * b for a, b in zip(x, p, strict=True)]
            new = [a - length * b for a, b in zip(r, product, strict=True)]
            p = [a + _dot(new, new) / _dot(r, r) * b for a, b in zip(new, p, strict=True)]
            r = new
        return x

    return problem.implicit(solve)


NAIVE: dict[str, Callable[..., Vector]] = {
    'first_order': first_order,
    'exact': exact,
    'finite_difference': finite_difference,
    'neumann': neumann,
    'cg': cg,
}


def _grad(output: Tensor, inputs: Vector, **options: bool) -> Vector:
    grads = torch.autograd.grad(output, inputs, allow_unused=True, **options)
    return [
        torch.zeros_like(param) if grad is None else grad
        for grad, param in zip(grads, inputs, strict=True)
    ]


def _dot(a: Vector, b: Vector) -> Tensor:
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def _norm(a: Vector) -> Tensor:
    return _dot(a, a).sqrt().detach()
