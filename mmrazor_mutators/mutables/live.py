"""The modules that run when choices are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import nn

from .base import MutableModule
from .spaces import find_mutables, holder_of
from .traversal import traverse

__all__ = ['live_modules', 'modules_by_choice']


def live_modules(
    roots: Iterable[nn.Module], choose: Callable[[MutableModule], tuple[str, ...]]
) -> Iterator[nn.Module]:
    """Yield every module that choices leave in place, each once.

    Args:
        roots: Where to look; they are yielded as well.
        choose: Names the choices of a mutable; what is inside of others is dead,
            unless it is used elsewhere too.
    """
    seen: set[int] = set()
    for root in roots:
        holders = {id(holder_of(mutable)): mutable for mutable in find_mutables(root)}

        def enter(
            parent: nn.Module, name: str, holders: dict[int, MutableModule] = holders
        ) -> bool:
            mutable = holders.get(id(parent))
            return mutable is None or name in choose(mutable)

        for module in (root, *(child for _, _, child in traverse(root, enter))):
            if id(module) not in seen:
                seen.add(id(module))
                yield module


def modules_by_choice(
    roots: Iterable[nn.Module],
) -> list[tuple[MutableModule, str, list[nn.Module]]]:
    """Return ``(mutable, choice, modules)`` for every choice, outer mutables first.

    The modules are those inside of the choice, without what is inside of the
    choices of further mutables there.
    """
    mutables = [mutable for root in roots for mutable in find_mutables(root)]
    holders = {id(holder_of(mutable)) for mutable in mutables}
    found = []
    for mutable in mutables:
        for name, choice in (holder_of(mutable) or {}).items():
            below = traverse(choice, lambda parent, _: id(parent) not in holders)
            found.append((mutable, name, [choice, *(child for _, _, child in below)]))
    return found
