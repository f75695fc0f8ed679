"""The factor that keeps gradients in float16 from vanishing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..mutators.tensor_state import TensorState
from .fields import check_fields, shortened

__all__ = ['LossScale', 'check_scale_fields', 'loss_scale_for']

_FIELDS = ('scale', 'growth_factor', 'backoff_factor', 'growth_interval', '_growth_tracker')


class LossScale(TensorState):
    """Drives a ``torch.amp.GradScaler`` by what a search finds in its gradients.

    Losses are multiplied by the scale before they are differentiated, and gradients divided by
    it (Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2).  A gradient
    that is not finite lowers the scale, so many steps without one raise it.

    It is a module for its state alone, which goes with that of a model.

    Args:
        scaler: A ``GradScaler``; or options of one, by default none.

    Raises:
        ConfigError: Options that it does not take, or a scaler that is not enabled.

    >>> scale = LossScale({'init_scale': 4.0})
    >>> float(scale.factor(torch.device('cpu'))), scale.lower(), scale.value
    (4.0, True, 2.0)
    """

    def __init__(self, scaler: Any = None) -> None:
        super().__init__()
        self._options = dict(scaler) if isinstance(scaler, Mapping) else {}
        self._given: dict[str, Any] = {}
        self._scaler: Any = None
        self._device = torch.device('cpu')
        kind = getattr(torch.amp, 'GradScaler', None)
        if kind is None:
            raise ConfigError(
                'A search in float16 needs torch.amp.GradScaler, which torch has from 2.3 on, '
                f"but this is torch {torch.__version__}; use autocast='bfloat16'"
            )
        if scaler is None or isinstance(scaler, Mapping):
            self._build()  # It tells at once what is wrong with its options.
            self._scaler = None
        elif isinstance(scaler, kind) and scaler.is_enabled():
            self._scaler = scaler
        else:
            what = 'one that is not enabled' if isinstance(scaler, kind) else repr(scaler)
            raise ConfigError(
                f'Expected `scaler` to be a torch.amp.GradScaler or its options, but got {what}'
            )

    def _build(self) -> Any:
        if self._scaler is None:
            try:
                self._scaler = torch.amp.GradScaler(self._device.type, **self._options)
            except (TypeError, AssertionError) as error:
                raise ConfigError(
                    'Expected `scaler` to be options of torch.amp.GradScaler, but got '
                    f'{self._options!r}: {error}'
                ) from error
            if not self._scaler.is_enabled():
                raise ConfigError(
                    f'Expected `scaler` to be enabled, but got {self._options!r} for '
                    f'{self._device.type!r}'
                )
            if self._given:
                self._scaler.load_state_dict(self._given)
        return self._scaler

    def factor(self, device: torch.device) -> Tensor:
        """Return the scale as a scalar on a device, without a look at it."""
        self._device = device
        factor: Tensor = self._build().scale(torch.ones((), device=device))
        return factor

    @property
    def value(self) -> float:
        """The scale, for which the host waits for the device."""
        scale: float = self._state()['scale']
        return scale

    def lower(self) -> bool:
        """Lower the scale after a gradient that was not finite.

        Returns:
            Whether that was done; a scale of 1 scales nothing, and has no fault.
        """
        if self.value <= 1:
            return False
        self._update(finite=False)
        return True

    def keep(self) -> None:
        """Count a step that was taken; so many of them raise the scale."""
        self._update(finite=True)

    def _update(self, *, finite: bool) -> None:
        # A scaler looks at gradients in optimizers.  This is one that says what was found.
        scaler = self._build()
        probe = self.factor(self._device).detach().requires_grad_()
        optimizer = torch.optim.SGD([probe], lr=0.0)
        probe.grad = torch.full_like(probe, 0.0 if finite else torch.inf)
        scaler.unscale_(optimizer)
        scaler.update()

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._build().state_dict()
        return state

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds."""
        if self._scaler is None:
            return self._given or self._of_options()
        return self._state()

    def _of_options(self) -> dict[str, Any]:
        state: dict[str, Any] = LossScale(self._options)._state()
        return state

    def set_extra_state(self, state: Any) -> None:
        """Go on where :meth:`get_extra_state` was called.

        Raises:
            ConfigError: A state with a field that is missing or of another type.
        """
        check_scale_fields(state)
        self._given = dict(state)
        if self._scaler is not None:
            self._scaler.load_state_dict(self._given)


def check_scale_fields(state: Any) -> None:
    """Refuse a saved state that is not that of a scale.

    Raises:
        ConfigError: Which field, what was expected there, and what came.
    """
    check_fields('loss_scale', state, {})
    for name in _FIELDS:
        if name not in state:
            raise ConfigError(f'Expected `loss_scale` of the saved state to have {name!r}')
        value = state[name]
        check_fields(f'loss_scale.{name}', value, 1.0)
        if not 0 <= value < torch.inf or (name != '_growth_tracker' and value == 0):
            raise ConfigError(
                f'Expected `loss_scale.{name}` of the saved state to be a finite number above '
                f'0, but got {shortened(value)}'
            )


def loss_scale_for(scaler: Any, autocast: str | None, mutator: Any) -> LossScale | None:
    """Return the scale of a search, or ``None`` for one that needs none.

    Args:
        scaler: As for :class:`BilevelSearch`.
        autocast: The same; float16 has a scaler where none is given.
        mutator: Whose extensions have to get along with it.

    Raises:
        ConfigError: An extension that takes gradients which the scaler does not look at.
    """
    if scaler is None and autocast != 'float16':
        return None
    alone = [
        type(extension).__name__
        for extension in getattr(mutator, 'extensions', ())
        if getattr(extension, 'takes_gradients', False)
    ]
    if alone:
        raise ConfigError(
            f'{", ".join(alone)} takes gradients of its own, of which a scaler would not '
            "notice that they overflow; use autocast='bfloat16', which needs none"
        )
    return scaler if isinstance(scaler, LossScale) else LossScale(scaler)
