"""Files in folders, lists of files, and changes of colour."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import mmrazor_mutators.registry as registries
from mmrazor_mutators.datasets import ColorJitter, ImageFolder
from mmrazor_mutators.errors import ConfigError, DataError, HostError, InputError

PIXELS: dict[str, Any] = {}


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; PIXELS has what each file holds."""
    folder = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for name in ('b/2.png', 'b/10.PNG', 'a/deep/1.bmp', 'b/1.ppm', 'a/0.png'):
        size = int(generator.integers(3, 9))
        PIXELS[name] = generator.integers(0, 256, (size, 7, 3), dtype='uint8')
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {'.ppm': 'PPM', '.bmp': 'BMP'}.get(Path(name).suffix, 'PNG')
        Image.fromarray(PIXELS[name]).save(folder / name, format=kind)
    (folder / 'b' / 'notes.txt').write_text('no image')
    (folder / 'a.png').write_text('not in a class')
    return folder


def pixels_of(name: str) -> Any:
    return torch.from_numpy(PIXELS[name]).permute(2, 0, 1) / 255


def test_folders_are_classes(root: Path) -> None:
    data = ImageFolder(root)
    assert data.classes == ('a', 'b')
    expected = ['a/0.png', 'a/deep/1.bmp', 'b/1.ppm', 'b/10.PNG', 'b/2.png']
    assert data.paths.tolist() == expected
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    for i, name in enumerate(expected):
        image, label = data[i]
        torch.testing.assert_close(image, pixels_of(name))
        assert (image.dtype, label) == (torch.float32, data.labels[i])
    assert repr(data) == f"ImageFolder({str(root)!r}, 'train', 5 images)"
    again = pickle.loads(pickle.dumps(data))
    torch.testing.assert_close(again[3][0], data[3][0])


def test_a_list_of_files(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / 'val.txt'
    listed.write_text('b/2.png 3\na/0.png 0\n')
    data = ImageFolder(root, 'test', ann_file=listed)
    assert (data.paths.tolist(), data.labels.tolist()) == (['b/2.png', 'a/0.png'], [3, 0])
    assert data.classes == ('0', '1', '2', '3')
    torch.testing.assert_close(data[0][0], pixels_of('b/2.png'))


def test_parts_share_no_image(root: Path) -> None:
    parts = [ImageFolder(root, split, arch_fraction=0.4) for split in ('weights', 'arch')]
    names = [{*part.paths.tolist()} for part in parts]
    assert [len(part) for part in parts] == [3, 2]
    assert names[0] | names[1] == {*PIXELS}
    assert sorted(parts[1].labels.tolist()) == [0, 1]
    for part in parts:
        assert [name.startswith('b') for name in part.paths] == (part.labels == 1).tolist()


def test_through_the_registry_and_a_loader(root: Path) -> None:
    steps = [
        {'type': 'RandomResizedCrop', 'size': 4},
        lambda image: 2 * image,
        {'type': 'Normalize'},
    ]
    cfg = {'type': 'ImageFolder', 'root': str(root), 'transform': steps}
    data = registries.DATASETS.build(cfg)
    images, labels = next(iter(DataLoader(data, batch_size=5)))
    assert images.shape == (5, 3, 4, 4)
    assert labels.tolist() == [0, 0, 1, 1, 1]
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    doubled = images * std + mean
    assert doubled.min() >= -1e-6
    assert 1.5 < doubled.max() <= 2 + 1e-6


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    grey = np.arange(24, dtype='uint8').reshape(4, 6)
    Image.fromarray(grey).save(tmp_path / 'a' / '0.png')
    turned = Image.fromarray(np.stack([grey] * 3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: the first row is the right column.
    turned.save(tmp_path / 'a' / '1.png', exif=exif)
    data = ImageFolder(tmp_path)
    expected = torch.from_numpy(grey).expand(3, 4, 6) / 255
    torch.testing.assert_close(data[0][0], expected)
    torch.testing.assert_close(data[1][0], expected.rot90(-1, (1, 2)))


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'split': 'val'}, ConfigError, "no split 'val'"),
        ({'arch_fraction': 1.0}, ConfigError, '`arch_fraction` .* but got 1.0'),
        ({'root': 'nowhere'}, DataError, "no folder 'nowhere'"),
        ({'root': '.', 'ann_file': 'no.txt'}, DataError, "'no.txt' cannot be read"),
        ({'root': '{root}/b'}, DataError, "split 'train' of .*b' holds no image"),
    ],
)
def test_what_cannot_be_used(root: Path, changes: Any, error: Any, message: str) -> None:
    arguments = {'root': str(root), **changes}
    arguments['root'] = arguments['root'].format(root=root)
    with pytest.raises(error, match=message):
        ImageFolder(**arguments)


