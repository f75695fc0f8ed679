"""Subnets: what was chosen in each space, and the files that hold it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from ..documents import read_yaml
from ..durable import write_durably
from ..errors import SubnetError, did_you_mean
from ..typing import Subnet
from .base import MutableModule
from .spaces import find_chosen, find_mutables

__all__ = ['dump_subnet', 'load_subnet', 'match_subnet']

_HINT = '. A search writes one as subnet.yaml into its work directory'


def match_subnet(
    supernet: nn.Module, subnet: Subnet
) -> list[tuple[MutableModule, tuple[str, ...]]]:
    """Find the mutables that a subnet keeps, and what it chooses in them.

    Spaces that stand inside choices which are not chosen may be missing, and
    are left out of the result.

    Args:
        supernet: With mutables, deployed or not.
        subnet: ``{space_id: {'chosen': [choice names], ...}}``.

    Returns:
        Pairs of a mutable and its chosen names, outer mutables first.

    Raises:
        SubnetError: A space that is missing or unknown, an unknown choice, or
            more choices than the space keeps.
    """
    if not isinstance(subnet, Mapping):
        raise SubnetError(
            "Expected a subnet to be a mapping {space_id: {'chosen': [...]}}, but got "
            f'{type(subnet).__name__}'
        )
    known = list(dict.fromkeys(mutable.space_id for mutable in find_mutables(supernet)))
    for space_id in subnet:
        if space_id not in known:
            raise SubnetError(
                f'The subnet names a space {space_id!r} that the supernet does not have; '
                f'{did_you_mean(str(space_id), known)}'
            )
    return list(find_chosen([supernet], lambda mutable: _chosen_of(mutable, subnet)))


def _chosen_of(mutable: MutableModule, subnet: Subnet) -> tuple[str, ...]:
    space_id = mutable.space_id
    if space_id not in subnet:
        raise SubnetError(
            f'The subnet lacks the space {space_id!r}, whose choices are '
            f'{", ".join(mutable.choice_names)}'
        )
    entry = subnet[space_id]
    if not isinstance(entry, Mapping) or 'chosen' not in entry:
        raise SubnetError(
            f"In space {space_id!r}: expected {{'chosen': [choice names]}}, but got {entry!r}"
        )
    chosen = mutable.check_chosen(entry['chosen'])
    if len(chosen) > mutable.num_chosen:
        raise SubnetError(
            f'In space {space_id!r}: expected at most {mutable.num_chosen} of its choices, '
            f'but got {list(chosen)}'
        )
    return chosen


def load_subnet(path: str | os.PathLike[str]) -> Subnet:
    """Read a subnet from a YAML (or JSON) file, of at most 1 MiB.

    Raises:
        SubnetError: A missing or unreadable file, or one that holds no subnet.
    """
    content: Any = read_yaml(path, 'subnet file', SubnetError, _HINT)
    if not isinstance(content, dict) or not content:
        raise SubnetError(
            f'Expected the subnet file {os.fspath(path)!r} to hold a mapping '
            f"{{space_id: {{'chosen': [...]}}}}, but it holds {type(content).__name__}"
        )
    return content


def dump_subnet(subnet: Subnet, path: str | os.PathLike[str]) -> None:
    """Write a subnet as YAML; a file that is there is replaced in one go.

    Raises:
        SubnetError: The subnet holds something that YAML does not, or the
            file cannot be written.
    """
    target = Path(path)
    try:
        text = yaml.safe_dump(subnet, sort_keys=False)
    except yaml.YAMLError as error:
        raise SubnetError(
            f'The subnet cannot be written to {os.fspath(path)!r}, because YAML holds names '
            f'and numbers: {error}'
        ) from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, text)
    except OSError as error:
        raise SubnetError(
            f'Cannot write the subnet file {os.fspath(path)!r}: {error.strerror}'
        ) from error
