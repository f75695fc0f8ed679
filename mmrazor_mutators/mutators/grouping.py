"""Names of spaces after MMRazor 1.0: by alias, by place, or by a group of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError, SearchSpaceError, did_you_mean
from ..mutables import MutableModule

__all__ = ['FormerName', 'check_groups', 'name_spaces', 'rename', 'restore_names']

FormerName = tuple[MutableModule, str, bool]
"""A mutable, the ``space_id`` that it had, and whether its user had given it."""


def check_groups(custom_groups: Any) -> list[list[str]]:
    """Return ``custom_groups`` as lists of names.

    Raises:
        ConfigError: Something else than lists of names, or an empty one.
    """
    groups = [] if custom_groups is None else custom_groups
    listed = isinstance(groups, (list, tuple)) and all(
        isinstance(group, (list, tuple)) and group and all(isinstance(n, str) for n in group)
        for group in groups
    )
    if not listed:
        raise ConfigError(
            f'Expected `custom_groups` to be a list of lists of names, but got {groups!r}'
        )
    return [list(group) for group in groups]


def name_spaces(
    supernet: nn.Module, custom_groups: Sequence[Sequence[str]] = ()
) -> list[tuple[MutableModule, str]]:
    """Return the mutables of a supernet and the space that each belongs to.

    A group is one space with the name of its first member.  Other mutables with
    the same alias (``space_id``) make up a space, and one without an alias is
    called after its place, with ``'/'`` for ``'.'``, since a space may not have
    a dot in its name.

    Args:
        supernet: Without placeholders.
        custom_groups: Lists of aliases, which stand for every mutable that has
            it, and names of modules.

    Raises:
        SearchSpaceError: A name that no mutable has, a mutable that is in two
            groups, or twice in one, or two spaces that get the same name.

    >>> import mmrazor_mutators as mm
    >>> choices = dict(skip=nn.Identity())
    >>> supernet = nn.Sequential(
    ...     mm.DiffMutableOP(choices), mm.DiffMutableOP(choices), mm.DiffMutableOP(choices)
    ... )
    >>> [space_id for _, space_id in name_spaces(supernet, [['2', '0']])]
    ['2', '1', '2']
    """
    places = {name: m for name, m in supernet.named_modules() if isinstance(m, MutableModule)}
    by_alias: dict[str, list[str]] = {}
    for place, mutable in places.items():
        if getattr(mutable, 'is_named', True):
            by_alias.setdefault(mutable.space_id, []).append(place)
    # What a space is, and its name; different ones must not end up with the same name.
    space_of: dict[str, tuple[Any, str]] = {}
    for number, group in enumerate(custom_groups):
        first = group[0] if group[0] in by_alias else _as_id(group[0])
        for name in group:
            if name not in by_alias and name not in places:
                raise SearchSpaceError(
                    f'`custom_groups` names {name!r}, which is neither the alias nor the place '
                    f'of a mutable; {did_you_mean(name, [*by_alias, *places])}'
                )
            for place in by_alias.get(name, [name]):
                if place in space_of:
                    raise SearchSpaceError(
                        f'`custom_groups` names the mutable at {place!r} twice, the second '
                        f'time as {name!r} in {list(group)}'
                    )
                space_of[place] = number, first
    for place, mutable in places.items():
        if place not in space_of:
            named = getattr(mutable, 'is_named', True)
            name = mutable.space_id if named else _as_id(place)
            space_of[place] = (('alias', name) if named else ('place', name)), name
    kinds: dict[str, Any] = {}
    for kind, name in space_of.values():
        if kinds.setdefault(name, kind) != kind:
            raise SearchSpaceError(
                f'Two different spaces would be called {name!r}; give one of them another '
                'alias, or begin its group with another member'
            )
    return [(mutable, space_of[place][1]) for place, mutable in places.items()]


def _as_id(place: str) -> str:
    return place.replace('.', '/') or 'supernet'


def rename(named: Sequence[tuple[MutableModule, str]]) -> list[FormerName]:
    """Let each mutable belong to the space that is named with it; return what was before."""
    former = [(m, m.space_id, getattr(m, 'is_named', True)) for m, _ in named]
    for mutable, space_id in named:
        _call(mutable, space_id, True)
    return former


def restore_names(former: Sequence[FormerName]) -> None:
    """Undo :func:`rename`."""
    for mutable, space_id, is_named in former:
        _call(mutable, space_id, is_named)


def _call(mutable: MutableModule, space_id: str, is_named: bool) -> None:
    mutable.space_id = space_id
    if hasattr(mutable, 'is_named'):
        mutable.is_named = is_named
