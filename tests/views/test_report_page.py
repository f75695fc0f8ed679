"""A work directory as one page: whatever state it is in, and whatever stands in its files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_runs

import mmrazor_mutators as mm
from mmrazor_mutators import cli
from mmrazor_mutators.arguments import build_parser
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.lock import locked
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.views.catalogue import read_parts
from mmrazor_mutators.views.page.commands import commands_of
from mmrazor_mutators.views.page.records import read_records
from mmrazor_mutators.views.page.settings import settings_of

FOLDERS = sorted(path for path in tiny_runs.CONFIGS.iterdir() if path.is_dir())
# Those of MMRazor v0.2.0 are translated when they are loaded.
CONFIGS = [
    min(folder.glob('*.py'))
    for folder in FOLDERS
    if folder.name not in ('_base_', 'mmrazor_v0_2_0')
]
VOID = {'meta', 'br', 'img', 'link', 'input', 'hr'}


class Page(HTMLParser):
    """What a browser would find: elements, attributes and the text of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding='utf-8')
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ''
        self._open: list[str] = []
        self._section = ''
        self.sections: dict[str, str] = {}
        self.commands: list[str] = []
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        if tag == 'section':
            self._section = str(found['id'])
        if tag == 'pre' and found.get('class') == 'command':
            self.commands.append('')

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == 'section':
            self._section = ''

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ['style']:
            return
        self.text += data
        told = self.sections.get(self._section, '')
        self.sections[self._section] = told + data
        if self._open[-2:] == ['pre', 'code'] and self._section == 'next':
            self.commands[-1] += data

    def lines(self) -> list[list[str]]:
        """Return the commands, as a shell would split them."""
        return [shlex.split(command.replace('\\\n', '')) for command in self.commands]


def report(folder: Path, **options: Any) -> Page:
    return Page(mm.write_report(folder, **options))


@pytest.fixture(scope='module')
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a search of a second, whose network was trained beside two random ones."""
    folder: Path = tmp_path_factory.mktemp('runs') / 'a search'
    assert tiny_runs.search(folder, train_cfg__max_epochs=2) == 0
    subnet = folder / 'subnet.yaml'
    trained = folder / 'retrain'
    assert tiny_runs.retrain(trained, subnet, '--compare-random', '2') == 0
    return folder


@pytest.fixture(scope='module')
def page(retrained: Path) -> Page:
    return report(retrained)


@pytest.fixture
def work(retrained: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be changed."""
    return Path(shutil.copytree(retrained, tmp_path / 'work'))


@pytest.fixture
def searched(work: Path) -> Path:
    shutil.rmtree(work / 'retrain')
    return work


