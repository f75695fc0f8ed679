"""ProxylessNAS: binary gates, of which one is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..builder import MUTATORS
from ..errors import ConfigError, did_you_mean
from ..functional import draw_one_hot, draw_pair, keep_mass, pair_gates, straight_through
from ..typing import Mixture
from .darts import DartsMutator

__all__ = ['ProxylessMutator']

_GATES = ('one', 'two')


@MUTATORS.register_module()
class ProxylessMutator(DartsMutator):
    r"""Draws binary gates: one path trains the weights, two compare in an architecture step.

    ProxylessNAS (Cai et al., ICLR 2019), section 3.2, with :math:`p =
    \mathrm{softmax}(\alpha)`.  A step of the weights runs one path, drawn from
    :math:`p`.  A step of the architecture parameters does as ``gates`` says:

    - ``'two'`` draws two paths without replacement from :math:`p`, and one of
      them to be active by the softmax over their two logits.  The gradient is
      that of this softmax; after the step both logits are offset so that the
      probabilities of all other paths stay what they were.
    - ``'one'`` ("full" in the authors' code, its default) draws one path, and
      :math:`\partial \alpha_i = \sum_j \partial g_j\, p_j (\delta_{ij} - p_i)`
      where every :math:`\partial g_j` is exact.

    Paths that are not active run without a graph.  Which kind of step it is shows
    in whether a graph is built, so a checkpoint around the whole supernet needs
    ``use_reentrant=False``.  The authors' blocks skip
    the gates when a zero operation is drawn, so that its logits have no
    gradient in that step; here they have the exact one.

    The authors search with Adam of learning rate 1e-3 and betas ``(0, 0.999)``
    for the architecture, ``arch_interval=5``, and weights alone for the first
    40 epochs (``arch_start_epoch=40``).

    Args:
        gates: ``'two'`` or ``'one'``.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: Other gates.
    """

    paper = 'Cai et al., ICLR 2019'
    samples = 'one or two choices'
    cost = 'two paths'
    hard = True
    # The logits of the pass that is being relaxed.
    _logits: Mapping[str, Tensor] = {}

    def __init__(self, gates: Literal['one', 'two'] = 'two', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if gates not in _GATES:
            raise ConfigError(
                f'Expected `gates` to be one of {_GATES}, but got {gates!r}; '
                f'{did_you_mean(str(gates), _GATES)}'
            )
        self.gates = gates
        # The logits before a step, and which of them its forward passes have drawn.
        self._drawn: dict[str, tuple[Tensor, Tensor]] = {}

    def _mixtures(self, arch_params: Mapping[str, Tensor]) -> dict[str, Mixture]:
        self._logits = arch_params
        try:
            return super()._mixtures(arch_params)
        finally:
            self._logits = {}

    def sample_paths(self, weights: dict[str, Tensor]) -> dict[str, Mixture]:
        """Draw the gates of every space; looks at the device once.

        Args:
            weights: Probabilities of the choices, 0 where one was dropped.
        """
        if not weights:
            return {}
        gates, paths = {}, []
        for space_id, probs in weights.items():
            gates[space_id], path = self._draw(space_id, probs)
            paths.append(path)
        mixtures = {}
        looked_at = torch.stack(paths).tolist()
        for (space_id, gate), (active, inactive) in zip(gates.items(), looked_at, strict=True):
            silent = (
                set(self.kept_indices(space_id)) - {active} if gate.requires_grad else set()
            )
            if self.gates == 'two':
                silent &= {inactive}
            mixtures[space_id] = Mixture(gate, (active,), tuple(sorted(silent)))
        return mixtures

    def _draw(self, space_id: str, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return gates, and the indices of the active and of the compared path."""
        logits = self._logits.get(space_id)
        if logits is None:
            logits = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
        possible = probs.detach() != 0
        logits = logits.masked_fill(~possible, -torch.inf)
        if not probs.requires_grad:
            # Whatever was drawn before, no step of the architecture came of it.
            self._drawn.pop(space_id, None)
            drawn = draw_one_hot(logits)
            return drawn, drawn.argmax().expand(2)
        if self.gates == 'one' or len(probs) < 2:
            drawn = draw_one_hot(logits)
            return straight_through(drawn, logits.softmax(-1)), drawn.argmax().expand(2)
        pair = draw_pair(logits)
        involved = torch.zeros_like(possible).scatter(-1, pair, True) & possible
        if space_id in self._drawn:
            involved = involved | self._drawn[space_id][1]
        self._drawn[space_id] = self.arch_params[space_id].detach().clone(), involved
        return pair_gates(logits, pair), pair

    @torch.no_grad()
    def after_arch_step(self) -> None:
        """Give the drawn logits of every space the mass that they had before the step."""
        super().after_arch_step()
        for space_id, (before, involved) in self._drawn.items():
            logits = self.arch_params[space_id]
            logits.copy_(keep_mass(logits, before, involved))
        self._drawn = {}
