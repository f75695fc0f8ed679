"""Programs of ``torch.export`` as graphs of layers, which people can read."""

from __future__ import annotations

import inspect
import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

from .programs import program_of

__all__ = ['LayerGraph', 'constructor_of', 'layer_graph']


_ATEN = torch.ops.aten
_COMMON: dict[Any, Any] = {
    _ATEN.add.Tensor: operator.add,
    _ATEN.sub.Tensor: operator.sub,
    _ATEN.mul.Tensor: operator.mul,
    _ATEN.cat.default: torch.cat,
    _ATEN.flatten.using_ints: torch.flatten,
    _ATEN.relu.default: torch.relu,
}
"""What people write for an operation."""


class LayerGraph(NamedTuple):
    """What a network does.

    Attributes:
        graph: Calls modules, functions of torch and arithmetic; reads tensors.
        layers: The modules by their targets.
        tensors: The parameters and other tensors by their targets.
    """

    graph: fx.Graph
    layers: dict[str, nn.Module]
    tensors: dict[str, Tensor]


def layer_graph(network: nn.Module, example: tuple[Tensor, ...]) -> LayerGraph:
    """Follow a network, and find its layers of torch again in the operations.

    A layer whose operations are more than one value of one input, or which its own
    attributes do not describe, stays the operations that it does.

    Raises:
        ConfigError: A network that ``torch.export`` cannot follow.
    """
    program = program_of(network, example)
    module = program.module(check_guards=False)
    graph: fx.Graph = module.graph
    graph.set_codegen(fx.graph.CodeGen())
    output = next(iter(reversed(graph.nodes)))
    output.args = (_pytree.tree_unflatten(list(output.args[0]), program.call_spec.out_spec),)
    layers: dict[str, nn.Module] = {}
    for name, nodes in _calls(graph, network):
        layer = network.get_submodule(name)
        if constructor_of(layer) is not None and _join(graph, name, nodes):
            layers[name] = layer
    _use_common_names(graph)
    _follow_device(graph)
    for node in reversed(graph.nodes):
        if not node.users and node.op in ('get_attr', 'call_function') and not node.is_impure():
            graph.erase_node(node)
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op == 'get_attr':
            value: Any = module
            for part in str(node.target).split('.'):
                value = getattr(value, part)
            tensors[str(node.target)] = value
    return LayerGraph(graph, layers, tensors)


def _calls(graph: fx.Graph, network: nn.Module) -> list[tuple[str, list[fx.Node]]]:
    """Return the operations of each call of a layer, and the layer's name."""
    calls: dict[str, tuple[str, list[fx.Node]]] = {}
    for node in graph.nodes:
        stack = node.meta.get('nn_module_stack')
        if node.op != 'call_function' or not stack:
            continue
        key, (path, _) = list(stack.items())[-1]
        name = path.partition('@')[0]
        try:
            layer = network.get_submodule(name)
        except AttributeError:
            continue
        if type(layer).__module__.startswith('torch.nn.') and not any(layer.children()):
            calls.setdefault(f'{key}/{path}', (name, []))[1].append(node)
    return list(calls.values())


def _join(graph: fx.Graph, name: str, nodes: list[fx.Node]) -> bool:
    """Let one node that calls a layer stand for its operations; tell whether that can be."""
    inside = set(nodes)
    reads = {
        source: None
        for node in nodes
        for source in node.all_input_nodes
        if source not in inside and source.op != 'get_attr'
    }
    results = [node for node in nodes if any(user not in inside for user in node.users)]
    if len(reads) != 1 or len(results) != 1:
        return False
    (source,), (result,) = reads, results
    if any(isinstance(x, fx.Node) and x.meta.get('val') is None for x in (source, result)):
        return False
    with graph.inserting_after(result):
        call = graph.create_node('call_module', name, (source,))
    call.meta = dict(result.meta)
    result.replace_all_uses_with(call)
    for node in reversed(nodes):
        graph.erase_node(node)
    return True


def _use_common_names(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.target in _COMMON and not node.kwargs:
            node.target = _COMMON[node.target]


def _follow_device(graph: fx.Graph) -> None:
    """Let tensors that the graph makes lie where its first input lies."""
    first = next(node for node in graph.nodes if node.op == 'placeholder')
    device = torch.device
    makers = [node for node in graph.nodes if isinstance(node.kwargs.get('device'), device)]
    if not makers:
        return
    with graph.inserting_after(first):
        where = graph.call_function(getattr, (first, 'device'))
    for node in makers:
        node.kwargs = {**node.kwargs, 'device': where}


def constructor_of(layer: nn.Module) -> str | None:
    """Return the code that builds a layer of torch, or ``None`` if that is not known.

    >>> constructor_of(nn.Conv2d(2, 3, 1, bias=False))
    'nn.Conv2d(2, 3, 1, bias=False)'
    """
    cls: Any = type(layer)
    if cls not in vars(nn).values():
        return None
    needed: list[str] = []
    settings: dict[str, str] = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name in ('self', 'device', 'dtype') or name.startswith('_'):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(layer, name, parameter.default)
        if isinstance(value, Tensor) or (name == 'bias' and value is None):
            value = value is not None
        if not _is_plain(value):
            return None
        if parameter.default is parameter.empty:
            needed.append(_written(value))
        elif value is not parameter.default:
            settings[name] = _written(value)
    if not _builds(_call(cls, needed, settings), layer):
        return None
    for name in list(settings):
        # What changes nothing is left out: another version of torch may not know it.
        fewer = {key: value for key, value in settings.items() if key != name}
        if _builds(_call(cls, needed, fewer), layer):
            settings = fewer
    return _call(cls, needed, settings)


def _call(cls: type, needed: list[str], settings: dict[str, str]) -> str:
    words = [*needed, *(f'{name}={value}' for name, value in settings.items())]
    return f'nn.{cls.__name__}({", ".join(words)})'


def _written(value: Any) -> str:
    """Write a setting; one number stands for a pair of equal ones."""
    alike = isinstance(value, tuple) and len(value) > 1 and len(set(value)) == 1
    return repr(value[0] if alike else value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _builds(code: str, layer: nn.Module) -> bool:
    """Whether code builds a layer with the same settings and weights of the same shapes."""
    try:
        with torch.device('meta'):
            twin = eval(code, {'nn': nn, 'inf': float('inf'), 'nan': float('nan')})
    except (TypeError, ValueError, NameError, RuntimeError):
        return False
    settings, others = (
        {key: x for key, x in vars(module).items() if key[0] != '_' and key != 'training'}
        for module in (layer, twin)
    )
    if settings != others:
        return False
    shapes, shapes_of_twin = (
        {name: (x.shape, x.dtype) for name, x in module.state_dict().items()}
        for module in (layer, twin)
    )
    return shapes == shapes_of_twin