@pytest.mark.parametrize('line', ['a/0.png', 'a/0.png one', '1', 'a/0.png -1'])
def test_a_broken_list(root: Path, tmp_path: Path, line: str) -> None:
    listed = tmp_path / 'list.txt'
    listed.write_text(f'a/0.png 1\n{line}\n')
    with pytest.raises(DataError, match=f'line 2 is {line!r}'):
        ImageFolder(root, ann_file=listed)


def test_a_broken_image(tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'x.jpg').write_bytes(b'\xff\xd8 not an image')
    with pytest.raises(DataError, match=r"x\.jpg' cannot be read"):
        ImageFolder(tmp_path)[0]


def test_without_pillow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'PIL', None)
    monkeypatch.setitem(sys.modules, 'PIL.Image', None)
    with pytest.raises(HostError, match=r'needs Pillow.*mmrazor-mutators\[data\]'):
        ImageFolder(root)


def grey_of(image: Any) -> Any:
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_one_change_of_colour(name: str) -> None:
    image = 0.4 + 0.2 * torch.rand(3, 5, 6)
    away_from = {
        'brightness': torch.zeros(()),
        'contrast': grey_of(image).mean(),
        'saturation': grey_of(image),
    }[name]
    factors = []
    for _ in range(300):
        out = ColorJitter(**{name: 0.3})(image)
        ratio = (out - away_from) / (image - away_from)
        factors.append(float(ratio.median()))
        torch.testing.assert_close(out, away_from + factors[-1] * (image - away_from))
    assert 0.7 <= min(factors) < 0.72
    assert 1.28 < max(factors) <= 1.3 + 1e-5


def test_all_changes_in_random_order() -> None:
    image = torch.rand(3, 6, 6)
    jitter = ColorJitter(0.9, 0.9, 0.9)
    outs = torch.stack([jitter(image) for _ in range(50)])
    assert outs.min() >= 0
    assert outs.max() <= 1
    assert len({float(out.sum()) for out in outs}) == 50


def test_colours_that_cannot_be_changed() -> None:
    with pytest.raises(InputError, match='3 channels, but got 1'):
        ColorJitter(0.1)(torch.rand(1, 2, 2))
    for name in ('brightness', 'contrast', 'saturation'):
        with pytest.raises(ConfigError, match=f'`{name}` .* but got 1.5'):
            ColorJitter(**{name: 1.5})


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """One image of 40x60 pixels."""
    (tmp_path / 'a').mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype='uint8')
    Image.fromarray(noise).save(tmp_path / 'a' / 'x.png')
    return tmp_path


