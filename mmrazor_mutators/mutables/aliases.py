"""The mutables of MMRazor 1.0, by their names and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..builder import MUTABLES
from ..errors import ConfigError, SearchSpaceError
from ..functional import draw_one_hot, score_gates
from .base import MutableModule
from .differentiable import GumbelMutable
from .edge import DifferentiableEdge
from .op import DifferentiableOP, OneShotOP

__all__ = [
    'AliasedMutable',
    'DiffChoiceRoute',
    'DiffMutableOP',
    'GumbelChoiceRoute',
    'OneHotMutableOP',
    'OneShotMutableOP',
]


def merge_names(arguments: Mapping[str, Any], **theirs: tuple[str, Any]) -> dict[str, Any]:
    """Return arguments by our names, given some by those of MMRazor 1.0.

    Args:
        arguments: By our names; never changed.
        **theirs: By our name the other name and its value, ``None`` if it was
            not given.

    Raises:
        ConfigError: An argument that was given by both names.

    >>> merge_names({'num_chosen': 2}, space_id=('alias', 'a'), choices=('edges', None))
    {'num_chosen': 2, 'space_id': 'a'}
    """
    merged = dict(arguments)
    for ours, (name, value) in theirs.items():
        if value is None:
            continue
        if merged.get(ours) is not None:
            raise ConfigError(
                f'Expected `{name}` or `{ours}`, which mean the same, but got both: '
                f'{value!r} and {merged[ours]!r}'
            )
        merged[ours] = value
    return merged


class AliasedMutable(MutableModule):
    """A mutable that may be built before its space has a name.

    In MMRazor 1.0 one without an ``alias`` is called after the place where it
    stands, which :class:`NasMutator` does as well.

    Args:
        **kwargs: As for the mutable that this class is combined with;
            ``space_id`` may be left out.

    Attributes:
        is_named: Whether the space has a name.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{'space_id': 'unnamed', **kwargs})
        self.is_named = 'space_id' in kwargs

    def build_space_mask(self) -> Tensor:
        """Return equal sampling weights for all choices.

        Raises:
            SearchSpaceError: The space has no name, so that it would be one
                with all others that have none.
        """
        if not self.is_named:
            raise SearchSpaceError(
                f'A {type(self).__name__} with the choices {", ".join(self.choice_names)} has '
                'no `alias`: give it one, or use NasMutator, which calls it after its place'
            )
        return super().build_space_mask()


@MUTABLES.register_module()
class DiffMutableOP(AliasedMutable, DifferentiableOP):
    """MMRazor 1.0's name of :class:`DifferentiableOP`.

    What differs there: how the choices are mixed is the mutator's business, and
    ``choices`` holds the modules, not their names.

    Args:
        candidates: The choices, ``{name: config of an op}``.
        fix_threshold: By how much the largest probability has to lead to end
            the search of the space, from 0 to 1.  Only an
            :class:`OneHotMutableOP` looks at it, as in MMRazor 1.0.
        module_kwargs: Arguments for every choice; they win over its own.
        alias: The space; mutables with the same one choose together.  It may
            not contain ``'.'``.
        init_cfg: As for the host's ``BaseModule``.
        **kwargs: As for :class:`DifferentiableOP`, by our names.

    Raises:
        ConfigError: An argument by both names, or a threshold outside of its
            range.
        SearchSpaceError: See :class:`DifferentiableOP`.

    >>> op = DiffMutableOP(candidates={'skip': nn.Identity(), 'relu': nn.ReLU()}, alias='a')
    >>> op.space_id, op.choice_names
    ('a', ('skip', 'relu'))
    """

    def __init__(
        self,
        candidates: Mapping[str, Any] | None = None,
        fix_threshold: float = 1.0,
        module_kwargs: Mapping[str, Any] | None = None,
        alias: str | None = None,
        init_cfg: Any | None = None,
        **kwargs: Any,
    ) -> None:
        if not 0 <= fix_threshold <= 1:
            raise ConfigError(
                f'Expected `fix_threshold` to be from 0 to 1, but got {fix_threshold!r}'
            )
        super().__init__(
            init_cfg=init_cfg, **_names_of_op(kwargs, candidates, module_kwargs, alias)
        )
        self.fix_threshold = fix_threshold


