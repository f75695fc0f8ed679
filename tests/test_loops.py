"""The search in the loops of others: it saves, and goes on bit for bit."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
LOOPS = ['plain', 'runner', 'accelerate_loop', 'lightning_module']
quiet = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize('name', LOOPS)
def test_it_is_short(name: str) -> None:
    lines = (ROOT / f'examples/loops/{name}.py').read_text().splitlines()
    assert len(lines) <= 40


def assert_same(ours: Any, whole: Any) -> None:
    """Compare the states of two searches to the last bit."""
    assert ours['iteration'] == whole['iteration'] == 12
    for part in ('supernet', 'mutator', 'weight_optimizer', 'arch_optimizer', 'rng'):
        assert_close(ours[part], whole[part], rtol=0, atol=0)


@quiet
@pytest.mark.parametrize(
    ('name', 'file'),
    [('plain', 'search.pth'), ('accelerate_loop', 'state/custom_checkpoint_0.pkl')],
)
def test_loops_of_your_own(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name.split('_')[0] if name != 'plain' else 'torch')
    loop = importlib.import_module(f'examples.loops.{name}')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    monkeypatch.setattr('sys.argv', [name, str(whole), '2'])
    loop.main(loop.run)
    parts.mkdir()
    loop.run(parts, 1)
    torch.rand(3)  # Draws between the two would show in the paths.
    loop.run(parts, 2)
    states = [torch.load(folder / file, weights_only=True) for folder in (parts, whole)]
    if name == 'plain':
        assert states[0]['schedule'] == states[1]['schedule']
        states = [state['search'] for state in states]
    assert_same(*states)
    assert states[0]['weight_optimizer']['param_groups'][0]['lr'] == pytest.approx(
        0.05 * (1 + torch.cos(torch.tensor(0.2 * torch.pi)).item()) / 2
    )
    subnets = [(folder / 'subnet.yaml').read_text() for folder in (parts, whole)]
    assert subnets[0] == subnets[1]


@quiet
# The host's own, of every run that it goes on with at the end of an epoch.
@pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step:UserWarning:mmengine')
def test_runner(tmp_path: Path) -> None:
    runner = pytest.importorskip('mmengine.runner')
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from examples.loops.runner import KeepSearch, Search
    from examples.loops.setting import loader, optimizers
    from mmrazor_mutators.engine.runner import allow_checkpoint_types

    allow_checkpoint_types()

    def train(folder: Path, epochs: int) -> Any:
        model = Search()
        weights, arch = optimizers(model.supernet, model.mutator)
        wrappers = {'weights': OptimWrapper(weights), 'arch': OptimWrapper(arch)}
        runner.Runner(
            model,
            str(folder),
            train_dataloader=loader(),
            train_cfg={'by_epoch': True, 'max_epochs': epochs},
            optim_wrapper=OptimWrapperDict(**wrappers),
            param_scheduler={
                'weights': [{'type': 'CosineAnnealingLR', 'T_max': 10, 'end': 10}],
                'arch': [],
            },
            custom_hooks=[KeepSearch()],
            resume=True,
            randomness={'seed': 0},
            experiment_name=f'{folder.name}{epochs}',
            log_level='ERROR',
        ).train()
        return model

    whole = train(tmp_path / 'whole', 2)
    train(tmp_path / 'parts', 1)
    torch.rand(3)
    parts = train(tmp_path / 'parts', 2)
    assert_same(parts.search.state_dict(), whole.search.state_dict())


@quiet
@pytest.mark.filterwarnings(
    'ignore:.*does not have many workers', 'ignore:Checkpoint directory .* is not empty'
)
class TestLightning:
    @staticmethod
    def fit(model: Any, folder: Path, epochs: int, path: Path | None = None) -> Any:
        lightning = pytest.importorskip('lightning')
        from lightning.pytorch.callbacks import ModelCheckpoint

        from examples.loops.setting import loader

        trainer = lightning.Trainer(
            accelerator='cpu',
            default_root_dir=folder,
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ModelCheckpoint(folder, '{epoch}')],
        )
        trainer.fit(model, loader(), ckpt_path=path, weights_only=True)
        return trainer

    def test_it_counts_saves_and_goes_on(self, tmp_path: Path) -> None:
        pytest.importorskip('lightning')
        from examples.loops.lightning_module import Search

        whole = Search()
        trainer = self.fit(whole, tmp_path / 'whole', 2)
        # It counts the steps of both optimizers.
        assert trainer.global_step == 24
        self.fit(Search(), tmp_path / 'parts', 1)
        (saved,) = (tmp_path / 'parts').glob('*.ckpt')
        second = Search()
        torch.rand(3)
        self.fit(second, tmp_path / 'parts', 2, saved)
        assert_same(second.search.state_dict(), whole.search.state_dict())

    @pytest.mark.parametrize('automatic', [False, True])
    def test_bare_optimizers_are_refused(self, tmp_path: Path, automatic: bool) -> None:
        """The trap: it would search, and no checkpoint would ever be saved."""
        pytest.importorskip('lightning')
        from examples.loops.lightning_module import Search

        class Bare(Search):
            def optimizers(self) -> Any:
                self.before = [p.clone() for p in self.supernet.parameters()]
                return self.trainer.optimizers

            def configure_optimizers(self) -> Any:
                weights, schedule = super().configure_optimizers()
                self.automatic_optimization = automatic
                return weights[0] if automatic else (weights, schedule)

        model = Bare()
        if automatic:
            from examples.loops.setting import optimizers

            both = optimizers(*model.parts)
            model.optimizers = lambda: [model.trainer.optimizers[0], both[1]]  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match=r'without its wrapper.*\*self.optimizers\(\)'):
            self.fit(model, tmp_path, 1)
        assert not [*tmp_path.glob('*.ckpt')]

    @pytest.mark.filterwarnings('ignore:Detected call of .lr_scheduler.step')
    def test_a_search_of_its_own_is_left_alone(self, tmp_path: Path) -> None:
        """One whose optimizers are not the trainer's, as inside of a callback."""
        pytest.importorskip('lightning')
        from examples.loops.lightning_module import Search
        from examples.loops.setting import optimizers

        class Own(Search):
            def optimizers(self) -> Any:
                self.own = optimizers(*self.parts)
                return self.own

        assert self.fit(Own(), tmp_path, 1).global_step == 0
