"""Configs and subnets of other versions of MMRazor, written anew as ours."""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from ..documents import read_yaml
from ..errors import ConfigError, NASError, SubnetError
from ..host.data_files import data_only
from ..typing import Subnet
from .config_text import config_text
from .v0_config import is_legacy_config, translated
from .v1_model import translate_1_0

__all__ = ['convert_subnet', 'migrate', 'read_with_bases', 'write_text']

_BLOCK = re.compile(r'^(?:architecture\.)?backbone\.(?:layers\.(\d+)|layer(\d+))\.(\d+)$')
_RUNTIME = 'default_runtime.py'


def migrate(path: str | os.PathLike[str], base_dir: str | None = None) -> tuple[str, list[str]]:
    """Return a config, or a subnet file, as the text of one of ours, and notes.

    Args:
        path: A config of MMRazor 1.0 (DARTS or DSNAS, the search or the network
            found) or v0.2.0, or a YAML file with a subnet.
        base_dir: Where bases such as ``'mmrazor::_base_/...'`` are looked for,
            as well as in the directories above the config.

    Raises:
        ConfigError: A file that is missing, cannot be read, or has no
            counterpart.
        SubnetError: A subnet that is none.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise ConfigError(f'There is no file {name!r} to migrate')
    if base_dir is not None and not Path(base_dir).is_dir():
        raise ConfigError(f'Expected --base-dir to be a directory, but got {base_dir!r}')
    notes: list[str] = []
    if Path(name).suffix in ('.yaml', '.yml', '.json'):
        content = read_yaml(name, 'file', ConfigError)
        if not isinstance(content, Mapping) or not {'model', 'algorithm'} & content.keys():
            subnet = convert_subnet(content, notes)
            return yaml.safe_dump(subnet, sort_keys=False), notes
    cfg = read_with_bases(name, base_dir, notes)
    if is_legacy_config(cfg):
        version = 'v0.2.0'
        legacy, more = translated(cfg)
        ours = legacy.to_dict()
        notes += [f'not taken over: {note}' for note in more]
    else:
        version = '1.0'
        ours, more = translate_1_0(cfg)
        notes += more
    return f'"""Migrated from a config of MMRazor {version}."""\n\n{config_text(ours)}', notes


def convert_subnet(content: Any, notes: list[str]) -> Subnet:
    """Return a subnet of MMRazor 1.0 in our form.

    There a choice may be a bare name, and what has no alias is called after its
    place: ``backbone.layers.0.1`` is ``stage_0_block_1`` here.

    Args:
        content: ``{alias or place: {'chosen': name or [names]}}``.
        notes: Where to note what was assumed.

    Raises:
        SubnetError: Another form.

    >>> convert_subnet({'backbone.layers.0.1': {'chosen': 'shuffle_3x3'}}, [])
    {'stage_0_block_1': {'chosen': ['shuffle_3x3']}}
    """
    if not isinstance(content, Mapping) or not content:
        raise SubnetError(
            "Expected a subnet to be a mapping {name: {'chosen': ...}}, but got "
            f'{type(content).__name__}'
        )
    subnet: Subnet = {}
    by_place = []
    for name, entry in content.items():
        chosen = entry.get('chosen') if isinstance(entry, Mapping) else None
        chosen = [chosen] if isinstance(chosen, str) else chosen
        strings = (
            isinstance(chosen, list) and chosen and all(isinstance(c, str) for c in chosen)
        )
        if not strings or not isinstance(name, str):
            raise SubnetError(
                f"Expected {{'chosen': name or [names]}} for {name!r} of a subnet, but got "
                f'{entry!r}'
            )
        block = _BLOCK.match(name)
        if block:
            layers, layer, index = block.groups()
            # The stages of the MobileNet are numbered from 1, in their names alone.
            stage = int(layers) if layers is not None else int(layer) - 1
            space_id = f'stage_{stage}_block_{index}'
        else:
            space_id = name.replace('.', '/')
            by_place += [name] if space_id != name else []
        if space_id in subnet:
            raise SubnetError(f'The subnet names the space {space_id!r} twice')
        subnet[space_id] = {'chosen': chosen}
    if by_place:
        notes.append(
            f'{by_place[0]!r} and other places are written with "/", as NasMutator calls them'
        )
    return subnet


def read_with_bases(name: str, base_dir: str | None, notes: list[str]) -> Config:
    """Read a config whose bases may be named by their package, which is not imported.

    Args:
        name: The file.
        base_dir: See :func:`migrate`.
        notes: Where to note a runtime that was left out.

    Raises:
        ConfigError: A file that cannot be read, or a base that is not found.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            copy = _localized(Path(name), base_dir, Path(folder), notes, ())
            with data_only():
                cfg = Config.fromfile(copy, use_predefined_variables=False)
        except NASError:
            raise
        except Exception as error:  # A config is code, which may raise anything.
            said = str(error).replace(str(Path(folder)), '...')
            raise ConfigError(
                f'The config file {name!r} cannot be read: {type(error).__name__}: {said}'
            ) from error
    return Config(cfg.to_dict())


def _localized(
    path: Path, base_dir: str | None, folder: Path, notes: list[str], above: tuple[Path, ...]
) -> str:
    """Write a config and its bases into a folder, with their paths there as bases."""
    if path.resolve() in above:
        raise ConfigError(f'The config file {str(path)!r} is a base of itself')
    above = (*above, path.resolve())
    # What a config becomes depends on its name alone where several have the same base.
    target = folder / f'{len(list(folder.iterdir()))}_{path.name}'
    target.touch()
    text = path.read_text(encoding='utf-8')
    if path.suffix != '.py':
        target.write_text(text, encoding='utf-8')
        return str(target)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(
            f'The config file {str(path)!r} is not valid Python: {error.msg} in line '
            f'{error.lineno}'
        ) from error
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            try:
                named = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConfigError(
                    f'Expected `_base_` of {str(path)!r} to be a list of paths, but got '
                    f'{ast.unparse(node.value)}'
                ) from error
            bases = [named] if isinstance(named, str) else list(named)
            found = [_find_base(base, path, base_dir, notes) for base in bases]
            copies = [
                _localized(base, base_dir, folder, notes, above) for base in found if base
            ]
            node.value = ast.parse(repr(copies), mode='eval').body
    target.write_text(ast.unparse(tree), encoding='utf-8')
    return str(target)


def _find_base(base: str, path: Path, base_dir: str | None, notes: list[str]) -> Path | None:
    """Return the file of a base, or ``None`` for a runtime that we have no need of."""
    package, _, inside = str(base).rpartition('::')
    if not package:
        candidates = [path.parent / inside]
    else:
        # A checkout has its configs in a folder, a package below a hidden one.
        own = [f'{package}/configs', f'{package}/.mim/configs']
        anywhere = ['', 'configs', *own]
        places = [(Path(base_dir), anywhere)] if base_dir else []
        around = anywhere if package == 'mmrazor' else own
        places += [(parent, around) for parent in path.resolve().parents]
        candidates = [root / below / inside for root, folders in places for below in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if package and Path(inside).name == _RUNTIME:
        notes.append(f'left out: {base!r} was not found; the runtime is that of ours')
        return None
    where = 'give the folder of its configs as --base-dir' if package else 'it is missing'
    raise ConfigError(f'The base {base!r} of {str(path)!r} was not found; {where}')


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        Path(path).write_text(text, encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'Cannot write {os.fspath(path)!r}: {error.strerror}') from error
