"""The search space that the mutables of a supernet make up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from torch import nn

from ..errors import SearchSpaceError
from ..typing import SearchSpaces
from .base import MutableModule
from .modules import ModuleMutable
from .traversal import traverse

__all__ = [
    'build_search_spaces',
    'find_chosen',
    'find_mutables',
    'holder_of',
    'mutables_inside',
]


def find_mutables(supernet: nn.Module) -> Iterator[MutableModule]:
    """Yield the mutables of ``supernet``, itself included, outer ones first."""
    seen: set[int] = set()
    for module in (supernet, *(child for _, _, child in traverse(supernet))):
        if isinstance(module, MutableModule) and id(module) not in seen:
            seen.add(id(module))
            yield module


def mutables_inside(mutable: MutableModule, choice_name: str) -> list[MutableModule]:
    """Return the mutables inside one choice of ``mutable``, outer ones first."""
    holder = holder_of(mutable)
    return [] if holder is None else list(find_mutables(holder[choice_name]))


def holder_of(mutable: MutableModule) -> nn.ModuleDict | None:
    """Return what holds the choices of ``mutable``; ``None`` where they are values."""
    return mutable.choices if isinstance(mutable, ModuleMutable) else None


def find_chosen(
    roots: Iterable[nn.Module], choose: Callable[[MutableModule], tuple[str, ...]]
) -> Iterator[tuple[MutableModule, tuple[str, ...]]]:
    """Yield the mutables that a choice leaves in place, and what is chosen in them.

    Args:
        roots: Where to look.
        choose: Names the choices of a mutable; nothing else of it is looked into.
    """
    chosen_in: dict[int, tuple[str, ...]] = {}  # By the id of what holds the choices.
    seen: set[int] = set()
    for root in roots:
        below = traverse(root, lambda parent, name: name in chosen_in.get(id(parent), (name,)))
        for module in chain([root], (child for _, _, child in below)):
            if isinstance(module, MutableModule) and id(module) not in seen:
                seen.add(id(module))
                chosen = chosen_in[id(holder_of(module))] = choose(module)
                yield module, chosen


def build_search_spaces(supernet: nn.Module) -> SearchSpaces:
    """List the spaces of a supernet, in the order in which they are met.

    Returns:
        ``{space_id: {'modules', 'choice_names', 'num_chosen', 'space_mask'}}``
        where ``modules`` are the mutables that share the space, ``space_mask``
        has shape ``(num_choices,)``.

    Raises:
        SearchSpaceError: No mutable at all, one without choices, an id that is used for
            different choices, or a mutable inside another one of the same space.
    """
    spaces: SearchSpaces = {}
    for mutable in find_mutables(supernet):
        space_id = mutable.space_id
        if not mutable.full_choice_names:
            raise SearchSpaceError(
                f'In space {space_id!r}: a {type(mutable).__name__} has no choices; its '
                'constructor has to call set_choice_names(names) once it knows them'
            )
        if space_id not in spaces:
            spaces[space_id] = {
                'modules': [mutable],
                'choice_names': mutable.full_choice_names,
                'num_chosen': mutable.num_chosen,
                'space_mask': mutable.build_space_mask(),
            }
            continue
        _check_same_space(spaces[space_id]['modules'][0], mutable)
        spaces[space_id]['modules'].append(mutable)
    if not spaces:
        raise SearchSpaceError(
            f'{type(supernet).__name__} has nothing to search: it contains neither a mutable '
            'nor a placeholder. Put a MutableModule (e.g. DifferentiableOP) or a Placeholder '
            'where something is to be chosen'
        )
    return spaces


def _traits(mutable: MutableModule) -> dict[str, object]:
    """Return what mutables of one space must have in common."""
    return {
        'type': type(mutable).__name__,
        'choices': mutable.full_choice_names,
        'kinds of choices': mutable.choice_kinds,
        'num_chosen': mutable.num_chosen,
        'with_arch_param': getattr(mutable, 'with_arch_param', None),
    }


def _check_same_space(first: MutableModule, other: MutableModule) -> None:
    expected, came = _traits(first), _traits(other)
    for trait, value in expected.items():
        if came[trait] != value:
            raise SearchSpaceError(
                f'The space id {first.space_id!r} is used twice for different things: expected '
                f'{trait} {value!r} as in the first mutable with it, but another one has '
                f'{came[trait]!r}; give them different space ids'
            )
    for outer, inner in ((first, other), (other, first)):
        if any(module is inner for module in outer.modules()):
            raise SearchSpaceError(
                f'The space id {outer.space_id!r} is used twice, by a mutable and by one '
                'inside of it; give them different space ids'
            )
