"""Parts as a user of MMRazor v0.2.0 wrote them: every method is overridden, none calls ours."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.builder import MUTABLES, build_op
from mmrazor_mutators.mutables import ModuleMutable, MutableModule, Placeholder
from mmrazor_mutators.mutators import BaseMutator, DifferentiableMutator, OneShotMutator


def mutables_below(module: nn.Module) -> list[MutableModule]:
    """Walk as v0.2.0 does: every child, in the order of their names."""
    found: list[MutableModule] = []
    for _, child in module.named_children():
        if isinstance(child, MutableModule):
            found.append(child)
        found.extend(mutables_below(child))
    return found


class Spaces:
    """The methods of v0.2.0's base mutator."""

    def build_search_spaces(self, supernet: nn.Module) -> Any:
        spaces: dict[str, Any] = {}
        for mutable in mutables_below(supernet):
            if mutable.space_id in spaces:
                spaces[mutable.space_id]['modules'].append(mutable)
                continue
            spaces[mutable.space_id] = {
                'modules': [mutable],
                'choice_names': mutable.choice_names,
                'num_chosen': mutable.num_chosen,
                'space_mask': mutable.build_space_mask(),
            }
        return spaces

    def convert_placeholder(self, supernet: nn.Module, placeholder_mapping: Any) -> None:
        for name, child in supernet.named_children():
            if not isinstance(child, Placeholder):
                self.convert_placeholder(child, placeholder_mapping)
                continue
            cfg = placeholder_mapping[child.placeholder_group].copy()
            kind = cfg.pop('type')
            assert kind in MUTABLES
            kwargs = child.placeholder_kwargs
            kwargs.update(cfg)
            mutable = MUTABLES.get(kind)(**kwargs)
            setattr(supernet, name, mutable)
            self.convert_placeholder(mutable, placeholder_mapping)

    def deploy_subnet(self, supernet: nn.Module, subnet_dict: Any) -> None:
        for _, child in supernet.named_children():
            if isinstance(child, MutableModule):
                child.export(subnet_dict[child.space_id]['chosen'])
            self.deploy_subnet(child, subnet_dict)


class Lending:
    """The methods of v0.2.0's differentiable mutator."""

    arch_params: nn.ParameterDict

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        built = nn.ParameterDict()
        for mutable in mutables_below(supernet):
            if mutable.space_id not in built:
                param = mutable.build_arch_param()  # type: ignore[attr-defined]
                if param is not None:
                    built[mutable.space_id] = param
        return built

    def modify_supernet_forward(self, supernet: nn.Module) -> None:
        for mutable in mutables_below(supernet):
            if mutable.space_id in self.arch_params:
                mutable.forward = partial(  # type: ignore[method-assign]
                    mutable.forward, arch_param=self.arch_params[mutable.space_id]
                )


class ReadingOff:
    """The method of v0.2.0's DARTS mutator."""

    search_spaces: Any
    arch_params: nn.ParameterDict
    ignore_choices: Any = ('zero', 'none')

    def search_subnet(self) -> Any:
        subnet: dict[str, Any] = {}
        for space_id, space in self.search_spaces.items():
            if space_id in self.arch_params:
                probs = self.arch_params[space_id].softmax(-1)
                names = space['choice_names']
                keep = [i for i, name in enumerate(names) if name not in self.ignore_choices]
                best, index = torch.max(probs[keep], 0)
                name = names[keep[index.item()]]
                subnet[space_id] = {'chosen': [name], 'chosen_probs': [best.item()]}
        for space_id, space in self.search_spaces.items():
            if space_id not in self.arch_params:
                edges = sorted(
                    space['choice_names'],
                    key=lambda name: subnet[name]['chosen_probs'][0],
                    reverse=True,
                )
                subnet[space_id] = {'chosen': edges[: space['num_chosen']]}
                for name in edges[space['num_chosen'] :]:
                    subnet.pop(name)
        return subnet


class WholeMutator(ReadingOff, Lending, Spaces, mm.DartsMutator):
    """A DartsMutator of which every published method is the user's own."""


class WholeDifferentiable(ReadingOff, Lending, Spaces, DifferentiableMutator):
    """A DifferentiableMutator likewise."""


class OnTheBase(ReadingOff, Lending, Spaces, BaseMutator):
    """The differentiable mutator of v0.2.0 written anew upon the base class."""

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        super().prepare_from_supernet(supernet)
        self.arch_params = self.build_arch_params(supernet)
        self.modify_supernet_forward(supernet)


class PreparingTwice(mm.DartsMutator):
    """Does after our preparation what v0.2.0's does."""

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        super().prepare_from_supernet(supernet)
        self.arch_params = self.build_arch_params(supernet)
        self.modify_supernet_forward(supernet)


