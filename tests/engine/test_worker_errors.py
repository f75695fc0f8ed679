"""Errors in the workers of a data loader, end to end: one line that says whose they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import python

from mmrazor_mutators.blame import in_worker, of_loader, one_line, place_of
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.errors import ConfigError

DIGITS = Path(__file__).parents[2] / 'configs' / 'darts' / 'digits.py'

MINE = """
import torch
from mmrazor_mutators.registry import DATASETS


@DATASETS.register_module()
class Mine(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 3:
            raise KeyError(f'no sample {index}')
        return torch.zeros(3, 8, 8), index % 10
"""

CONFIG = """
_base_ = [{digits!r}]
custom_imports = dict(imports=['my_data_of_tests'])
model = dict(architecture=dict(base_channels=4, num_layers=2, num_nodes=2, in_channels=3))
loader = dict(batch_size=4, num_workers={workers}, dataset=dict(_delete_=True, {dataset}))
train_dataloader = loader
train_cfg = dict(max_epochs=1, arch_dataloader=loader)
"""


def folder_of_images(root: Path) -> None:
    (root / 'images' / 'a').mkdir(parents=True)
    for number in range(8):
        pixels = np.full((20 + number, 30, 3), number, dtype='uint8')
        Image.fromarray(pixels).save(root / 'images' / 'a' / f'{number}.png')


def said_by(root: Path, dataset: str, workers: int = 2) -> str:
    """Search in another process, which ends with one line on stderr and 2."""
    (root / 'my_data_of_tests.py').write_text(MINE)
    text = CONFIG.format(digits=str(DIGITS), workers=workers, dataset=dataset)
    (root / 'config.py').write_text(text)
    words = ['search', 'config.py', '--work-dir', 'w']
    done = python('-m', 'mmrazor_mutators', *words, cwd=root)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert 'should not happen' not in line
    return line


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_of_a_users_data_set(tmp_path: Path, workers: int) -> None:
    line = said_by(tmp_path, "type='Mine'", workers)
    worker = r' \(in DataLoader worker process \d\)' if workers else ''
    assert re.search(
        rf"^error: KeyError: ['\"]+no sample 3['\"]+{worker} \(.*my_data_of_tests\.py:13, in "
        r'Mine\.__getitem__: raise KeyError\(',
        line,
    ), line


def test_a_broken_image(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    (tmp_path / 'images' / 'a' / '2.png').write_bytes(b'none')
    step = "dict(type='RandomResizedCrop', size=8)"
    line = said_by(tmp_path, f"type='ImageFolder', root='images', transform={step}")
    assert re.search(r"^error: The image 'images/a/2\.png' cannot be read: .*worker", line)


def test_images_of_several_sizes(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    step = "dict(type='ResizeShortEdge', size=8)"
    line = said_by(tmp_path, f"type='ImageFolder', root='images', transform={step}", 0)
    assert re.search(r'equal size, but got .*: end their transforms with dict.*CenterC', line)


def test_transforms_are_checked_when_the_config_is_read(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    text = CONFIG.replace("imports=['my_data_of_tests']", 'imports=[]')
    right = "type='ImageFolder', root='nowhere', transform=dict(type='CenterCrop', size=8)"
    config.write_text(text.format(digits=str(DIGITS), workers=0, dataset=right))
    load_config(config)
    wrong = right.replace('size', 'scale')
    config.write_text(text.format(digits=str(DIGITS), workers=0, dataset=wrong))
    with pytest.raises(
        ConfigError, match=r"In `train_dataloader\.dataset\.transform`: .* no argument 'scale'"
    ):
        load_config(config)


def test_transforms_of_the_test_and_the_retraining_are_checked_first(tmp_path: Path) -> None:
    wrong = ["test_dataloader.dataset.transform=[{'type': 'Cutout', 'size': 2}]"]
    with pytest.raises(ConfigError, match=r"`test_dataloader\..*no argument 'size'"):
        load_config(DIGITS, wrong)
    data = {'type': 'Digits', 'transform': ['Cutout']}
    with pytest.raises(ConfigError, match=r"`retrain\.train_dataloader\.data.*str: 'Cutout'"):
        load_config(DIGITS, [f'retrain.train_dataloader.dataset={data}'])


WORKER = """Caught {kind} in DataLoader worker process 1.
Original Traceback (most recent call last):
  File "{torch}/utils/data/_utils/worker.py", line 1, in f
    data = fetcher.fetch(index)
  File "{own}", line {line}, in own
    raise ValueError(3)
{said}
"""


def text_of(**changes: Any) -> str:
    line = Own.own.__code__.co_firstlineno + 1
    values = {'kind': 'ValueError', 'torch': '/x/torch', 'own': __file__, 'line': line}
    return WORKER.format(**{**values, 'said': 'ValueError: bad: 3', **changes})


class Own:
    def own(self) -> None:
        """LINE 1."""


def test_texts_of_workers() -> None:
    error = ValueError(text_of())
    assert in_worker(error)
    assert of_loader(error)
    assert one_line(error) == 'ValueError: bad: 3 (in DataLoader worker process 1)'
    place = place_of(error)
    assert place is not None
    assert re.search(r'test_worker_errors\.py:\d+, in Own\.own: """LINE 1\."""$', place)
    lines = 'mmrazor_mutators.errors.DataError: two\nlines\n\n  and more'
    said = one_line(OSError(text_of(said=lines)))
    assert said == 'two lines and more (in DataLoader worker process 1)'
    cause = text_of() + '\nThe above exception was the direct cause of the following\n\n'
    chained = ValueError(cause + text_of(said='KeyError: 7').split('1.\n')[1])
    assert one_line(chained) == 'KeyError: 7 (in DataLoader worker process 1)'
    assert not in_worker(ValueError('Caught ValueError in DataLoader worker process 1.'))


def test_what_a_loader_reads_is_told_from_what_this_package_does() -> None:
    from torch.utils.data import DataLoader, default_collate

    with pytest.raises(RuntimeError) as caught:
        list(DataLoader([np.zeros(2), np.zeros(3)], batch_size=2, collate_fn=default_collate))  # type: ignore[arg-type]
    assert of_loader(caught.value)
    with pytest.raises(ConfigError) as of_ours:
        load_config('nowhere.py')
    assert not of_loader(of_ours.value)
