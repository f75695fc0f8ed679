"""Networks as source: a Python file that needs nothing but torch."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, device, fx, nn

from ..errors import ConfigError
from .graphs import constructor_of, layer_graph

__all__ = ['Source', 'load_source', 'source_of']

_TEMPLATE = '''\
"""A network that mmrazor-mutators wrote, in plain PyTorch.

    from {name} import load

    network = load()  # Reads {state}, which lies beside this file.
"""

{imports}


class Network(nn.Module):
    """What was found, to be built without weights; see :func:`load`."""

    def __init__(self):
        super().__init__()
{layers}

{forward}


def load(path=None):
    """Return the network with its weights, in eval mode.

    Args:
        path: Of the weights; by default {state} beside this file.
    """
    path = Path(__file__).with_name({state!r}) if path is None else path
    network = Network()
    network.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return network.eval()
'''


class Source(NamedTuple):
    """A network as text and weights.

    Attributes:
        text: Of the Python file.
        state: ``{name: tensor}``, for its ``load``.
    """

    text: str
    state: dict[str, Tensor]


def source_of(
    network: nn.Module, example: tuple[Tensor, ...], name: str, state_name: str
) -> Source:
    """Write a network as source that imports nothing but torch.

    Layers of torch stay layers with their settings; all else is written as the operations
    that it does in eval mode.

    Args:
        network: In eval mode.
        example: Its inputs, of at least two samples.
        name: Of the module that the file is.
        state_name: Name of the file with the weights.

    Raises:
        ConfigError: A network that ``torch.export`` cannot follow, or one that calls what
            torch does not have.
    """
    graph, layers, tensors = layer_graph(network, example)
    names = _Names()
    lines, state = [], {}
    owned: dict[int, str] = {}
    for target, layer in layers.items():
        short = names.of(target)
        lines.append(f'self.{short} = {constructor_of(layer)}')
        for key, value in layer.state_dict(keep_vars=True).items():
            state[f'{short}.{key}'] = value.detach().clone().contiguous()
            if id(value) in owned:
                lines.append(f'self.{short}.{key} = self.{owned[id(value)]}')
            owned.setdefault(id(value), f'{short}.{key}')
    for target, value in tensors.items():
        short = names.of(target)
        lines.append(_tensor_line(short, value))
        state[short] = value.detach().clone().contiguous()
    for node in graph.nodes:
        if node.op in ('call_module', 'get_attr'):
            node.target = names.of(str(node.target))
    text = _TEMPLATE.format(
        name=name,
        state=state_name,
        imports='\n'.join(_imports(graph)),
        layers='\n'.join(f'        {line}' for line in lines) or '        pass',
        forward=_forward(graph),
    )
    return Source(text, state)


class _Names:
    """Gives each target a name of its own that an attribute of a module can have."""

    def __init__(self) -> None:
        self._by_target: dict[str, str] = {}
        self._taken = {*dir(nn.Module()), *keyword.kwlist}

    def of(self, target: str) -> str:
        if target not in self._by_target:
            short = base = re.sub(r'\W', '_', target).strip('_') or 'layer'
            if base[0].isdigit():
                short = base = f'layer_{base}'
            number = 2
            while short in self._taken:
                short, number = f'{base}_{number}', number + 1
            self._taken.add(short)
            self._by_target[target] = short
        return self._by_target[target]


def _tensor_line(name: str, value: Tensor) -> str:
    shape = tuple(value.shape)
    dtype = '' if value.dtype == torch.float32 else f', dtype={value.dtype}'
    made = f'torch.zeros({shape}{dtype})'
    if isinstance(value, nn.Parameter):
        frozen = '' if value.requires_grad else ', requires_grad=False'
        return f'self.{name} = nn.Parameter({made}{frozen})'
    return f'self.register_buffer({name!r}, {made})'


def _imports(graph: fx.Graph) -> list[str]:
    math, torchs, others = [], ['nn'], []
    code = graph.python_code('self')
    for name, value in code.globals.items():
        if not re.search(rf'(?<![.\w]){name}\b(?! *=)', code.src):
            continue  # There for graphs of other kinds.
        if name in ('inf', 'nan'):
            math.append(name)
        elif value is device:
            torchs.append(name)
        elif value is type(None):
            others = ['', f'{name} = type(None)']
        elif value is not torch:
            raise ConfigError(
                f'The network cannot be written as source that imports nothing but torch, '
                f'since it calls {value!r}; write it as .pt or .pt2'
            )
    return [
        *([f'from math import {", ".join(sorted(math))}'] if math else []),
        'from pathlib import Path',
        '',
        'import torch',
        f'from torch import {", ".join(sorted(torchs))}',
        *others,
    ]


def _forward(graph: fx.Graph) -> str:
    """Return the method, indented; what fx adds to free memory and its types are left out."""
    code = graph.python_code('self').src
    lines = []
    for line in code.splitlines():
        line = line.partition(';  ')[0].rstrip()
        line = re.sub(r'^(\s*\w+) : [^=]+ = ', r'\1 = ', line)
        if line.strip() and not line.lstrip().startswith('#'):
            lines.append(f'    {line}')
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith('def forward'))
    return '\n'.join(lines[start:])


def load_source(text: str, state: dict[str, Tensor]) -> nn.Module:
    """Run the source of a network, and give it its weights."""
    scope: dict[str, Any] = {'__name__': 'written', '__file__': str(Path('written.py'))}
    exec(compile(text, 'written.py', 'exec'), scope)
    network = scope['Network']()
    network.load_state_dict(state)
    return network.eval()
