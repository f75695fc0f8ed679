"""Paths as masks and as subnets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..errors import ConfigError, SearchSpaceError, SubnetError
from ..mutables import MutableModule, match_subnet
from ..typing import SearchSpaces, Subnet

__all__ = [
    'Masks',
    'check_masks',
    'cross_masks',
    'draw_mask',
    'drawing_weights',
    'masks_of',
    'mutate_masks',
    'subnet_of',
]

Masks = dict[str, Tensor]
"""``{space_id: mask}``, 1 where a choice runs and 0 elsewhere, shape ``(num_choices,)``."""


def check_masks(spaces: SearchSpaces, masks: Mapping[str, Any]) -> Masks:
    """Return copies of masks, in the order of the spaces, if they fit them.

    Raises:
        SubnetError: They do not.
    """
    if masks.keys() != spaces.keys():
        raise SubnetError(
            f'Expected a mask for each of the spaces {", ".join(spaces)}, but got some for '
            f'{", ".join(map(str, masks))}'
        )
    for space_id, space in spaces.items():
        mask, mutable = masks[space_id], space['modules'][0]
        names = mutable.full_choice_names
        if not isinstance(mask, Tensor) or mask.shape != (len(names),):
            came = tuple(mask.shape) if isinstance(mask, Tensor) else repr(mask)
            raise SubnetError(
                f'In space {space_id!r}: expected a mask to be a tensor of shape '
                f'{(len(names),)}, but got {came}'
            )
        chosen = [name for name, on in zip(names, mask.tolist(), strict=True) if on]
        if not 1 <= len(chosen) <= space['num_chosen']:
            raise SubnetError(
                f'In space {space_id!r}: expected a mask to let 1 to {space["num_chosen"]} of '
                f'the choices run, but got {mask.tolist()}'
            )
        mutable.check_chosen(chosen)
    return {space_id: masks[space_id].clone() for space_id in spaces}


def subnet_of(spaces: SearchSpaces, masks: Mapping[str, Any]) -> Subnet:
    """Return ``{space_id: {'chosen': [names]}}`` for masks, with all spaces.

    Raises:
        SubnetError: Masks that do not fit the spaces.
    """
    subnet = {}
    for space_id, mask in check_masks(spaces, masks).items():
        names = spaces[space_id]['modules'][0].full_choice_names
        chosen = [name for name, on in zip(names, mask.tolist(), strict=True) if on]
        subnet[space_id] = {'chosen': chosen}
    return subnet


def masks_of(
    spaces: SearchSpaces,
    roots: Sequence[MutableModule],
    subnet: Any,
    default: Mapping[str, Sequence[str]],
) -> Masks:
    """Return the masks of a subnet.

    Args:
        spaces: Of a supernet.
        roots: Its outermost mutables.
        subnet: May leave out spaces inside of choices that are not made.
        default: What is chosen in those, by space.

    Raises:
        SubnetError: A subnet that does not fit the spaces.
    """
    match_subnet(nn.ModuleList(roots), subnet)
    masks = {}
    for space_id, space in spaces.items():
        mutable = space['modules'][0]
        chosen: Any = default[space_id]
        if space_id in subnet:
            entry = subnet[space_id]
            named = entry.get('chosen') if isinstance(entry, Mapping) else entry
            chosen = mutable.check_chosen(named)
        names = mutable.full_choice_names
        masks[space_id] = torch.tensor([float(name in chosen) for name in names])
    return check_masks(spaces, masks)


def mutate_masks(
    masks: Masks,
    free: Sequence[str],
    draw: Callable[[str], Tensor],
    prob: float,
    generator: Generator | None = None,
    tries: int = 1000,
) -> Masks:
    """Return masks that differ in some spaces, in at least one where there is a free one.

    Args:
        masks: Of all spaces.
        free: Spaces with an alternative.
        draw: Draws a mask of a space.
        prob: Of another mask in each free space, from 0 to 1.
        generator: Where to draw the spaces from.
        tries: How often another mask is drawn in each, at most.

    Raises:
        ConfigError: ``prob`` is no probability.
    """
    if isinstance(prob, bool) or not 0 <= prob <= 1:
        raise ConfigError(f'Expected `prob` to be from 0 to 1, but got {prob!r}')
    hits = torch.rand(len(free), generator=generator) < prob
    if len(free) and not hits.any():
        hits[torch.randint(len(free), (1,), generator=generator)] = True
    mutated = dict(masks)
    for space_id, hit in zip(free, hits.tolist(), strict=True):
        for _ in range(tries if hit else 0):
            mutated[space_id] = draw(space_id)
            if not mutated[space_id].equal(masks[space_id]):
                break
    return mutated


def cross_masks(first: Masks, second: Masks, generator: Generator | None = None) -> Masks:
    """Return masks of which each is from either side, with equal chances."""
    swaps = (torch.rand(len(first), generator=generator) < 0.5).tolist()
    return {
        space_id: second[space_id] if swap else first[space_id]
        for space_id, swap in zip(first, swaps, strict=True)
    }


def draw_mask(
    space: Mapping[str, Any], eligible: Sequence[str], generator: Generator | None = None
) -> Tensor:
    """Return a mask of a space, drawn by :func:`drawing_weights`, shape ``(num_choices,)``."""
    weights = drawing_weights(space, eligible)
    chosen = torch.multinomial(weights, space['num_chosen'], generator=generator)
    return torch.zeros_like(weights).index_fill_(0, chosen, 1.0)


def drawing_weights(space: Mapping[str, Any], eligible: Sequence[str]) -> Tensor:
    """Return how likely each choice of a space is to be drawn, shape ``(num_choices,)``.

    Args:
        space: An entry of the search spaces.
        eligible: Names of the choices that may be drawn.

    Raises:
        SearchSpaceError: ``space_mask`` leaves too few of them.
    """
    mutable = space['modules'][0]
    given = dict(zip(mutable.choice_names, space['space_mask'].tolist(), strict=True))
    weights = torch.tensor(
        [given[name] if name in eligible else 0.0 for name in mutable.full_choice_names]
    )
    if int((weights > 0).sum()) < space['num_chosen']:
        raise SearchSpaceError(
            f'In space {mutable.space_id!r}: {space["num_chosen"]} of the choices '
            f'{", ".join(eligible)} are to be drawn, but its `space_mask` is '
            f'{list(given.values())}'
        )
    return weights