@pytest.mark.parametrize('kind', ['BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'WEBP'])
def test_truncated_and_damaged_images_name_the_file(good: Path, kind: str) -> None:
    path = good / 'a' / 'x.png'
    pixels = Image.open(path).convert('RGB')
    pixels.resize((12, 9)).save(path, format=kind)
    whole = path.read_bytes()
    data = ImageFolder(good)
    assert data[0][0].shape == (3, 9, 12)
    generator = np.random.default_rng(1)
    refused = said = 0
    for end in np.linspace(0, len(whole) - 1, 40, dtype=int).tolist():
        damaged = bytearray(whole)
        damaged[end] ^= 1 << int(generator.integers(8))
        for content in (whole[:end], bytes(damaged)):
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # Pillow warns of broken EXIF and the like.
                try:
                    image, _ = data[0]
                except DataError as error:
                    refused += repr(str(path)) in str(error)
                    said += 1
                else:
                    assert image.shape[0] == 3
    assert refused == said >= 20


def test_a_missing_image_names_the_file(good: Path) -> None:
    data = ImageFolder(good)
    (good / 'a' / 'x.png').unlink()
    with pytest.raises(DataError, match=r"x\.png' cannot be read: No such file"):
        data[0]


@pytest.mark.parametrize('factor', [1.5, 3])
def test_a_decompression_bomb(
    good: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    # Of 2,400 pixels; Pillow warns above its limit, and raises above twice of it.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', int(2400 / factor))
    with pytest.raises(
        DataError, match=rf"x\.png' has more pixels than the {2400 / factor:,.0f}"
    ):
        ImageFolder(good)[0]
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2400)
    assert ImageFolder(good)[0][0].shape == (3, 40, 60)


def test_formats_that_run_other_programs_are_not_read(good: Path) -> None:
    path = good / 'a' / 'x.png'
    Image.open(path).convert('RGB').save(path, format='EPS')
    with pytest.raises(DataError, match=r"x\.png' cannot be read"):
        ImageFolder(good)[0]


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        ({'type': 'RandomResizedCrop'}, "argument: 'size'. A valid .* size=224"),
        ({'type': 'CenterCrop', 'size': '32'}, r"`size` .* got '32'. .*'CenterCrop', size=224"),
        ({'type': 'CenterCrop', 'size': (32, 32)}, r'one int, .* got 2 values: \(32, 32\)'),
        ({'type': 'ResizeShortEdge', 'scale': 32}, "no argument 'scale'; Known: size. A valid"),
        ({'type': 'Resize', 'scale': (32, 32)}, 'Resize of mmcv .* dicts.*ours are .*Resize'),
        ({'type': 'Resiz'}, r"'Resiz' is not a registered transform.*A valid entry is dict"),
        ({'size': 32}, 'to have a "type".*A valid entry is dict.type=\'RandomResizedCrop\''),
        ('CenterCrop', "got str: 'CenterCrop'. A valid entry is dict"),
        (
            [{'type': 'ResizeShortEdge', 'size': 8}, {'type': 'CenterCrop', 'size': 9}],
            'CenterCrop cuts 9 pixels out, but .* has 8',
        ),
    ],
)
def test_wrong_steps_say_what_a_valid_one_is(good: Path, step: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageFolder(good, transform=step)


def test_steps_whose_sizes_fit(good: Path) -> None:
    edge = {'type': 'ResizeShortEdge', 'size': 8}
    flip = {'type': 'RandomHorizontalFlip'}
    data = ImageFolder(good, transform=[edge, flip, {'type': 'CenterCrop', 'size': 8}])
    assert data[0][0].shape == (3, 8, 8)

    def pad(image: Any) -> Any:
        return torch.nn.functional.pad(image, (2, 2, 2, 2))

    data = ImageFolder(good, transform=[edge, pad, {'type': 'CenterCrop', 'size': 9}])
    assert data[0][0].shape == (3, 9, 9)


def test_an_image_that_is_too_small_is_named(good: Path) -> None:
    data = ImageFolder(good, transform={'type': 'CenterCrop', 'size': 41})
    with pytest.raises(InputError, match=r"41x41 .* 40x60; put .*size=41.* is '.*x\.png'"):
        data[0]


def test_examples_of_steps_are_valid() -> None:
    kinds = {step for step in registries.TRANSFORMS.module_dict.values() if step.example}
    assert len(kinds) >= 8
    for kind in kinds:
        entry = eval(kind.example)
        assert type(registries.TRANSFORMS.build(entry)) is kind
