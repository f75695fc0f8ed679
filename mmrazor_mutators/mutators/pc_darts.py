"""PC-DARTS: a part of the channels is searched, and edges have weights of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..builder import MUTATORS
from ..checks import check_count
from ..mutables import (
    DifferentiableEdge,
    DifferentiableOP,
    MutableEdge,
    PartialChannelOP,
    Placeholder,
    mutables_inside,
)
from ..registry import MUTABLES
from ..typing import ConfigDict
from .base import BaseMutator
from .darts import DartsMutator

__all__ = ['PCDartsMutator']

_EDGES = 'node_edge'


@MUTATORS.register_module()
class PCDartsMutator(DartsMutator):
    r"""Mixes on a part of the channels, and weighs the inputs of every node.

    PC-DARTS (Xu et al., ICLR 2020), section 3, and the authors' code: with
    :math:`\alpha` on the operations and :math:`\beta` on the inputs of node
    :math:`j`,

    .. math::
        x_j = \sum_{i < j} \mathrm{softmax}(\beta_j)_i\, f_{ij}(x_i; \alpha_{ij})

    where :math:`f_{ij}` is a :class:`PartialChannelOP`.  A node keeps the
    inputs with the largest product of its weight and the weight of the best
    operation on it.  The network found has all channels, and sums.

    The supernet's mapping, or the one given, is adapted: every
    ``DifferentiableOP`` becomes a ``PartialChannelOP``, and every
    ``DifferentiableEdge`` gets logits, as do the sums of NAS-Bench-201, all of
    whose inputs stay.  Mutables that stand in the supernet already are taken
    as they are.

    Args:
        channel_proportion: :math:`K`, at least 1: operations run on
            :math:`1 / K` of the channels.  A ``PartialChannelOP`` in the
            mapping keeps its own, unless this one is 1.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: An illegal ``channel_proportion``.

    >>> import mmrazor_mutators as mm
    >>> supernet = mm.NasBench201Supernet(in_channels=1, num_classes=10, num_cells=1)
    >>> mutator = mm.PCDartsMutator(channel_proportion=2)
    >>> mutator.prepare_from_supernet(supernet)
    >>> list(mutator.arch_params)[:3]
    ['n1', 'n1_p0', 'n2']
    >>> type(mutator.search_spaces['n1_p0']['modules'][0]).__name__
    'PartialChannelOP'
    """

    paper = 'Xu et al., ICLR 2020'
    cost = 'all paths, on 1/K of the channels'

    def __init__(self, channel_proportion: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channel_proportion = check_count('channel_proportion', channel_proportion)

    def for_retraining(self) -> BaseMutator:
        """Return a mutator of the same spaces with all channels."""
        return PCDartsMutator(
            channel_proportion=1,
            ignore_choices=self.ignore_choices,
            placeholder_mapping=self.placeholder_mapping,
        )

    def _mapping_for(self, supernet: nn.Module) -> Mapping[str, ConfigDict]:
        mapping = {
            group: self._adapted(cfg) for group, cfg in super()._mapping_for(supernet).items()
        }
        # Only where the architecture says how many inputs stay.
        has_sums = any(
            isinstance(module, Placeholder)
            and module.placeholder_group == _EDGES
            and module.default is not None
            for module in supernet.modules()
        )
        if has_sums:
            mapping.setdefault(_EDGES, {'type': 'DifferentiableEdge', 'with_arch_param': True})
        return mapping

    def _adapted(self, cfg: ConfigDict) -> ConfigDict:
        """Return the config of a mutable as this search needs it."""
        part = cfg.get('type') if isinstance(cfg, Mapping) else None
        if isinstance(part, str) and part in MUTABLES:
            part = MUTABLES.get(part)
        if part is DifferentiableEdge:
            return {**cfg, 'with_arch_param': True}
        if part not in (DifferentiableOP, PartialChannelOP):
            return cfg
        given = {} if self.channel_proportion == 1 else cfg
        proportion = given.get('channel_proportion', self.channel_proportion)
        return {**cfg, 'type': 'PartialChannelOP', 'channel_proportion': proportion}

    def rate(
        self,
        space_id: str,
        allowed: Mapping[str, Sequence[str]],
        scores: Mapping[str, Mapping[str, float]],
    ) -> dict[str, float]:
        """Rate an input of a node by its weight times that of the best operation on it.

        Args:
            space_id: The space.
            allowed: For every space the choices that a subnet may keep.
            scores: For every space with an architecture parameter
                :meth:`choice_probs` by name.
        """
        rated = super().rate(space_id, allowed, scores)
        mutable = self.search_spaces[space_id]['modules'][0]
        if space_id not in scores or not isinstance(mutable, MutableEdge):
            return rated
        return {
            name: score * self.content_score(space_id, name, allowed, scores)
            if any(inner.space_id in scores for inner in mutables_inside(mutable, name))
            else score
            for name, score in rated.items()
        }
