"""Candidates that change their input in place, kept apart from everybody else."""

from __future__ import annotations

import dis
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..host import BaseModule
from ..kernels.graph_nodes import in_torch_func
from ..sharing import is_hooked
from ..structures import map_tensors, tensors_in

__all__ = ['Call', 'Inputs', 'Lent', 'copy_inputs', 'lend', 'note_changes', 'protected']

Inputs = tuple[Sequence[Any], Mapping[str, Any]]
"""Positional and keyword arguments of a candidate."""

_PLAIN = frozenset({Tensor, nn.Parameter})
_lazy_clone: Callable[[Tensor], Tensor] = getattr(torch, '_lazy_clone', torch.clone)


def _copy(tensor: Tensor, module: nn.Module) -> Tensor:
    """Return a copy of which PyTorch copies the values once somebody writes to it.

    Where it cannot wait for that, the tensor itself will do if ``module`` never writes.
    """
    if torch.compiler.is_compiling():  # A graph leaves out what nobody writes to.
        return tensor.clone()
    if _can_wait(tensor):
        return _lazy_clone(tensor)
    return tensor.clone() if _may_change_input(module) else tensor


def _can_wait(tensor: Tensor) -> bool:
    """Whether the values can be copied later."""
    return (
        type(tensor) in _PLAIN
        and tensor.layout == torch.strided
        and (tensor.is_cpu or tensor.is_cuda)
        and not (tensor.is_nested or tensor.is_quantized)
        # A number that is repeated cannot be written to.
        and 0 not in tensor.stride()
        and _lazy_clone is not torch.clone
        and torch._C._get_tracing_state() is None
        and not in_torch_func()
        # What is replayed relies on addresses, and they change when values are copied.
        and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def copy_inputs(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return copies of all tensors: a forward pre-hook of modules that work in place.

    Args:
        module: Which of them.
        args: Positional arguments; what comes twice is one copy, too.
        kwargs: Keyword arguments.
    """
    copies: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        found = copies.get(id(tensor))
        if found is None:
            found = copies[id(tensor)] = _copy(tensor, module)
        return found

    return map_tensors(once, args), map_tensors(once, kwargs)


_OURS = __name__.split('.')[0]
_KNOWN_PACKAGES = ('torch.nn.modules.', f'{_OURS}.')


def _is_foreign(kind: type) -> bool:
    return not kind.__module__.startswith(_KNOWN_PACKAGES)


def _has_foreign_hooks(module: nn.Module) -> bool:
    return is_hooked(module) and not all(
        str(hook.__module__).startswith(_OURS)
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        for hook in hooks.values()
    )


def _promises(module: nn.Module) -> bool:
    """Whether a candidate leaves its input to the others.

    One that shares how it begins has to, and a mutable of ours lends copies to its choices.
    What it shares is found by its input, which must not be a copy then.
    """
    if type(module) is nn.Sequential and len(module) == 1 and not is_hooked(module):
        module = module[0]
    shares = hasattr(module, 'prologue') or hasattr(module, 'term')
    is_ours = hasattr(module, 'full_choice_names') and str(
        type(module).forward.__module__
    ).startswith(_OURS)
    return (shares or is_ours) and not _has_foreign_hooks(module)


def _may_change_input(
    module: nn.Module, is_suspect: Callable[[type], bool] = _is_foreign
) -> bool:
    """Whether a part is told to work in place, has hooks, or is of a class that is suspect.

    The layers of PyTorch do what they are told, and ours change no input of theirs.  What is
    bound into a mutable is ours, too.
    """
    if type(module).__module__.startswith(f'{_OURS}.ops.') and not _has_foreign_hooks(module):
        return False
    return any(
        getattr(part, 'inplace', False) is True
        or ('forward' in part.__dict__ and not hasattr(part, 'full_choice_names'))
        or _has_foreign_hooks(part)
        or is_suspect(type(part))
        for part in module.modules()
    )


class Call(NamedTuple):
    """A candidate with all of its arguments; it shares no work.

    Attributes:
        module: The candidate.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    module: nn.Module
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def __call__(self, x: Any) -> Any:
        """Return what the candidate makes of its arguments, whatever ``x`` is."""
        return self.module(*self.args, **self.kwargs)


class Lent(NamedTuple):
    """A candidate, and what it is lent.

    Attributes:
        call: The candidate itself if it has one argument, else a :class:`Call`.
        x: What to call it with.
        copies: Those among its arguments that are its own.
    """

    call: Any
    x: Any
    copies: Sequence[Tensor]


def lend(module: nn.Module, given: Inputs, compiled: bool = False) -> Lent:
    """Return a candidate with arguments of which no change reaches anybody else.

    They are copies that wait: values are copied when a candidate writes to them, and not
    before, so nothing is copied where nothing works in place.

    Args:
        module: The candidate.
        given: Its arguments.
        compiled: Whether it may run in a graph that was compiled for it, which would copy
            what waits: then only a candidate that may write gets copies.
    """
    args, kwargs = given
    copies: list[Tensor] = []
    if not _promises(module) and (not compiled or _may_change_input(module)):
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            args = copies = [_copy(args[0], module)]
        else:
            args, kwargs = copy_inputs(module, args, kwargs)
            copies = tensors_in((tuple(args), kwargs))
    if len(args) == 1 and not kwargs:
        return Lent(module, args[0], copies)
    return Lent(Call(module, args, kwargs), None, copies)


_changes: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a candidate that ran has written to its input."""


def note_changes(modules: Sequence[nn.Module], lent: Sequence[Lent]) -> None:
    """Note which candidates wrote to what they were lent, for :func:`protected`."""
    if torch.compiler.is_compiling():
        return
    for module, (_, _, copies) in zip(modules, lent, strict=True):
        for copy in copies:
            if copy.is_inference():
                continue  # PyTorch counts no changes of it.
            changed = copy._version > 0
            if changed or module not in _changes:
                _changes[module] = changed


def _has_code_in_place(kind: type) -> bool:
    """Whether a class of somebody else's has code that looks like work in place."""
    methods = [
        member
        for base in kind.__mro__
        if _is_foreign(kind) and _is_foreign(base) and base not in BaseModule.__mro__
        for name, member in vars(base).items()
        if isinstance(member, FunctionType) and not name.startswith('__')
    ]
    return any(map(_works_in_place, methods))


def _works_in_place(function: FunctionType) -> bool:
    """Whether it has ``x += y``, ``x[i] = y``, ``x.relu_()`` or ``inplace=...`` in it."""
    code = function.__code__
    if any(isinstance(value, tuple) and 'inplace' in value for value in code.co_consts):
        return True
    if any(name.endswith('_') and not name.startswith('_') for name in code.co_names):
        return True
    return any(
        step.opname == 'STORE_SUBSCR'
        or step.opname.startswith('INPLACE_')
        or (step.opname == 'BINARY_OP' and step.argrepr.endswith('='))
        for step in dis.Bytecode(code)
    )


def protected(module: nn.Module, duplicate: nn.Module) -> nn.Module:
    """Return the copy of a candidate for a network without mutables, made harmless.

    Args:
        module: The candidate.  One that never ran is judged by its switches and by the code
            of its classes; what that calls elsewhere is not read.
        duplicate: Its copy, which gets a hook if it has to.
    """
    changes = _changes.get(module)
    if changes is None:
        changes = not _promises(module) and _may_change_input(module, _has_code_in_place)
    if changes:
        duplicate.register_forward_pre_hook(copy_inputs, prepend=True, with_kwargs=True)
    return duplicate