@MUTABLES.register_module()
class OneHotMutableOP(DiffMutableOP):
    """A :class:`DiffMutableOP` of which one drawn choice has the weight 1, as in DSNAS.

    DSNAS (Hu et al., CVPR 2020): the draw is from ``softmax(arch_param)``, and
    the gradient is that of its score, as with :class:`DSNASMutator`.  Under
    :class:`NasMutator` the others do not run, and a space is fixed at the start
    of an epoch, not within a forward pass; other mutators run all of them, the
    others with the weight 0, and fix nothing.

    Args:
        **kwargs: As for :class:`DiffMutableOP`.
    """

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        """Draw one-hot weights, shape ``(num_choices,)``, from logits of that shape."""
        return score_gates(arch_param, draw_one_hot(arch_param))


@MUTABLES.register_module()
class OneShotMutableOP(AliasedMutable, OneShotOP):
    """MMRazor 1.0's name of :class:`OneShotOP`.

    Args:
        candidates: The choices, ``{name: config of an op or module}``.
        module_kwargs: Arguments for every choice; they win over its own.
        alias: The space; it may not contain ``'.'``.
        init_cfg: As for the host's ``BaseModule``.
        **kwargs: As for :class:`OneShotOP`, by our names.

    Raises:
        ConfigError: An argument by both names.
        SearchSpaceError: See :class:`OneShotOP`.
    """

    def __init__(
        self,
        candidates: Mapping[str, Any] | None = None,
        module_kwargs: Mapping[str, Any] | None = None,
        alias: str | None = None,
        init_cfg: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            init_cfg=init_cfg, **_names_of_op(kwargs, candidates, module_kwargs, alias)
        )


@MUTABLES.register_module()
class DiffChoiceRoute(AliasedMutable, DifferentiableEdge):
    """MMRazor 1.0's name of :class:`DifferentiableEdge`.

    Args:
        edges: The choices, one module per input.
        num_chosen: How many of the inputs a subnet keeps, at least 1; of fewer
            inputs it keeps all.
        with_arch_param: Whether the inputs have weights of their own.  Without
            them they are summed and ranked by the operations on them; MMRazor
            1.0 ranks them by logits that nothing has trained.
        alias: The space; it may not contain ``'.'``.
        init_cfg: As for the host's ``BaseModule``.
        **kwargs: As for :class:`DifferentiableEdge`, by our names.

    Raises:
        ConfigError: An argument by both names.
        SearchSpaceError: See :class:`DifferentiableEdge`.

    >>> edges = nn.ModuleDict({'p0': nn.Identity(), 'p1': nn.ReLU()})
    >>> DiffChoiceRoute(edges, with_arch_param=True, alias='n2').num_chosen
    2
    """

    def __init__(
        self,
        edges: nn.ModuleDict | None = None,
        num_chosen: int = 2,
        with_arch_param: bool = False,
        alias: str | None = None,
        init_cfg: Any | None = None,
        **kwargs: Any,
    ) -> None:
        names = merge_names(kwargs, choices=('edges', edges), space_id=('alias', alias))
        choices = names.setdefault('choices', None)
        if isinstance(num_chosen, int) and isinstance(choices, (Mapping, nn.ModuleDict)):
            num_chosen = min(num_chosen, len(choices) or num_chosen)
        super().__init__(
            num_chosen=num_chosen,
            with_arch_param=with_arch_param,
            init_cfg=init_cfg,
            **names,
        )


@MUTABLES.register_module()
class GumbelChoiceRoute(GumbelMutable, DiffChoiceRoute):
    """MMRazor 1.0's name of :class:`GumbelEdge`, which keeps two inputs by default.

    Args:
        edges: As for :class:`DiffChoiceRoute`.
        tau: Temperature, above 0.
        hard: Whether the weights are one-hot with the soft gradient.
        with_arch_param: As for :class:`DiffChoiceRoute`.
        alias: As for :class:`DiffChoiceRoute`.
        init_cfg: As for the host's ``BaseModule``.
        **kwargs: As for :class:`DiffChoiceRoute`.
    """

    def __init__(
        self,
        edges: nn.ModuleDict | None = None,
        tau: float = 1.0,
        hard: bool = True,
        with_arch_param: bool = False,
        alias: str | None = None,
        init_cfg: Any | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tau=tau,
            hard=hard,
            edges=edges,
            with_arch_param=with_arch_param,
            alias=alias,
            init_cfg=init_cfg,
            **kwargs,
        )


def _names_of_op(kwargs: Mapping[str, Any], candidates: Any, args: Any, alias: Any) -> Any:
    names = merge_names(
        kwargs,
        choices=('candidates', candidates),
        choice_args=('module_kwargs', args),
        space_id=('alias', alias),
    )
    names.setdefault('choices', None)
    return names
