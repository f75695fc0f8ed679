"""Which parts are registered, read off the source: nothing is imported for a list."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ['KINDS', 'Part', 'read_parts']

KINDS = {
    'mutators': 'MUTATORS',
    'mutables': 'MUTABLES',
    'ops': 'OPS',
    'architectures': 'ARCHITECTURES',
    'algorithms': 'ALGORITHMS',
    'extensions': 'EXTENSIONS',
    'hypergradients': 'HYPERGRADIENTS',
    'datasets': 'DATASETS',
    'transforms': 'TRANSFORMS',
    'metrics': 'METRICS',
    'hooks': 'HOOKS',
    'loops': 'LOOPS',
    'optimizers': 'OPTIMIZERS',
    'constructors': 'OPTIM_WRAPPER_CONSTRUCTORS',
}
"""The registry of each kind of part, by its name in ``registry.py``."""

TRAITS = ('paper', 'samples', 'cost')


@dataclass(frozen=True)
class Part:
    """What a list tells of a part.

    Attributes:
        name: By which a config names it.
        summary: The first line of its docstring.
        traits: ``{'paper', 'samples', 'cost'}`` as far as it says so.
    """

    name: str
    summary: str
    traits: dict[str, str] = field(default_factory=dict)


@dataclass
class _Class:
    """A class in the source."""

    node: ast.ClassDef | ast.FunctionDef
    kind: str | None
    registered_as: str

    def bases(self) -> list[str]:
        nodes = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        return [base.id for base in nodes if isinstance(base, ast.Name)]

    def texts(self) -> dict[str, str]:
        """Return the strings that the class body assigns."""
        found = {}
        for line in self.node.body:
            targets = line.targets if isinstance(line, ast.Assign) else []
            if isinstance(line, ast.AnnAssign):
                targets = [line.target]
            value = getattr(line, 'value', None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.update({t.id: value.value for t in targets if isinstance(t, ast.Name)})
        return found

    def methods(self) -> dict[str, bool]:
        """Return the methods that the class body defines, and whether each is abstract."""
        return {
            line.name: any(
                ast.unparse(d).endswith('abstractmethod') for d in line.decorator_list
            )
            for line in self.node.body
            if isinstance(line, ast.FunctionDef)
        }


def _registration(node: ast.ClassDef | ast.FunctionDef) -> tuple[str, str] | None:
    """Return the registry and the name of a decorated class."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else None
        if not isinstance(call, ast.Attribute) or call.attr != 'register_module':
            continue
        if isinstance(call.value, ast.Name) and isinstance(decorator, ast.Call):
            given = [k.value for k in decorator.keywords if k.arg == 'name']
            name = given[0].value if given and isinstance(given[0], ast.Constant) else node.name
            return call.value.id, str(name)
    return None


_WITHOUT_PARTS = {
    'costs',
    'functional',
    'host',
    'kernels',
    'migration',
    'page',
    'shipping',
    'views',
}
"""Folders whose classes no part inherits from: reading them takes time."""


def _classes() -> dict[str, _Class]:
    kinds = {registry: kind for kind, registry in KINDS.items()}
    found = {}
    for path in sorted(Path(__file__).resolve().parents[1].rglob('*.py')):
        text = path.read_text(encoding='utf-8')
        if path.parent.name in _WITHOUT_PARTS and 'register_module' not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                registry, name = _registration(node) or ('', node.name)
                if isinstance(node, ast.ClassDef) or registry:
                    found[node.name] = _Class(node, kinds.get(registry), name)
    return found


def _lineage(name: str, classes: dict[str, _Class]) -> Iterator[_Class]:
    """Yield a class and those that it inherits from, in the order of Python as a rule."""
    order: list[str] = []

    def visit(current: str) -> None:
        if current in classes:
            if current in order:
                order.remove(current)  # A base of several comes after all of them.
            order.append(current)
            for base in classes[current].bases():
                visit(base)

    visit(name)
    return (classes[each] for each in order)


def _traits(name: str, classes: dict[str, _Class]) -> dict[str, str]:
    lineage = list(_lineage(name, classes))
    methods: dict[str, bool] = {}
    for cls in lineage:
        for method, abstract in cls.methods().items():
            methods.setdefault(method, abstract)
    if any(methods.values()):
        return {}
    values: dict[str, str] = {}
    source: dict[str, _Class] = {}
    for cls in lineage:
        for trait, text in cls.texts().items():
            if trait in TRAITS and trait not in values:
                values[trait], source[trait] = text, cls
    if not values.get('paper'):
        return {}
    if source['paper'] is not lineage[0] and source['paper'].kind is not None:
        values['paper'] = ''  # The paper of a registered part is not its heirs'.
    return values


def read_parts() -> dict[str, dict[str, Part]]:
    """Return ``{kind: {name: part}}`` of all parts that the package registers.

    >>> read_parts()['mutators']['DartsMutator'].traits['cost']
    'all paths'
    """
    classes = _classes()
    found: dict[str, dict[str, Part]] = {kind: {} for kind in KINDS}
    for cls in classes.values():
        if cls.kind is not None:
            line, *_ = (ast.get_docstring(cls.node) or '').strip().splitlines() or ['']
            traits = _traits(cls.node.name, classes)
            part = Part(cls.registered_as, inspect.cleandoc(line), traits)
            found[cls.kind][part.name] = part
    return found