def test_a_retrained_search_is_told_as_a_whole(retrained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in retrained.rglob('*')}
    page = report(retrained)
    results = json.loads((retrained / 'retrain' / 'results.json').read_text())
    for result in (results['found'], *results['random']):
        assert f'{result["accuracy"]:.2f}%' in page.sections['result']
        assert f'{result["parameters"]:,}' in page.sections['result']
    difference = results['found']['accuracy'] - results['random_mean']
    assert f'{abs(difference):.2f} points' in page.sections['result']
    where = 'above' if difference > 0 else 'below'
    assert f'points {where} the mean of 2 random' in page.sections['result']
    for entry in mm.load_subnet(retrained / 'subnet.yaml').values():
        assert entry['chosen'][0] in page.sections['network']
    assert 'missing' not in page.sections
    settings = page.sections['settings']
    for words in ('NasBench201Supernet', 'DartsMutator', 'Liu et al.', 'Digits', 'PyTorch'):
        assert words in settings
    assert re.search(r'seed\s*0\s', settings)
    assert [tag for tag, _ in page.elements].count('svg') > 10
    after = {path: path.stat().st_mtime_ns for path in retrained.rglob('*')}
    assert after.keys() - before.keys() == {retrained / 'report.html'}
    del after[retrained / 'report.html']
    assert after == before
    # The same directory gives the same page.
    assert report(retrained).source == page.source


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({'script', 'link', 'img', 'iframe', 'object', 'base', 'form'})
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith('on')
            if name in ('href', 'src', 'xlink:href'):
                assert str(value).startswith(('#', 'data:image/png'))
    assert set(re.findall(r'url\((.)', page.source)) <= {'#'}
    assert '@import' not in page.source
    assert '://' not in page.source
    ids = [attributes['id'] for _, attributes in page.elements if 'id' in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        target = attributes.get('href') or ''
        assert not target.startswith('#') or target[1:] in ids
    for name in re.findall(r'url\(#([^)]*)\)', page.source):
        assert name in ids


def test_headings_pictures_and_tables_are_accessible(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch('h[1-6]', tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert ('html', {'lang': 'en'}) in page.elements
    for tag, attributes in page.elements:
        if tag == 'svg':
            assert attributes['role'] == 'img'
            assert len(attributes['aria-label'] or '') > 10
        if tag == 'th':
            assert attributes['scope'] in ('row', 'col')
    tags = [tag for tag, _ in page.elements]
    assert tags.count('table') == tags.count('caption')


def test_commands_can_be_pasted(page: Page, retrained: Path) -> None:
    lines = page.lines()
    parser = build_parser(dict.fromkeys(cli._VERBS, cli._show))
    for program, *words in lines:
        assert program == 'mmrazor-mutators'
        args = parser.parse_args(words)
        for name in ('config', 'subnet', 'checkpoint', 'file'):
            assert Path(getattr(args, name, None) or retrained).exists()
    assert [words[1] for words in lines] == ['export', 'retrain', 'show']
    export = next(words for words in lines if words[1] == 'export')
    assert export[export.index('--checkpoint') + 1] == str(retrained / 'retrain' / 'last.pth')


def test_a_search_that_was_stopped_goes_on(searched: Path, capsys: Any) -> None:
    config = searched / 'config.py'
    config.write_text(config.read_text().replace('max_epochs=2', 'max_epochs=3', 1))
    records = read_records(searched)
    assert records.search is not None
    assert (records.search.state, records.search.reached) == ('stopped', 2)
    page = report(searched, build=False)
    assert 'stopped epoch 2 of 3' in page.text
    (resume,) = [words for words in page.lines() if '--resume' in words]
    assert cli.main(resume[1:]) == 0
    assert '(epoch 2, step 6)' in capsys.readouterr().out
    records = read_records(searched)
    assert records.search is not None
    assert (records.search.state, records.search.reached) == ('finished', 3)
    retrain = commands_of(records)[0].line
    assert retrain.split()[1] == 'retrain'
    assert f'--work-dir {searched / "retrain"} ' in retrain


def test_a_search_that_runs(searched: Path) -> None:
    with locked(searched):
        page = report(searched, build=False)
        assert '.lock' in {path.name for path in searched.iterdir()}
    assert 'running epoch 2 of 2' in page.text
    assert [words[1] for words in page.lines()] == ['report', 'show']
    # A process of a number that nobody has is none.
    (searched / '.lock').write_text(f'{2**22 + 1}\n')
    search = read_records(searched).search
    assert search is not None
    assert search.state == 'finished'


def test_a_search_that_has_just_begun(searched: Path) -> None:
    for pattern in ('*.pth', '*.csv', 'subnet.yaml', 'last_checkpoint'):
        for path in searched.glob(pattern):
            path.unlink()
    page = report(searched)
    assert f'There is no checkpoint in {searched}' in page.sections['missing']
    assert f'There is no {searched}/subnet.yaml: nothing was found yet' in page.text
    assert 'network' not in page.sections
    with locked(searched):
        assert 'no checkpoint' not in ' '.join(read_records(searched).missing)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('subnet.yaml', 'n1_p0: {chosen: [a', 'is not valid YAML'),
        ('subnet.yaml', '- 1\n', 'subnet.yaml'),
        ('config.py', 'import os\n', 'is not as it was written: line 1 is no assignment'),
        ('config.py', 'model = (', 'is not as it was written'),
        ('config.py', None, 'the settings of this run are not known'),
        ('last.pth', 'x' * 100, 'last.pth is not whole'),
        ('retrain/results.json', '{"found": 3}', 'to be the results.json of a retraining'),
        ('retrain/results.json', '{', 'is not valid JSON'),
        ('evolution.json', '{"evaluated": [{"score": "a", "epoch": 1}]}', 'is no evolution'),
        ('evolution.json', '[', 'cannot be read'),
        ('front.json', '{"metric": "params", "points": []}', 'is no front'),
        ('front.json', '[1]', 'is no front'),
        ('epochs.csv', None, 'epochs.csv is not there'),
    ],
)
def test_what_is_broken_is_named(
    work: Path, name: str, content: str | None, message: str
) -> None:
    path = work / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    assert message in ' '.join(read_records(work).missing)


@pytest.mark.parametrize(
    'text',
    [
        'model = 3',
        'model = dict(architecture=[1], mutator=dict(type=2, extensions=7))',
        "model = dict(architecture=dict(rules=5, type=[1]), mutator='a')\noptim_wrapper = 5",
        'train_cfg = dict(max_epochs=[1], evolution=3, arch_dataloader=4)\nrandomness = 7',
        'train_dataloader = [1]\ntest_dataloader = dict(dataset=[dict(a=float("inf"))])',
        "model = dict(mutator=dict(extensions=[dict(type='Budget', macs='x')]))",
    ],
)
def test_a_config_of_any_form_ends_in_a_page(tmp_path: Path, text: str) -> None:
    (tmp_path / 'config.py').write_text(text)
    score = {'score': 1.0, 'epoch': 0, 'costs': {'params': 'many'}}
    (tmp_path / 'evolution.json').write_text(json.dumps({'evaluated': [score]}))
    page = report(tmp_path, build=False)
    assert 'no checkpoint' in page.sections['missing']
    assert 'is no evolution' in page.sections['missing']
    assert 'settings' in page.sections or 'The settings cannot be shown' in page.text


def test_what_stands_in_files_is_escaped(work: Path) -> None:
    evil = '<script>alert(1)</script>"\'><img src=x onerror=y> {{ 7*7 }} </style> & \x01'
    subnet = {'n1_p0': {'chosen': [evil]}, evil: {'chosen': ['$x$']}}
    (work / 'subnet.yaml').write_text(json.dumps(subnet))
    results = {'found': [evil, 1.5, 3], 'random': []}
    names = ('name', 'accuracy', 'parameters')
    found = dict(zip(names, results['found'], strict=True))
    (work / 'retrain' / 'results.json').write_text(json.dumps({'found': found, 'random': []}))
    config = work / 'config.py'
    config.write_text(f'{config.read_text()}randomness = dict(seed={evil!r})\n')
    page = report(work, build=False)
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({'script', 'img'})
    assert page.source.count('</style>') == 1
    for section in ('network', 'settings', 'result'):
        assert evil[:-1] in page.sections[section].replace('\x01', '')
    assert '49' not in page.sections['network']
    assert 'alert(1)' in page.sections['network'].split('as a table')[0]  # In the picture.


def test_data_only_runs_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / 'config.py').write_text("raise_ = 1\nmodel = dict(type='os.abort')\n")

    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr('mmrazor_mutators.views.page.networks.load_config', refuse)
    page = report(work, build=False)
    assert 'multiply-adds' not in page.text
    assert 'all layers' not in page.text.lower()
    assert 'Result' in page.text


