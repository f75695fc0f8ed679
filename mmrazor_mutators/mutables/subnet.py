"""Subnets: what was chosen in each space, and the files that hold it."""

from __future__ import annotations

import os
import re
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
_VERSION = 1
_HEADER = re.compile(r'# mmrazor_mutators subnet, version (\d{1,9})\b')


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
        SubnetError: A missing or unreadable file, one that holds no subnet, or one of a
            later version; what is wrong in a space is said with its id.
    """
    content: Any = read_yaml(path, 'subnet file', SubnetError, _HINT)
    name = os.fspath(path)
    if not isinstance(content, dict) or not content:
        raise SubnetError(
            f'Expected the subnet file {name!r} to hold a mapping '
            f"{{space_id: {{'chosen': [...]}}}}, but it holds {type(content).__name__}"
        )
    # A comment, since MMRazor v0.2.0 takes every key for a space.
    with open(path, encoding='utf-8', errors='replace') as file:
        header = _HEADER.match(file.readline())
    if header is not None and int(header[1]) > _VERSION:
        raise SubnetError(
            f'The subnet file {name!r} has version {int(header[1])}, but this release of '
            f'mmrazor-mutators reads up to version {_VERSION}; install a later one'
        )
    for space_id, entry in content.items():
        problem = _problem_of(entry)
        if problem is not None:
            raise SubnetError(f'In the subnet file {name!r}, space {space_id!r}: {problem}')
    return content


def _problem_of(entry: Any) -> str | None:
    """Return what is wrong in what a file holds of one space, if anything is."""
    if not isinstance(entry, dict) or 'chosen' not in entry:
        return f"expected {{'chosen': [choice names]}}, but it holds {entry!r}"
    chosen, probs = entry['chosen'], entry.get('chosen_probs')
    if not isinstance(chosen, (list, tuple)) or not chosen:
        return f'expected `chosen` to be a list of at least one choice, but it holds {chosen!r}'
    strange = [x for x in chosen if isinstance(x, (dict, list, tuple)) or x is None]
    if strange:
        return f'expected `chosen` to list names of choices, but one of them is {strange[0]!r}'
    if probs is None:
        return None
    numbers = isinstance(probs, (list, tuple)) and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) for x in probs
    )
    if not numbers:
        return f'expected `chosen_probs` to be a list of numbers, but it holds {probs!r}'
    return None


def dump_subnet(subnet: Subnet, path: str | os.PathLike[str]) -> None:
    """Write a subnet as YAML; a file that is there is replaced in one go.

    Its first line is a comment with the version of the format, which MMRazor v0.2.0 skips.

    Raises:
        SubnetError: The subnet holds something that YAML does not, or the
            file cannot be written.
    """
    target = Path(path)
    try:
        text = f'# mmrazor_mutators subnet, version {_VERSION}\n' + yaml.safe_dump(
            subnet, sort_keys=False
        )
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
