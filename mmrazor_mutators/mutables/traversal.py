"""The one walk over the modules of a supernet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

__all__ = ['traverse']


def traverse(
    module: nn.Module, enter: Callable[[nn.Module, str], bool] = lambda parent, name: True
) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield ``(parent, name, child)`` for every module below ``module``, parents first.

    The caller may replace or remove the child while it looks at it: the walk
    goes on below whatever then stands at ``name``.  A module that is used in
    several places is yielded at each of them, and walked through once.  What
    ``enter(parent, name)`` refuses is neither.

    >>> net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
    >>> [(name, type(child).__name__) for _, name, child in traverse(net)]
    [('0', 'Sequential'), ('0', 'ReLU'), ('1', 'Tanh')]
    """
    # A stack of its own: generators inside of generators would hand each module through all
    # levels above it.
    entered = {id(module)}
    levels = [(module, iter(list(module._modules)))]
    while levels:
        parent, names = levels[-1]
        for name in names:
            child = parent._modules.get(name)
            if child is None or not enter(parent, name):
                continue
            yield parent, name, child
            current = parent._modules.get(name)
            if current is not None and id(current) not in entered:
                entered.add(id(current))
                levels.append((current, iter(list(current._modules))))
                break
        else:
            levels.pop()