class WholeOneShot(Spaces, OneShotMutator):
    """The methods of v0.2.0's one-shot mutator; draws the last choice alone where it may."""

    @staticmethod
    def get_random_mask(space_info: Any, searching: bool) -> Tensor:  # type: ignore[override]
        mask = torch.zeros_like(space_info['space_mask'])
        mask[-1] = 1
        return mask

    def sample_subnet(self, searching: bool = False) -> Any:  # type: ignore[override]
        return {
            space_id: self.get_random_mask(info, searching)
            for space_id, info in self.search_spaces.items()
        }

    def set_subnet(self, subnet_dict: Any) -> None:
        for space_id, info in self.search_spaces.items():
            mask = subnet_dict[space_id]
            for module in info['modules']:
                module.choice_mask = mask
                for i, choice in enumerate(module.choices.values()):
                    choice.apply(partial(self.reset_in_subnet, in_subnet=bool(mask[i])))

    @staticmethod
    def reset_in_subnet(m: nn.Module, in_subnet: bool = True) -> None:
        m.__in_subnet__ = in_subnet

    def set_chosen_subnet(self, subnet_dict: Any) -> None:
        for space_id, mask in subnet_dict.items():
            names = self.search_spaces[space_id]['choice_names']
            self.search_spaces[space_id]['chosen'] = [
                names[i] for i, on in enumerate(mask.tolist()) if on == 1.0
            ]

    def mutation(self, subnet_dict: Any, prob: float = 0.1) -> Any:  # type: ignore[override]
        return {
            name: self.get_random_mask(self.search_spaces[name], searching=True)
            if torch.rand(()) < prob
            else mask.clone()
            for name, mask in subnet_dict.items()
        }

    @staticmethod
    def crossover(subnet_dict1: Any, subnet_dict2: Any) -> Any:  # type: ignore[override]
        return {
            name: (mask if torch.rand(()) < 0.5 else subnet_dict2[name]).clone()
            for name, mask in subnet_dict1.items()
        }


class OneMask(OneShotMutator):
    """Overrides the draw of one space alone."""

    @staticmethod
    def get_random_mask(space_info: Any, searching: bool) -> Tensor:  # type: ignore[override]
        return WholeOneShot.get_random_mask(space_info, searching)


class MixingByItself(mm.DifferentiableOP):
    """A mutable with v0.2.0's ``forward`` and relaxation of its own."""

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        return arch_param.sigmoid()

    def forward(self, x: Any, arch_param: Any = None) -> Any:  # type: ignore[override]
        if not self.with_arch_param:
            return sum(
                self.choices[name](x)
                for name, on in zip(self.full_choice_names, self.choice_mask, strict=False)
                if on and name in self.choice_names
            )
        assert arch_param is not None
        probs = self.compute_arch_probs(arch_param)
        return sum(
            p * module(x)
            for p, module in zip(probs, self.choice_modules, strict=False)
            if p > 0
        )


class FromTheBase(MutableModule):
    """A mutable written as v0.2.0's own are, upon the base class."""

    choices: nn.ModuleDict

    def __init__(
        self, choices: Any, choice_args: Any, with_arch_param: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.choices = self.build_choices(choices, choice_args)
        self.choice_mask = self.build_choice_mask()
        self.full_choice_names = tuple(self.choice_names)
        self.with_arch_param = with_arch_param

    def build_choices(self, cfgs: Any, choice_args: Any) -> nn.ModuleDict:
        choices = nn.ModuleDict()
        for name, cfg in cfgs.items():
            cfg.update(choice_args)
            choices.add_module(name, build_op(cfg))
        return choices

    def build_arch_param(self) -> Any:
        return nn.Parameter(torch.randn(self.num_choices) * 1e-3)

    def forward(self, x: Any, arch_param: Any = None) -> Any:  # type: ignore[override]
        probs = arch_param.softmax(-1)
        return sum(
            p * module(x)
            for p, module in zip(probs, self.choices.values(), strict=False)
            if p > 0
        )


class FromModules(FromTheBase, ModuleMutable):
    """The same upon the base class of mutables whose choices are modules."""


class OwnMask(mm.OneShotOP):
    """Overrides how a mask is set, and how choices are removed."""

    def set_choice_mask(self, mask: Tensor) -> None:
        assert self.choice_mask.size(0) == mask.size(0)
        self.choice_mask = mask

    def export(self, chosen: Any) -> None:
        for name in self.choice_names:
            if name not in chosen:
                self.choices.pop(name)


class OwnEdge(mm.DifferentiableEdge):
    """An edge with v0.2.0's ``forward`` and ``export`` of its own."""

    def forward(self, prev_inputs: Any, arch_param: Any = None) -> Any:  # type: ignore[override]
        if self.with_arch_param:
            triples = zip(
                self.compute_arch_probs(arch_param),
                self.choice_modules,
                prev_inputs,
                strict=True,
            )
            return sum(p * module(x) for p, module, x in triples if p > 0)
        pairs = zip(self.full_choice_names, prev_inputs, strict=True)
        return sum(self.choices[name](x) for name, x in pairs if name in self.choice_names)

    def export(self, chosen: Any) -> None:
        OwnMask.export(self, chosen)  # type: ignore[arg-type]
