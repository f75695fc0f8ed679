"""Write a network in the form that the name of the file asks for."""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..durable import write_durably
from ..errors import ConfigError, InputError, did_you_mean
from ..mutables import find_mutables, use_torch_classes
from ..structures import tensors_in
from .onnx_files import RTOL, onnx_of, run_onnx
from .programs import program_of
from .source import load_source, source_of

__all__ = ['SUFFIXES', 'files_of', 'write_network']


class _Written(NamedTuple):
    """What is to be written, and what it computes.

    Attributes:
        contents: By the name of each file; what others need comes first.
        run: Computes what the files say.
        rtol: How far a number may be off, relative to it.
    """

    contents: dict[str, bytes]
    run: Callable[..., Any]
    rtol: float | None = None


def _as_module(network: nn.Module, example: tuple[Tensor, ...], path: Path) -> _Written:
    content = _saved(network)
    return _Written({path.name: content}, torch.load(io.BytesIO(content), weights_only=False))


def _as_program(network: nn.Module, example: tuple[Tensor, ...], path: Path) -> _Written:
    file = io.BytesIO()
    program = program_of(network, example)
    with warnings.catch_warnings():
        # It says so of every weight with the channels last, and is right all the same.
        warnings.filterwarnings('ignore', 'No complete tensor found', UserWarning)
        torch.export.save(program, file)
    loaded = torch.export.load(io.BytesIO(file.getvalue()))
    return _Written({path.name: file.getvalue()}, loaded.module())


def _as_onnx(network: nn.Module, example: tuple[Tensor, ...], path: Path) -> _Written:
    content = onnx_of(network, example)

    def run(*inputs: Tensor) -> list[Tensor]:
        return run_onnx(content, inputs)

    return _Written({path.name: content}, run, RTOL)


def _as_source(network: nn.Module, example: tuple[Tensor, ...], path: Path) -> _Written:
    state_path = _state_path(path)
    source = source_of(network, example, path.stem, state_path.name)
    contents = {state_path.name: _saved(source.state), path.name: source.text.encode()}
    return _Written(contents, load_source(source.text, source.state))


def _saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


_WRITERS = {
    '.pt': _as_module,
    '.pth': _as_module,
    '.pt2': _as_program,
    '.onnx': _as_onnx,
    '.py': _as_source,
}
SUFFIXES = tuple(_WRITERS)
"""What the name of a file may end in."""


def files_of(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that :func:`write_network` writes.

    Raises:
        ConfigError: A name that ends in something else.

    >>> [file.name for file in files_of('found.py')]
    ['found.state.pt', 'found.py']
    """
    target = Path(path)
    if target.suffix not in _WRITERS:
        raise ConfigError(
            f'Cannot export to {target.name!r}: {did_you_mean(target.suffix, SUFFIXES)}'
        )
    if target.suffix == '.py':
        if not target.stem.isidentifier():
            raise ConfigError(
                f'Cannot export to {target.name!r}: expected a name that Python can import, '
                'such as found.py'
            )
        return _state_path(target), target
    return (target,)


def _state_path(path: Path) -> Path:
    return path.with_suffix('.state.pt')


def write_network(
    network: nn.Module, path: str | os.PathLike[str], example_inputs: Any
) -> tuple[Path, ...]:
    """Write a network, after a look at whether the file computes the same.

    Args:
        network: Without anything to search; written in eval mode, and not changed.
        path: Ends in ``.pt`` or ``.pth`` for the pickled module; in ``.pt2`` for a program
            of ``torch.export``, in ``.onnx`` for ONNX, and in ``.py`` for source that needs
            nothing but torch and the weights beside it, all of which do without this library.
        example_inputs: A tensor or a tuple of them, of at least two samples. But for their
            number, all inputs of a program, ONNX or source have to be of these shapes, as
            far as the network does not say otherwise.

    Returns:
        The files.

    Raises:
        ConfigError: Another ending, a network that has something to search or that the
            format cannot express, or a file that cannot be written.
        InputError: No such inputs.
        HostError: What ``.onnx`` needs is not installed.

    >>> import tempfile
    >>> network, x = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.randn(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_network(network, f'{folder}/found.py', x)]
    ['found.state.pt', 'found.py']
    """
    target = Path(path)
    paths = files_of(target)
    example = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not example or not all(map(_is_batch, example)):
        raise InputError(
            'Expected the example inputs to be a tensor of at least two samples, or a tuple of '
            f'such, but got {[getattr(x, "shape", x) for x in example]}'
        )
    if next(find_mutables(network), None) is not None:
        raise ConfigError(
            'The exported network still has something to search; see export_subnet'
        )
    network = copy.deepcopy(network).eval()
    use_torch_classes(network)
    with torch.no_grad():
        expected = network(*example)
        written = _WRITERS[target.suffix](network, example, target)
        _check_equal(target, written, written.run(*example), expected)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in paths:
            write_durably(file, written.contents[file.name])
    except OSError as error:
        raise ConfigError(f'Cannot write {str(target)!r}: {error.strerror}') from error
    return paths


def _is_batch(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0 and len(x) > 1


def _check_equal(path: Path, written: _Written, output: Any, expected: Any) -> None:
    """Refuse to write what computes something else."""
    atol = None if written.rtol is None else written.rtol / 10
    try:
        torch.testing.assert_close(
            tensors_in(output), tensors_in(expected), rtol=written.rtol, atol=atol
        )
    except AssertionError as error:
        hint = '' if path.suffix in ('.pt', '.pth') else '; .pt takes every network'
        raise ConfigError(
            f'Cannot export to {path.name!r}: what would be written computes something else '
            f'than the network ({" ".join(str(error).split())}){hint}'
        ) from error
