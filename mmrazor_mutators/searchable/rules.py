"""Rules: which modules of a model have a choice, and what may be chosen there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..errors import ConfigError, SearchSpaceError, did_you_mean
from ..mutables.layers import original_class

__all__ = ['KINDS', 'Place', 'Rule', 'find_places', 'parse_rules']

MODULE_KINDS = ('ops', 'activation', 'norm', 'depth')
VALUE_KINDS = ('kernel_size', 'width', 'expansion', 'heads', 'ffn')
KINDS = (*MODULE_KINDS, *VALUE_KINDS)
"""What a rule can let be chosen."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        match: A wildcard of qualified names or the name of a type, a type, or a predicate
            of name and module; or a list of these, any of which may match.
        choices: ``{kind: what may be chosen}``, at least one kind.
        space: The id of the space that all matches share; each has its own by default.
    """

    match: Any
    choices: Mapping[str, Any]
    space: str | None = None

    def __str__(self) -> str:
        return f'rule match={_shown(self.match)}'


@dataclass(frozen=True)
class Place:
    """A module with a choice of one kind.

    Attributes:
        name: Its qualified name.
        module: The module.
        kind: One of :data:`KINDS`.
        value: What the rule says of it.
        rule: The rule.
        space_id: The space that it belongs to.
    """

    name: str
    module: nn.Module
    kind: str
    value: Any
    rule: Rule
    space_id: str

    def __str__(self) -> str:
        kind = original_class(self.module).__name__
        return f'{self.name!r} ({kind}), {self.kind}={_shown(self.value)}'


def _shown(value: Any) -> str:
    return getattr(value, '__name__', None) or repr(value)


def parse_rules(rules: Any) -> list[Rule]:
    """Return rules from configs, none of which is changed.

    Raises:
        ConfigError: Another form than a list of dicts with ``match`` and a known kind.

    >>> [str(rule) for rule in parse_rules([dict(match='*.conv', width=[0.5, 1.0])])]
    ["rule match='*.conv'"]
    """
    if isinstance(rules, (str, Mapping)) or not isinstance(rules, Sequence) or not rules:
        raise ConfigError(
            "Expected `rules` to be a non-empty list such as [dict(match='*.conv1', "
            f'width=[0.5, 1.0])], but got {rules!r}'
        )
    return [_parse(rule) for rule in rules]


def _parse(rule: Any) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, Mapping) or 'match' not in rule:
        raise ConfigError(
            'Expected a rule to be a dict with `match`, such as dict(match=torch.nn.ReLU, '
            f"activation=['relu', 'silu']), but got {rule!r}"
        )
    for key in rule:
        if key not in (*KINDS, 'match', 'space'):
            raise ConfigError(
                f'A rule says {key!r}, which is not known; '
                f'{did_you_mean(str(key), ["match", "space", *KINDS])}'
            )
    choices = {kind: rule[kind] for kind in KINDS if rule.get(kind) not in (None, False)}
    if not choices:
        raise ConfigError(
            f'Expected a rule to say what may be chosen, by one of {", ".join(KINDS)}, but '
            f'got {dict(rule)!r}'
        )
    space = rule.get('space')
    if space is not None and not isinstance(space, str):
        raise ConfigError(f'Expected `space` of a rule to be a name, but got {space!r}')
    return Rule(rule['match'], choices, space)


def find_places(model: nn.Module, rules: Sequence[Rule]) -> list[Place]:
    """Return every place that rules give a choice, in the order of the rules.

    Raises:
        SearchSpaceError: A rule that matches nothing, or two of one kind at one place.
        ConfigError: A ``match`` of another form.
    """
    named = [(name, module) for name, module in model.named_modules() if name]
    places: list[Place] = []
    taken: dict[tuple[int, str], Rule] = {}
    used: set[str] = set()
    for rule in rules:
        found = [pair for pair in named if _matches(rule.match, *pair, named)]
        if not found:
            raise SearchSpaceError(_nothing_found(rule, named))
        for kind, value in rule.choices.items():
            for name, module in found:
                other = taken.setdefault((id(module), kind), rule)
                if other is not rule:
                    raise SearchSpaceError(
                        f'{name!r} is matched twice for `{kind}`: by the {other} and by the '
                        f'{rule}; let only one of them match it'
                    )
                space_id = _space_of(rule, name, kind, used)
                places.append(Place(name, module, kind, value, rule, space_id))
    return places


def _space_of(rule: Rule, name: str, kind: str, used: set[str]) -> str:
    """Return a new space id; that of a rule with a ``space`` is shared by its matches."""
    if rule.space is not None:
        several = len(rule.choices) > 1
        return f'{rule.space}:{kind}' if several else rule.space
    base = name.replace('.', '/')
    taken = base in used or hasattr(nn.ParameterDict, base)
    space_id = f'{base}:{kind}' if taken else base
    used.add(space_id)
    return space_id


def _matches(
    match: Any, name: str, module: nn.Module, named: Sequence[tuple[str, nn.Module]]
) -> bool:
    if isinstance(match, (list, tuple)):
        return any(_matches(part, name, module, named) for part in match)
    if isinstance(match, str):
        if any(fnmatchcase(other, match) for other, _ in named):
            return fnmatchcase(name, match)
        return type(module).__name__ == match
    if isinstance(match, type):
        return isinstance(module, match)
    if isinstance(match, Callable):  # type: ignore[arg-type]
        return bool(match(name, module))
    raise ConfigError(
        'Expected `match` to be a wildcard of names, a type, or a function of name and '
        f'module, but got {match!r}'
    )


def _nothing_found(rule: Rule, named: Sequence[tuple[str, nn.Module]]) -> str:
    names = [name for name, _ in named]
    types = sorted({type(module).__name__ for _, module in named})
    hint = ''
    if isinstance(rule.match, str):
        shown = did_you_mean(rule.match, [*names, *types]).split(' Known: ')[0]
        hint = f' {shown};' if shown.startswith('did') else ''
    some = ', '.join(names[:12]) + (', ...' if len(names) > 12 else '')
    return (
        f'The {rule} matches no module;{hint} the model has the modules {some} and the types '
        f'{", ".join(types)}'
    )
