"""Ways to damage nested values and texts, drawn at random."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .damaged_configs import JUNK


def tensors_like(value: Any, rng: random.Random) -> Any:
    """Return a tensor that is wrong in place of a value, in most cases in one way alone."""
    like = value if isinstance(value, Tensor) else torch.ones(3)
    choices: tuple[Callable[[], Any], ...] = (
        lambda: torch.full(like.shape, math.nan),
        lambda: torch.full(like.shape, math.inf),
        lambda: torch.full(like.shape, 1e30),
        lambda: torch.full(like.shape, -3.0),
        lambda: like.to(torch.int64),
        lambda: like.to(torch.complex64),
        lambda: like.to(torch.bool),
        lambda: like.to(torch.float16),
        lambda: torch.zeros(2, 7),
        lambda: torch.zeros(0),
        lambda: torch.zeros(1).expand(2**40),
        lambda: torch.zeros(like.shape).to_sparse(),
        lambda: torch.zeros(like.shape, device='meta'),
        lambda: like[None],
        lambda: like.reshape(-1)[:1].expand(like.shape),
        lambda: like.tolist(),
    )
    return rng.choice(choices)()


def wrong(value: Any, rng: random.Random) -> Any:
    """Return a value in place of another one."""
    if isinstance(value, Tensor) or rng.random() < 0.2:
        return tensors_like(value, rng)
    if type(value) in (int, float) and rng.random() < 0.5:
        return rng.choice([math.nan, math.inf, -value - 1, value + 1, 1e30, 2**62, str(value)])
    return copy.deepcopy(rng.choice(JUNK))


def damaged(whole: Any, rng: random.Random) -> tuple[Any, str]:
    """Return a copy of nested values of which one is changed, and what was done."""
    result = copy.deepcopy(whole)
    parent, path = result, []
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        path.append(rng.choice(keys))
        value = parent[path[-1]]
        inside = dict(vars(value)) if type(value).__name__ == 'HistoryBuffer' else value
        deeper = isinstance(inside, (dict, list)) and inside and rng.random() < 0.75
        if not deeper:
            break
        if inside is not value:  # It keeps what it holds in attributes.
            key = rng.choice([*inside])
            vars(value)[key] = copy.deepcopy(rng.choice(JUNK))
            return result, f'{path} .{key} became {vars(value)[key]!r}'
        parent = value
    key, how = path[-1], rng.choice(('drop', 'replace', 'replace', 'replace', 'rename', 'add'))
    if how == 'drop':
        del parent[key]
    elif how == 'rename' and isinstance(parent, dict):
        parent[rng.choice([f'{key}_x', 3, ''])] = parent.pop(key)
    elif how == 'add' and isinstance(parent, dict):
        parent[rng.choice(['x', 7])] = wrong(value, rng)
    elif how == 'add':
        parent.insert(key, copy.deepcopy(value))
    else:
        parent[key] = wrong(value, rng)
        shown = parent[key]
        how = 'became ' + (
            f'{tuple(shown.shape)} {shown.dtype}'
            if isinstance(shown, Tensor)
            else repr(shown)[:40]
        )
    return result, f'{".".join(map(str, path))} {how}'


def scrambled(text: str, rng: random.Random) -> tuple[str, str]:
    """Return a text of which some characters or a line are changed, and what was done."""
    place, lines = rng.randrange(len(text)), text.split('\n')
    number = rng.randrange(len(lines))
    how = rng.choice(('cut', 'characters', 'character', 'line twice', 'indent', 'swap'))
    if how == 'cut':
        return text[:place], f'cut at {place}'
    if how == 'characters':
        drawn = ''.join(rng.choice('{}[]:,-&*!|>\'"%@`\t\n x0\0\x7fé') for _ in range(3))
        return text[:place] + drawn + text[place:], f'{drawn!r} at {place}'
    if how == 'character':
        return text[:place] + text[place + 1 :], f'lost {text[place]!r} at {place}'
    if how == 'line twice':
        lines.insert(number, lines[number])
    elif how == 'indent':
        lines[number] = '  ' + lines[number]
    else:
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    return '\n'.join(lines), f'line {number}: {how}'
