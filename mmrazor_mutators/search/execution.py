"""How the forward passes of a search are run: compiled or not, how exactly, what they keep.

All options hold inside of ``with execution.forward_context():`` alone.  Nothing is left on the
supernet outside of it, so copies, exports and state dicts know nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import ConfigError
from ..recomputation import checkpointed
from .compilation import Compilation, check_compile
from .hypergradients import FiniteDifference
from .layout import lay_out_channels_last

__all__ = ['Execution', 'check_precision', 'find_cells']

_DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


class Execution:
    """Runs the forward passes of a supernet in less time or memory.

    With ``checkpoint_cells`` the maps inside of a cell are not kept for the
    backward pass, which computes each cell once more (Chen et al., 2016,
    "Training Deep Nets with Sublinear Memory Cost"): the results are the same,
    for about one more forward pass of time.  Where the gradient is itself
    differentiated (``exact``, ``neumann``, ``cg``) they are the same too, but the
    graph of the gradient keeps its maps, and little is saved.

    With ``autocast`` convolutions and matrix products run in that precision,
    and maps are kept and mixed in it: a sum of :math:`n` candidates is rounded
    to 8 significant bits (11 in float16) at each of its :math:`n - 1` additions.  Weights,
    logits, mixture weights and running statistics stay float32, as do the outputs of
    the supernet, of which the loss is computed.

    With ``compile`` the weighted sums of candidates run as :class:`Compilation` says.

    Args:
        supernet: What the mutator was prepared from.
        channels_last: Whether to lay its weights out by
            :func:`lay_out_channels_last`, once.
        checkpoint_cells: Whether to recompute cells: modules whose class says
            ``is_cell = True``.
        autocast: ``'bfloat16'``, ``'float16'``, or ``None`` for the precision of the weights.
        compile: Whether to compile candidates, or options for ``torch.compile``.

    Attributes:
        compilation: The :class:`Compilation`, or ``None``.

    Raises:
        ConfigError: An option of another kind, a supernet without cells, or one
            whose weights or device do not fit the precision.

    >>> import torch
    >>> supernet = nn.Linear(4, 2)
    >>> execution = Execution(supernet, autocast='bfloat16')
    >>> with execution.forward_context():
    ...     out = supernet(torch.ones(1, 4))
    >>> out.dtype
    torch.float32
    """

    def __init__(
        self,
        supernet: nn.Module,
        *,
        channels_last: bool = True,
        checkpoint_cells: bool = False,
        autocast: Literal['bfloat16', 'float16'] | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        for name, value in (
            ('channels_last', channels_last),
            ('checkpoint_cells', checkpoint_cells),
        ):
            if not isinstance(value, bool):
                raise ConfigError(f'Expected `{name}` to be True or False, but got {value!r}')
        if autocast is not None:
            check_autocast(supernet, autocast)
        cells = find_cells(supernet) if checkpoint_cells else []
        if checkpoint_cells and not cells:
            raise ConfigError(
                'Expected a supernet with cells for checkpoint_cells=True, but '
                f'{type(supernet).__name__} has no module whose class says `is_cell = True`'
            )
        options = check_compile(compile)
        if channels_last:
            lay_out_channels_last(supernet)
        self.compilation = None if options is None else Compilation(options)
        self.supernet = supernet
        self.cells = cells
        self.autocast = autocast

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Let forward passes inside of the block be run so; backward passes may come later."""
        with ExitStack() as stack:
            if self.compilation is not None:
                stack.enter_context(self.compilation.compiled())
            for cell in self.cells:
                stack.enter_context(checkpointed(cell))
            if self.autocast is not None:
                stack.enter_context(self._lower_precision(_DTYPES[self.autocast]))
            yield

    def remove(self) -> None:
        """Run forward passes as usual from now on; the layout of the weights stays."""
        self.cells = []
        self.autocast = None
        self.compilation = None

    @contextmanager
    def _lower_precision(self, dtype: torch.dtype) -> Iterator[None]:
        device_type = _device_of(self.supernet).type
        hook = self.supernet.register_forward_hook(_in_float32)
        # Each weight is cast once in a pass, and a kept cast would outlive a change of it.
        autocast: AbstractContextManager[Any] = torch.autocast(
            device_type, dtype, cache_enabled=False
        )
        try:
            with autocast:
                yield
        finally:
            hook.remove()


def find_cells(supernet: nn.Module) -> list[nn.Module]:
    """Return the modules whose class says ``is_cell = True``, without those inside of others.

    >>> class Cell(nn.Linear):
    ...     is_cell = True
    >>> find_cells(nn.Sequential(nn.ReLU(), nn.Sequential(Cell(2, 1))))
    [Cell(in_features=2, out_features=1, bias=True)]
    """
    cells: dict[int, nn.Module] = {}
    inner: set[int] = set()
    for module in supernet.modules():
        if getattr(type(module), 'is_cell', False):
            cells[id(module)] = module
            inner.update(id(part) for part in module.modules() if part is not module)
    return [cell for key, cell in cells.items() if key not in inner]


def check_autocast(supernet: nn.Module, autocast: object) -> None:
    """Refuse a precision that is not known, or that does not fit a supernet.

    Raises:
        ConfigError: See :class:`Execution`.
    """
    if not isinstance(autocast, str) or autocast not in _DTYPES:
        raise ConfigError(
            f"Expected `autocast` to be 'bfloat16', 'float16' or None, but got {autocast!r}"
        )
    others = {p.dtype for p in supernet.parameters() if p.is_floating_point()} - {torch.float32}
    if others:
        raise ConfigError(
            f'Expected the weights of a search with autocast={autocast!r} to be torch.float32, '
            f'but got {", ".join(sorted(map(str, others)))}'
        )
    device = _device_of(supernet)
    if autocast == 'bfloat16' and device.type == 'cuda' and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f'Expected a device that computes in bfloat16 for autocast={autocast!r}, but got '
            f'{torch.cuda.get_device_name(device)}'
        )
    try:
        torch.autocast(device.type, _DTYPES[autocast])
    except RuntimeError as error:
        raise ConfigError(
            f'Expected a device that knows autocast={autocast!r}, but got {device.type!r}: '
            f'{error}'
        ) from error


def check_precision(autocast: str | None, hypergradient: object) -> None:
    """Refuse a hypergradient that a precision makes meaningless.

    Raises:
        ConfigError: Finite differences with ``autocast``.
    """
    if autocast is not None and isinstance(hypergradient, FiniteDifference):
        raise ConfigError(
            "hypergradient='finite_difference' subtracts gradients at weights that are moved "
            f'by less than autocast={autocast!r} can tell apart, so nothing but rounding is '
            "left; use hypergradient='exact' or 'first_order', or autocast=None"
        )


def _device_of(module: nn.Module) -> torch.device:
    first = next(module.parameters(), None)
    return torch.device('cpu') if first is None else first.device


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Return outputs of lower precision as float32."""
    low = (*_DTYPES.values(),)
    return tree_map(
        lambda x: x.float() if isinstance(x, Tensor) and x.dtype in low else x, outputs
    )
