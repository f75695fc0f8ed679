"""A hole in an architecture, and its replacement by a mutable."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import build_mutable
from ..errors import BindingError, ConfigError, SearchSpaceError, did_you_mean
from ..typing import ConfigDict
from .traversal import traverse

__all__ = ['Placeholder', 'convert_placeholders']


class Placeholder(nn.Module):
    """A place where something will be searched for.

    The architecture says where (``space_id``) and with which shapes
    (``choice_args``); the mutator's ``placeholder_mapping`` says what:
    for each group the config of a mutable with its choices.  What fills the hole gets the
    device, the dtype and the mode of the hole, which moves with the architecture.

    Args:
        group: Which entry of the ``placeholder_mapping`` fills the hole.
        space_id: The space that the mutable will belong to.
        choices: The choices, where the architecture itself brings them (as
            an edge does, whose choices are modules that are built already).
        choice_args: Arguments that every choice gets.
        num_chosen: How many choices a subnet keeps, where the architecture
            says so.
        default: What stands here if the mapping lacks the group, so that a
            search may leave the place as it is.

    Raises:
        SearchSpaceError: A ``default`` that is no module.
    """

    _place: Tensor

    def __init__(
        self,
        group: str,
        space_id: str,
        choices: nn.ModuleDict | Mapping[str, Any] | None = None,
        choice_args: ConfigDict | None = None,
        num_chosen: int | None = None,
        default: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.placeholder_group = group
        self.placeholder_kwargs: dict[str, Any] = {'space_id': space_id}
        if choices is not None:
            self.placeholder_kwargs['choices'] = choices
        if choice_args is not None:
            self.placeholder_kwargs['choice_args'] = choice_args
        if num_chosen is not None:
            self.placeholder_kwargs['num_chosen'] = num_chosen
        if default is not None and not isinstance(default, nn.Module):
            raise SearchSpaceError(
                f'In space {space_id!r}: expected `default` of a placeholder to be a module or '
                f'None, but got {default!r}'
            )
        self.default = default
        # Moves with the supernet, and so tells where what will stand here has to be.
        self.register_buffer('_place', torch.empty(0), persistent=False)
        if isinstance(choices, nn.Module):
            # A child like any other: it moves between devices before the search.
            self.choices = choices

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse to run: nothing stands here yet.

        Raises:
            BindingError: Always.
        """
        raise BindingError(
            f'The placeholder {self.placeholder_kwargs["space_id"]!r} of group '
            f'{self.placeholder_group!r} was not replaced by a mutable; call '
            'mutator.prepare_from_supernet(supernet) before the first forward pass'
        )


def convert_placeholders(
    supernet: nn.Module, placeholder_mapping: Mapping[str, ConfigDict]
) -> Callable[[], None]:
    """Replace every placeholder below ``supernet`` by a mutable, in place.

    Args:
        supernet: The architecture with placeholders.
        placeholder_mapping: ``{group: config of a mutable}``; never changed.
            A ready module among the choices is copied for each placeholder.
            Where it lacks a group, a placeholder's ``default`` stands in.

    Returns:
        A function that puts the placeholders back.

    Raises:
        SearchSpaceError: A group without an entry and without a default.  The
            supernet is then as it was.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    built: dict[int, nn.Module] = {}

    def undo() -> None:
        while replaced:
            parent, name, child = replaced.pop()
            parent._modules[name] = child

    try:
        for parent, name, child in traverse(supernet):
            if isinstance(child, Placeholder):
                if id(child) not in built:
                    built[id(child)] = _build(child, placeholder_mapping)
                replaced.append((parent, name, child))
                parent._modules[name] = built[id(child)]
    except BaseException:
        undo()
        raise
    return undo


def _build(
    placeholder: Placeholder, placeholder_mapping: Mapping[str, ConfigDict]
) -> nn.Module:
    group = placeholder.placeholder_group
    if group not in placeholder_mapping:
        if placeholder.default is not None:
            return placeholder.default
        raise SearchSpaceError(
            f'The placeholder {placeholder.placeholder_kwargs["space_id"]!r} is of group '
            f'{group!r}, which placeholder_mapping lacks; '
            f'{did_you_mean(group, placeholder_mapping)}'
        )
    # The mapping speaks last: it may overrule what the architecture suggests.  Ready
    # modules in it are templates, so that no two places share weights by accident.
    mutable_cfg = copy.deepcopy(placeholder_mapping[group])
    if not isinstance(mutable_cfg, Mapping):
        raise ConfigError(
            f'Expected placeholder_mapping[{group!r}] to be the config of a mutable, but got '
            f'{mutable_cfg!r}'
        )
    mutable = build_mutable({**placeholder.placeholder_kwargs, **mutable_cfg})
    _settle(mutable, placeholder)
    return mutable


def _settle(mutable: nn.Module, placeholder: Placeholder) -> None:
    """Give what was built the device, the dtype and the mode of the hole.

    Choices that the architecture brought have had their own all along.
    """
    parts = mutable._modules
    brought = placeholder._modules.get('choices')
    others = {name: part for name, part in parts.items() if part is not brought}
    try:
        mutable._modules = others
        mutable.to(placeholder._place)
        if not placeholder.training:
            # A part of a template may stay in eval mode while all else is trained.
            mutable.eval()
    finally:
        mutable._modules = parts
