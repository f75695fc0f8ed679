"""Rules for a model that nobody has written rules for."""

from __future__ import annotations

import copy
import glob
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..errors import SearchSpaceError
from ..mutables import SearchPlan
from .convert import begin, convert, restore_original
from .recognition import Suggestion, find_suggestions
from .rules import parse_rules

__all__ = ['SuggestedRules', 'suggest_rules']


class SuggestedRules(list[dict[str, Any]]):
    """A list of rules; printed, it is a config to edit, both YAML and Python.

    Args:
        rules: Dicts of strings, numbers and lists.
        left_out: A line for what was recognised but cannot be chosen, with the reason.

    >>> print(SuggestedRules([{'match': '*.conv', 'width': [0.5, 1.0]}], ['heads of a: ...']))
    [
      # output channels, of the layer and of all that is tied to it
      {'match': '*.conv', 'width': [0.5, 1.0]},
      # left out: heads of a: ...
    ]
    """

    def __init__(
        self, rules: Iterable[dict[str, Any]] = (), left_out: Sequence[str] = ()
    ) -> None:
        super().__init__(rules)
        self.left_out = tuple(left_out)

    def __str__(self) -> str:
        lines: list[str] = []
        for rule in self:
            told = [_TOLD[kind] for kind in rule if kind in _TOLD]
            lines += [f'# {text}' for text in told if f'# {text}' not in lines]
            lines += _shown(rule)
        lines += [f'# left out: {" ".join(reason.split())}' for reason in self.left_out]
        return '\n'.join(['[', *(f'  {line}' for line in lines), ']'])


def _shown(rule: dict[str, Any]) -> list[str]:
    pairs = [f'{key!r}: {value!r}' for key, value in rule.items()]
    one_line = f'{{{", ".join(pairs)}}},'
    if len(one_line) <= 90:
        return [one_line]
    wrapped = [
        textwrap.wrap(
            f'{pair},',
            90,
            initial_indent='  ',
            subsequent_indent='    ',
            break_long_words=False,
            break_on_hyphens=False,
        )
        for pair in pairs
    ]
    return ['{', *(line for lines in wrapped for line in lines), '},']


_TOLD = {
    'width': 'output channels, of the layer and of all that is tied to it',
    'ffn': 'hidden units of blocks that attend',
    'heads': 'numbers of heads',
    'kernel_size': 'sizes of kernels',
    'depth': 'blocks that may be left out',
}


def suggest_rules(model: nn.Module, example_inputs: Any) -> SuggestedRules:
    """Return rules for what is recognised in a model, which all work together.

    These are a quarter, a half and three quarters of the output channels of convolutions,
    linear layers and embeddings whose features stay inside of the model; smaller kernels, as
    far as they read every pixel; fewer heads and hidden units of attention; and residual
    blocks that may be left out.  What the dry run of :func:`make_searchable` refuses is not
    among them.

    Args:
        model: Any module; it does not change.
        example_inputs: As for :func:`make_searchable`.

    Returns:
        A list of rules of strings, numbers and lists.  ``print`` shows it as a config, which
        is YAML and Python at once, with a line for everything that was left out.

    Raises:
        InputError: Inputs that do not pass the model.
        BindingError: The model is a supernet already.
        SearchSpaceError: A wrapper around the model.

    >>> import torch
    >>> model = nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 2, 1))
    >>> print(suggest_rules(model, torch.zeros(1, 1, 5)))
    [
      # output channels, of the layer and of all that is tied to it
      {'match': '0', 'width': [0.25, 0.5, 0.75, 1.0]},
      # sizes of kernels
      {'match': '0', 'kernel_size': [1, 3]},
    ]
    """
    plan, before = begin(model, example_inputs)
    found, left_out = find_suggestions(model, plan)
    types = {name: type(module).__name__ for name, module in model.named_modules() if name}
    twin = copy.deepcopy(model)

    def refusal(suggestions: Sequence[Suggestion], find_place: bool) -> str | None:
        rules = parse_rules(rules_of(suggestions, types))
        try:
            own = SearchPlan(example_inputs=plan.example_inputs)
            convert(twin, rules, own, before, find_place)
        except SearchSpaceError as error:
            return str(error)
        restore_original(twin)
        return None

    accepted, refused = _keep(found, refusal)
    return SuggestedRules(rules_of(accepted, types), [*left_out, *refused])


def _keep(
    found: Sequence[Suggestion], refusal: Callable[[Sequence[Suggestion], bool], str | None]
) -> tuple[list[Suggestion], list[str]]:
    """Return the suggestions that work together, and why the others do not.

    Few are refused as a rule, so that halves are tried before single ones.
    """
    kept: list[Suggestion] = []
    reasons: list[str] = []
    waiting = [list(found)] if found else []
    while waiting:
        some = waiting.pop()
        reason = refusal([*kept, *some], len(some) == 1)
        if reason is None:
            kept += some
        elif len(some) == 1:
            reasons.append(reason)
        else:
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
    return [suggestion for suggestion in found if suggestion in kept], reasons


def rules_of(
    suggestions: Sequence[Suggestion], types: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return rules that say the same as suggestions, few and with short patterns.

    Args:
        suggestions: What may be chosen.
        types: ``{qualified name: name of the type}`` of all modules of the model.
    """
    grouped: dict[tuple[str, str], tuple[list[str], Any]] = {}
    for suggestion in suggestions:
        key = suggestion.kind, repr(suggestion.value)
        grouped.setdefault(key, ([], suggestion.value))[0].extend(suggestion.names)
    rules = []
    for (kind, _), (places, value) in grouped.items():
        patterns = wildcards(places, types)
        match: Any = patterns[0] if len(patterns) == 1 else patterns
        rules.append({'match': match, kind: value})
    return rules


def wildcards(places: Sequence[str], types: Mapping[str, str]) -> list[str]:
    """Return short patterns that match the given names, and no other of a model.

    >>> types = {'stem': 'Conv2d', 'fc': 'Linear', 'a.0.conv': 'Conv2d', 'a.1.conv': 'Conv2d'}
    >>> wildcards(['a.0.conv', 'a.1.conv'], types), wildcards(['fc', 'stem'], types)
    (['*.conv'], ['fc', 'stem'])
    """
    wanted = set(places)
    patterns: list[str] = []
    covered: set[str] = set()
    for place in places:
        if place in covered:
            continue
        options = {
            pattern: {name for name in types if fnmatchcase(name, pattern)}
            for pattern in _patterns(place)
        }
        if types[place] not in types:  # As a name, it would be taken for that.
            options[types[place]] = {n for n, kind in types.items() if kind == types[place]}
        fitting = {p: found for p, found in options.items() if found <= wanted}
        best = max(fitting, key=lambda p: len(fitting[p] - covered))
        best = best if len(fitting[best]) > 1 else glob.escape(place)
        patterns.append(best)
        covered |= fitting[best]
    return patterns


def _patterns(name: str) -> list[str]:
    """Return patterns that match a name, the plainest first."""
    parts = [glob.escape(part) for part in name.split('.')]
    exact = '.'.join(parts)
    found = [exact]
    for end in range(1, len(parts)):
        if not re.fullmatch(r'\d+', parts[-end]):
            found.append('.'.join(['*', *parts[-end:]]))
    for start in range(1, len(parts) + 1):
        numbered = ['*' if re.fullmatch(r'\d+', part) else part for part in parts[:start]]
        found.append('.'.join([*numbered, *parts[start:]]))
    return list(dict.fromkeys(found))