def test_what_cannot_be_built_is_said(work: Path) -> None:
    text = (work / 'config.py').read_text()
    (work / 'config.py').write_text(text.replace('NasBench201Supernet', 'NoSuchSupernet'))
    page = report(work)
    assert "'NoSuchSupernet'" in page.sections['missing']
    assert 'are not shown' in page.sections['missing']
    assert 'network' in page.sections


def test_without_matplotlib(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib.figure', None)
    page = report(work)
    assert page.sections['missing'].count('There are no pictures') == 1
    assert 'mmrazor-mutators[plot]' in page.sections['missing']
    assert 'svg' not in {tag for tag, _ in page.elements}
    assert 'avg_pool_3x3' in page.sections['network'] or 'conv' in page.sections['network']


def test_an_evolution(work: Path) -> None:
    entries = [
        {'epoch': e, 'score': 10.0 * e + i, 'costs': {'flops': 1e6 + i}, 'candidate': {}}
        for e in range(3)
        for i in range(5)
    ]
    (work / 'evolution.json').write_text(json.dumps({'epoch': 3, 'evaluated': entries}))
    told = report(work).sections['evolution']
    assert '15 paths of the supernet were scored in 3 generations' in told
    assert '24.00%' in told
    assert '1M' in told


def test_a_front(tmp_path: Path) -> None:
    points = [
        {'budget': b, 'limit': 1000 * b, 'cost': 990 * b, 'accuracy': 90 + b, 'folder': f'f{b}'}
        for b in (0.25, 0.5)
    ]
    (tmp_path / 'front.json').write_text(json.dumps({'metric': 'macs', 'points': points}))
    page = report(tmp_path)
    assert '99.0%' in page.sections['front']
    assert '90.50%' in page.sections['front']
    assert [words[1:] for words in page.lines()] == [['report', 'f0.25'], ['report', 'f0.5']]


def test_a_training_alone_and_one_that_was_stopped(work: Path) -> None:
    page = report(work / 'retrain', build=False)
    assert page.elements[0] == ('html', {'lang': 'en'})
    assert 'Training report' in page.text
    assert 'result' in page.sections
    assert 'training' in page.sections
    (work / 'retrain' / 'results.json').unlink()
    page = report(work, build=False)
    assert 'trainingstopped epoch 1 of 1' in ' '.join(page.text.split())
    (resume,) = [words for words in page.lines() if '--resume' in words]
    assert resume[1] == 'retrain'
    assert resume[resume.index('--compare-random') + 1] == '2'


def test_a_search_with_nothing_to_train(tmp_path: Path, capsys: Any) -> None:
    config = tiny_runs.CONFIGS / 'random' / 'nasbench201_digits.py'
    assert tiny_runs.search(tmp_path, config=config) == 0
    page = report(tmp_path)
    assert 'finished' in page.text
    assert 'missing' not in page.sections
    assert page.lines()[0][1] == 'retrain'


def test_settings_of_shipped_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = read_parts()  # Once is enough.
    monkeypatch.setattr('mmrazor_mutators.views.page.settings.read_parts', lambda: parts)
    for path in CONFIGS:
        values = load_config(path).to_dict()
        groups = {group.title: dict(group.rows) for group in settings_of(values, {})}
        model = values['model']
        assert groups['Algorithm']['mutator'] == model['mutator']['type'], path
        kind = model['architecture']['type']
        assert kind in ('Searchable', groups['Search space'].get('supernet')), path
        data = groups['Data'].get('weights') or groups['Data']['training']
        assert data.endswith(f'in batches of {values["train_dataloader"]["batch_size"]}'), path


def test_errors(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ConfigError, match=r'There is no work directory .*nowhere'):
        mm.write_report(tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match=f'nothing of a run in {str(tmp_path)!r}'):
        mm.write_report(tmp_path)
    (tmp_path / 'config.py').write_text('model = dict()')
    with pytest.raises(ConfigError, match=r'Cannot write the report .*config\.py.report\.html'):
        mm.write_report(tmp_path, tmp_path / 'config.py' / 'report.html')
    out = tmp_path / 'new' / 'page.html'
    assert cli.main(['report', str(tmp_path), '--out', str(out), '--data-only']) == 0
    assert capsys.readouterr().out == f'Wrote {out}\n'
    assert cli.main(['report', str(tmp_path / 'nowhere')]) == 2
    assert tiny_runs.complaint(capsys).startswith('error: There is no work directory')
