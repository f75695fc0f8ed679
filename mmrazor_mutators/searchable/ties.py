"""Which features of a model live and die together.

The graph is torch-pruning's (Fang et al., DepGraph, CVPR 2023): it traces one forward pass by
its autograd graph, and so knows residual sums, concatenations, depthwise convolutions and
reshapes of code that no symbolic tracer can follow.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

from ..errors import HostError, SearchSpaceError
from ..mutables import ModuleMutable, SearchPlan, find_mutables, set_plan
from ..mutables.attention import reads_alike
from ..mutables.layers import features_of

_MANY = 3000
"""How many features may hang on one; in a DenseNet of 121 layers they are some 300."""

__all__ = ['Linked', 'TieFinder', 'num_features']


class Linked(NamedTuple):
    """Features of a layer that hang on those of another one.

    Attributes:
        module: The layer.
        axis: ``'in'`` or ``'out'``.
        own: Its features.
        root: On which feature of the other layer each of them hangs.
        parameter: See :class:`~mmrazor_mutators.mutables.Member`.
        dim: See there.
    """

    module: nn.Module
    axis: Any
    own: list[int]
    root: list[int]
    parameter: str | None = None
    dim: int = 0


def num_features(module: Any, axis: str) -> int:
    """Return how many features a layer has on one side.

    >>> num_features(nn.Linear(3, 4), 'in')
    3
    """
    return features_of(module)[axis != 'in'] or int(module.weight.shape[0])


class TieFinder:
    """Follows features through a model; nothing in it changes.

    Where modules are chosen, all of them are followed: what comes out of one place has the
    same features whichever is chosen.

    Args:
        model: The model, whose alternatives may be there already.
        plan: Knows inputs that it can be called with.

    Raises:
        HostError: There is no torch-pruning.
        SearchSpaceError: The model cannot be traced.
    """

    def __init__(self, model: nn.Module, plan: SearchPlan) -> None:
        try:
            import torch_pruning
        except ImportError as error:
            raise HostError(
                'Choosing widths needs torch-pruning, which finds the layers that have to '
                f'agree, but it cannot be imported ({error}); install it with: pip install '
                'torch-pruning'
            ) from error
        self._tp = torch_pruning
        twin = copy.deepcopy(model)
        set_plan(twin, None)
        for mutable in find_mutables(twin):
            if isinstance(mutable, ModuleMutable):
                setattr(mutable, 'with_arch_param', False)  # noqa: B010
                mutable.set_choice_mask(torch.ones(len(mutable.full_choice_names)))
        pairs = list(zip(twin.modules(), model.modules(), strict=True))
        self._known: dict[int, list[Linked] | SearchSpaceError] = {}
        self._names = {id(part): part_name for part_name, part in model.named_modules()}
        self._originals = {id(ours): theirs for ours, theirs in pairs}
        self._twins = {id(theirs): ours for ours, theirs in pairs}
        self._owners = {
            id(parameter): (self._originals[id(part)], name)
            for part in twin.modules()
            for name, parameter in part._parameters.items()
            if parameter is not None
        }
        for parameter in twin.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        self._graph = self._trace(twin.eval(), plan)

    def _trace(self, twin: nn.Module, plan: SearchPlan) -> Any:
        args, kwargs = copy.deepcopy(plan.example_inputs)

        def call(model: nn.Module, _: Any) -> Any:
            return model(*args, **kwargs)

        graph = self._tp.DependencyGraph()
        forked = torch.random.fork_rng(devices=[])
        with warnings.catch_warnings(), torch.enable_grad(), forked:
            warnings.simplefilter('ignore')
            try:
                graph.build_dependency(
                    twin, example_inputs=args, forward_fn=call, verbose=False
                )
            except Exception as error:  # Whatever a tracer raises on a user's code.
                raise SearchSpaceError(
                    f'{type(twin).__name__} cannot be traced, so that nobody knows which '
                    f'layers have to agree on a width: {type(error).__name__}: {error}; leave '
                    'out `width`, `expansion` and `ffn`, or let forward() return tensors that '
                    'depend on all parameters'
                ) from error
        return graph

    def runs(self, module: nn.Module) -> bool:
        """Whether a layer is called in a forward pass, as a layer of its own."""
        twin = self._twins[id(module)]
        known = self._graph.get_pruner_of_module(twin) is not None
        return known and twin in self._graph.module2node

    def linked(self, module: nn.Module) -> list[Linked]:
        """Return all features that hang on those that a layer returns, its own first.

        Args:
            module: A layer that runs.

        Raises:
            SearchSpaceError: There is no end to them.
        """
        if id(module) not in self._known:
            try:
                self._known[id(module)] = self._follow(module)
            except SearchSpaceError as error:
                self._known[id(module)] = error
        known = self._known[id(module)]
        if isinstance(known, SearchSpaceError):
            raise known
        return known

    def _follow(self, module: nn.Module) -> list[Linked]:
        twin = self._twins[id(module)]
        pruner = self._graph.get_pruner_of_module(twin)
        features = list(range(num_features(module, 'out')))
        with self._bounded(module):
            group = self._graph.get_pruning_group(twin, pruner.prune_out_channels, features)
        found = []
        for item in group.items:
            target = item.dep.target.module
            own, root = list(item.idxs), list(item.root_idxs)
            if isinstance(target, nn.Parameter):
                owner = self._owners.get(id(target))
                if owner is not None:
                    dim = self._parameter_dim(target)
                    found.append(Linked(owner[0], 'out', own, root, owner[1], dim))
            elif id(target) in self._originals:
                layer: Any = self._originals[id(target)]
                axis = (
                    'out' if self._graph.is_out_channel_pruning_fn(item.dep.handler) else 'in'
                )
                if reads_alike(layer):
                    # The graph knows one kind of features of it; those of heads are others.
                    found.append(Linked(layer, 'in', own, root))
                    layer, axis = layer.out_proj, 'out'
                found.append(Linked(layer, axis, own, root))
        return found

    @contextmanager
    def _bounded(self, module: nn.Module) -> Iterator[None]:
        """End a walk that would take all memory, as where parts of one map are joined again."""
        home = sys.modules[type(self._graph).__module__]
        name = self._names[id(module)]

        class Bounded(home.Group):  # type: ignore[name-defined]
            count = 0

            def add_dep(self, dep: Any, idxs: Any) -> None:
                self.count += len(idxs)
                if self.count > _MANY * num_features(module, 'out'):
                    raise SearchSpaceError(
                        f'The channels of {name!r} ({type(module).__name__}) are tied to more '
                        'than can be followed, as where parts of one map are joined again, '
                        'side by side; leave its width out'
                    )
                super().add_dep(dep, idxs)

        mapping = getattr(home, 'index_mapping', None)
        with ExitStack() as stack:
            stack.enter_context(patch.object(home, 'Group', Bounded))
            if self._known and hasattr(mapping, 'update_index_mapping'):
                # The graph is as it was, and to look at all of it again takes most of the time.
                same = patch.object(mapping, 'update_index_mapping', lambda graph: None)
                stack.enter_context(same)
            yield

    def _parameter_dim(self, parameter: nn.Parameter) -> int:
        for unwrapped in self._graph.unwrapped_parameters:
            if unwrapped.parameters is parameter:
                return int(unwrapped.pruning_dim) % parameter.dim()
        return 0


def hidden_layers(
    finder: TieFinder, block: nn.Module, layers: Sequence[nn.Module]
) -> list[nn.Module]:
    """Return the layers of a block whose features nobody outside of it sees."""
    inside = {id(module) for module in block.modules()}

    def is_hidden(layer: nn.Module) -> bool:
        try:
            linked = finder.linked(layer)
        except SearchSpaceError:  # They have no end, so that some are outside.
            return False
        return all(id(part.module) in inside for part in linked)

    return [layer for layer in layers if finder.runs(layer) and is_hidden(layer)]
