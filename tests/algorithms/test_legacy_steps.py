"""MMRazor v0.2.0's calls: its classifier, heads, wrappers, and steps with bare optimizers."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.algorithms.legacy_steps import LEGACY_GRAD_CLIP
from mmrazor_mutators.architectures import (
    BaseArchitecture,
    DartsSubnetClsHead,
    GlobalAveragePooling,
    ImageClassifier,
    LinearClsHead,
    MMClsArchitecture,
    MMDetArchitecture,
    MMSegArchitecture,
)
from mmrazor_mutators.architectures.classification_loss import (
    WeightedCrossEntropy,
    build_classification_loss,
    class_indices,
    topk_accuracy,
)
from mmrazor_mutators.errors import (
    ConfigError,
    InputError,
    NonFiniteLossError,
    UnknownTypeError,
)
from mmrazor_mutators.mutables import find_mutables, load_subnet

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mmrazor_v0_2_0'
PAPER = CONFIGS / 'darts_paper.yaml'


def supernet_cfg(scope='mmcls.', **arguments):
    """Return v0.2.0's own config of a DARTS search, at a size for tests."""
    cfg = Config.fromfile(CONFIGS / 'darts_supernet.py')
    algorithm = cfg.algorithm.to_dict()
    model = algorithm['architecture']['model']
    model['type'] = f'{scope}ImageClassifier'
    model['backbone'].update(base_channels=2, num_layers=3, num_nodes=2, out_indices=(2,))
    model['head']['in_channels'] = 16
    return {**algorithm, **arguments}


def subnet_cfg(**arguments):
    algorithm = Config.fromfile(CONFIGS / 'darts_subnet.py').algorithm.to_dict()
    model = algorithm['architecture']['model']
    model['backbone'].update(base_channels=2, num_layers=3, out_indices=(2,))
    model['head']['in_channels'] = 32
    return {**algorithm, 'mutable_cfg': str(PAPER), **arguments}


def batch(seed, size=4, side=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, side, side, generator=generator)
    return {'img': images, 'gt_label': torch.randint(10, (size,), generator=generator)}


def optimizers(model):
    return {
        'architecture': torch.optim.SGD(
            model.architecture.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4
        ),
        'mutator': torch.optim.Adam(model.mutator.parameters(), lr=3e-4, weight_decay=1e-3),
    }


@pytest.mark.parametrize('scope', ['mmcls.', '', 'mmrazor_mutators.'])
@pytest.mark.parametrize('unroll', [True, False])
def test_search_step_equals_ours(scope, unroll):
    torch.manual_seed(0)
    theirs = mm.build_algorithm(supernet_cfg(scope, unroll=unroll))
    ours = mm.build_algorithm(supernet_cfg(unroll=unroll))
    ours.load_state_dict(theirs.state_dict())
    bare, own = optimizers(theirs), optimizers(ours)
    wrapped = OptimWrapperDict(
        architecture=OptimWrapper(
            own['architecture'], clip_grad={'max_norm': LEGACY_GRAD_CLIP}
        ),
        mutator=OptimWrapper(own['mutator']),
    )
    for step in range(2):
        arch, train = batch(2 * step, 5), batch(2 * step + 1, 4)
        outputs = theirs.train_step([arch, train], bare)
        logs = ours.train_step((train, arch), wrapped)
        assert outputs['num_samples'] == 4
        assert not outputs['loss'].requires_grad
        assert outputs['log_vars'] == {name: float(value) for name, value in logs.items()}
        assert {'loss', 'arch_loss', 'top-1', 'top-5'} == {*outputs['log_vars']}
    for (key, a), (_, b) in zip(
        theirs.state_dict().items(), ours.state_dict().items(), strict=True
    ):
        if isinstance(a, torch.Tensor):
            assert a.equal(b), key


@pytest.mark.parametrize(('grad_clip', 'limit'), [(None, 5.0), (0.01, 0.01)])
def test_clipping_of_a_search(grad_clip, limit):
    model = mm.build_algorithm(supernet_cfg(unroll=False, grad_clip=grad_clip))
    with torch.no_grad():
        model.architecture.model.head.fc.weight.mul_(1e5)
    weights = list(model.architecture.parameters())
    pair = optimizers(model)
    pair['architecture'] = torch.optim.SGD(weights, lr=1.0)
    before = [w.detach().clone() for w in weights]
    model.train_step([batch(0), batch(1)], pair)
    moved = [(w - b).detach().flatten() for w, b in zip(weights, before, strict=True)]
    # Weights of 1e4 are rounded to 1e-3.
    assert torch.cat(moved[:-2]).norm().item() <= 1.01 * limit


def test_retraining_leaves_the_step_to_a_hook():
    model = mm.build_algorithm(subnet_cfg())
    assert next(find_mutables(model), None) is None
    data = batch(0, side=32)
    weights = list(model.parameters())
    before = [w.detach().clone() for w in weights]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    state = copy.deepcopy(model.state_dict())
    outputs = model.train_step(data, optimizer)
    assert all(w.equal(b) and w.grad is None for w, b in zip(weights, before, strict=True))
    logs = outputs['log_vars']
    assert {*logs} == {'loss', 'subnet.loss', 'aux_head.loss', 'top-1', 'top-5'}
    assert outputs['num_samples'] == 4
    assert logs['loss'] == pytest.approx(logs['subnet.loss'] + logs['aux_head.loss'])
    classifier = model.architecture.model
    outputs['loss'].backward()
    optimizer.step()
    assert not classifier.head.fc.weight.equal(state['architecture.model.head.fc.weight'])
    model.load_state_dict(state)
    auxiliary, features = classifier.extract_feat(data['img'])
    main = nn.functional.cross_entropy(classifier.head.fc(features), data['gt_label'])
    aux = nn.functional.cross_entropy(classifier.head.aux_linear(auxiliary), data['gt_label'])
    assert logs['subnet.loss'] == pytest.approx(main.item(), rel=1e-5)
    assert logs['aux_head.loss'] == pytest.approx(0.4 * aux.item(), rel=1e-5)
    model.load_state_dict(state)
    assert model.val_step(data, None)['log_vars'] == pytest.approx(logs)


def test_keys_of_the_state_and_the_network_of_the_paper():
    model = mm.build_algorithm(subnet_cfg())
    keys = {*model.state_dict()}
    assert {
        'architecture.model.backbone.stem.0.weight',
        'architecture.model.backbone.cells.0.preproc0.net.1.weight',
        'architecture.model.backbone.auxliary_module.net.2.weight',
        'architecture.model.head.fc.weight',
        'architecture.model.head.aux_linear.bias',
    } <= keys
    node = model.architecture.model.backbone.cells[0].nodes[3].edges
    assert [*node.choices] == ['normal_n5_p0', 'normal_n5_p2']
    assert type(node.choices['normal_n5_p2'][0]).__name__ == 'DartsDilConv'
    subnet = load_subnet(PAPER)
    assert subnet['normal_n5']['chosen'] == ['normal_n5_p2', 'normal_n5_p0']
    assert len(subnet) == 2 * (4 + 14)


def test_predictions():
    model = mm.build_algorithm(supernet_cfg()).eval()
    images = batch(0)['img']
    scores = model.architecture.forward_dummy(images)
    torch.testing.assert_close(model(images), scores)
    for result in (
        model(return_loss=False, img=[images], img_metas=[[]]),
        model(images, return_loss=False),
        model.simple_test(images),
        model.test_step(batch(0)),
        model.test_step({'img': images}),
    ):
        torch.testing.assert_close(torch.stack(result), scores.softmax(1))
    assert model.with_mutator
    losses = model(**batch(0), return_loss=True)
    torch.testing.assert_close(
        losses['loss'], nn.functional.cross_entropy(scores, batch(0)['gt_label'])
    )


@pytest.mark.parametrize(
    ('data', 'optimizer', 'error', 'message'),
    [
        ([1, 2, 3], 'both', InputError, r'pair \(arch_batch, train_batch\).*but got list'),
        (None, 'both', InputError, 'but got NoneType'),
        ([1, 2], None, InputError, r'dict\(architecture=..., mutator=...\), but got NoneType'),
        ('pair', 'one', ConfigError, "has no 'mutator'"),
    ],
)
def test_search_steps_that_do_not_fit(data, optimizer, error, message):
    model = mm.build_algorithm(supernet_cfg())
    pair = optimizers(model)
    given = {'both': pair, 'one': {'architecture': pair['architecture']}}.get(optimizer)
    with pytest.raises(error, match=message):
        model.train_step([batch(0), batch(1)] if data == 'pair' else data, given)


def test_loss_that_is_not_finite():
    model = mm.build_algorithm(subnet_cfg())
    data = batch(0, side=32)
    data['img'][0] = math.nan
    with pytest.raises(NonFiniteLossError, match='training loss is nan'):
        model.train_step(data, None)


def smoothed(scores, labels, share, classy):
    """Return the loss of smoothed labels, entry by entry."""
    k, total = scores.shape[1], 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(s) for s in row))
        for i, score in enumerate(row):
            if classy:
                target = ((i == label) + share / k) / (1 + share)
            else:
                target = (1 - share) * (i == label) + share / k
            total -= target * (score - log_sum)
    return total / len(scores)


@pytest.mark.parametrize('mode', ['original', 'classy_vision'])
@pytest.mark.parametrize('weight', [1.0, 0.4])
def test_label_smoothing(mode, weight):
    scores, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 3, 1, 2])
    cfg = {'type': 'mmcls.LabelSmoothLoss', 'num_classes': 4, 'mode': mode}
    loss = build_classification_loss({**cfg, 'label_smooth_val': 0.1, 'loss_weight': weight})
    expected = weight * smoothed(scores, labels, 0.1, mode == 'classy_vision')
    assert loss(scores, labels).item() == pytest.approx(expected)


def test_cross_entropy_with_class_weights_is_averaged_over_images():
    scores, labels = torch.randn(5, 3), torch.tensor([0, 2, 2, 1, 0])
    weights = [1.0, 2.0, 0.5]
    loss = build_classification_loss({'type': 'CrossEntropyLoss', 'class_weight': weights})
    logs = scores.log_softmax(1)
    expected = -sum(weights[c] * logs[i, c] for i, c in enumerate(labels.tolist())) / 5
    torch.testing.assert_close(loss(scores, labels), expected)


@pytest.mark.parametrize(
    ('loss', 'message'),
    [
        (5, 'a callable or a config, but got 5'),
        ({'type': 'CrossEntropLoss'}, "no loss 'CrossEntropLoss'.*'CrossEntropyLoss'"),
        ({'type': 'CrossEntropyLoss', 'use_soft': True}, 'use_soft=False alone, but got True'),
        ({'type': 'CrossEntropyLoss', 'weight': 1}, "takes no argument 'weight'"),
        ({'type': 'LabelSmoothLoss'}, '`label_smooth_val` .* but got None'),
        ({'type': 'LabelSmoothLoss', 'label_smooth_val': 1.0}, 'below 1, but got 1.0'),
        (
            {'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'multi_label'},
            "but got 'multi_label'",
        ),
    ],
)
def test_losses_that_do_not_fit(loss, message):
    with pytest.raises(ConfigError, match=message):
        LinearClsHead(3, 4, loss=loss)


def test_share_of_smoothing():
    with pytest.raises(ConfigError, match=r'at least 0 and below 1, but got -0\.1'):
        WeightedCrossEntropy(smoothing=-0.1)


def test_accuracies():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [9.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 2])
    found = topk_accuracy(scores, labels, (1, 2, 5))
    assert {k: v.item() for k, v in found.items()} == {'top-1': 25, 'top-2': 75, 'top-5': 100}


def test_linear_head_in_both_generations():
    head = LinearClsHead(3, 4, loss=nn.CrossEntropyLoss(), topk=2, cal_acc=True)
    features, labels = torch.randn(5, 4), torch.tensor([[0], [1], [2], [0], [1]])
    scores = features @ head.fc.weight.T + head.fc.bias
    losses = head.forward_train((None, features), labels)
    torch.testing.assert_close(
        losses['loss'], nn.functional.cross_entropy(scores, labels[:, 0])
    )
    assert [*losses['accuracy']] == ['top-2']

    class Sample:
        def __init__(self, label):
            self.gt_label = torch.tensor([label])

        def set_pred_score(self, score):
            self.score = score
            return self

        def set_pred_label(self, label):
            self.label = label
            return self

    samples = [Sample(label) for label in labels[:, 0].tolist()]
    newer = head.loss((features,), samples)
    assert newer['loss'].equal(losses['loss'])
    assert newer['accuracy_top-2'].equal(losses['accuracy']['top-2'])
    predicted = head.predict((features,), samples)
    torch.testing.assert_close(torch.stack([s.score for s in predicted]), scores.softmax(1))
    assert [s.label.item() for s in predicted] == scores.argmax(1).tolist()
    torch.testing.assert_close(torch.stack(head.predict((features,))), scores.softmax(1))
    torch.testing.assert_close(head.simple_test(features, False, False), scores)
    torch.testing.assert_close(torch.stack(head.simple_test((features,))), scores.softmax(1))


def test_auxiliary_head_in_both_generations():
    loss = {'type': 'CrossEntropyLoss'}
    head = DartsSubnetClsHead(6, {**loss, 'loss_weight': 0.4}, 3, 4, cal_acc=True)
    features, labels = (torch.randn(5, 6), torch.randn(5, 4)), torch.tensor([0, 1, 2, 0, 1])
    losses = head.forward_train(features, labels)
    aux = 0.4 * nn.functional.cross_entropy(head.aux_linear(features[0]), labels)
    torch.testing.assert_close(losses['aux_head.loss'], aux)
    samples = [type('S', (), {'gt_label': label})() for label in labels]
    newer = head.loss(features, samples)
    assert newer['subnet.loss'].equal(losses['subnet.loss'])
    assert newer['accuracy_top-1'].equal(losses['subnet.accuracy']['top-1'])
    with pytest.raises(InputError, match=r'but got 1 of them; give the backbone auxliary=True'):
        head.forward_train(features[1:], labels)


@pytest.mark.parametrize(
    ('labels', 'came'),
    [
        (torch.rand(4), r'\(4,\)'),
        (torch.zeros(4, 2, dtype=torch.long), r'\(4, 2\)'),
        (None, 'None'),
    ],
)
def test_labels_that_are_no_class_indices(labels, came):
    with pytest.raises(InputError, match=f'but got {came}'):
        class_indices(labels)


@pytest.mark.parametrize('dim', [1, 2, 3])
def test_pooling(dim):
    maps = torch.randn(2, 3, *[4, 5, 6][:dim])
    pool = GlobalAveragePooling(dim)
    expected = maps.flatten(2).mean(2)
    torch.testing.assert_close(pool(maps), expected)
    torch.testing.assert_close(pool((maps, maps))[1], expected)


def test_parts_that_do_not_fit():
    with pytest.raises(ConfigError, match='1, 2 or 3, but got 4'):
        GlobalAveragePooling(4)
    with pytest.raises(InputError, match='but got str'):
        GlobalAveragePooling()('maps')
    with pytest.raises(ConfigError, match=r'`topk` .* but got 0'):
        LinearClsHead(3, 4, topk=(1, 0))
    with pytest.raises(ConfigError, match=r"`train_cfg` .* but got {'augments': 1}"):
        ImageClassifier(nn.Identity(), train_cfg={'augments': 1})
    headless = ImageClassifier(nn.Identity())
    images = torch.randn(2, 3)
    assert headless(images).equal(images)
    with pytest.raises(ConfigError, match='has no `head`'):
        headless(images, gt_label=torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match='has no `head`'):
        headless(images, return_loss=False)
    with pytest.raises(InputError, match='one version of the images to be tested, but got 2'):
        headless([images, images], return_loss=False)


class Modes(nn.Module):
    """A model with modes, and nothing else."""

    data_preprocessor = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return mode, inputs, data_samples


class Dummy(nn.Module):
    """A model of a 0.x package."""

    def forward_dummy(self, img):
        return [img, (img, img)]

    def simple_test(self, img, img_metas):
        return img, img_metas

    def show_result(self, img, result, **kwargs):
        return img, result, kwargs

    def forward(self, img, return_loss=True, **kwargs):
        return img, return_loss, kwargs


@pytest.mark.parametrize('kind', [MMClsArchitecture, MMDetArchitecture, MMSegArchitecture])
def test_wrappers(kind):
    new, old = kind(Modes()), kind(model=Dummy())
    assert new(1) == ('tensor', 1, None)
    assert new(1, data_samples=2) == ('loss', 1, 2)
    assert new(1, return_loss=False, data_samples=2) == ('predict', 1, 2)
    assert old(1, gt_label=2, img_metas=3) == (1, True, {'gt_label': 2, 'img_metas': 3})
    assert old([1], return_loss=False) == ([1], False, {})
    assert old.simple_test(1, 2) == (1, 2)
    assert old.show_result(1, 2, wait=3) == (1, 2, {'wait': 3})
    assert old.data_preprocessor is None
    with pytest.raises(InputError, match=r'Modes expects .* but got gt_bboxes'):
        new(1, gt_bboxes=2)
    if kind is not MMSegArchitecture:
        image = torch.tensor([1.0, 2.0])
        assert old.cal_pseudo_loss(old.forward_dummy(image)) == 9


def test_labels_for_a_classifier_with_modes():
    mode, _, samples = MMClsArchitecture(Modes())(1, gt_label=torch.tensor([4, 2]))
    assert mode == 'loss'
    assert [sample.gt_label.tolist() for sample in samples] == [[4], [2]]
    assert 'gt_label' in samples[0]
    assert 'gt_score' not in samples[0]


def test_logits_of_a_classifier_whose_dummy_pass_stops_before_the_head():
    class Features(Dummy):
        def __init__(self):
            super().__init__()
            self.head = LinearClsHead(3, 4)

        def extract_feat(self, img):
            return 0 * img, img

    model, features = Features(), torch.randn(2, 4)
    expected = features @ model.head.fc.weight.T + model.head.fc.bias
    torch.testing.assert_close(MMClsArchitecture(model)(features), expected)


def test_wrapper_of_a_model_that_cannot_run_on_images_alone():
    with pytest.raises(InputError, match='Identity has neither a forward_dummy nor modes'):
        BaseArchitecture(nn.Identity())(torch.randn(1))


@pytest.mark.parametrize('kind', ['mmdet.NoSuchDetector', 'mmcls.NoSuchClassifier'])
def test_models_that_nobody_has(kind):
    with pytest.raises(UnknownTypeError, match=kind):
        MMDetArchitecture(model={'type': kind})


def test_nested_names_of_a_package_that_is_not_there():
    cfg = supernet_cfg()
    model = cfg['architecture']['model']
    model['neck']['type'] = 'mmcls.GlobalAveragePooling'
    model['head']['type'] = 'mmcls.LinearClsHead'
    before = copy.deepcopy(cfg)
    built = mm.build_algorithm(cfg).architecture.model
    assert cfg == before
    assert type(built.neck) is GlobalAveragePooling
    assert type(built.head) is LinearClsHead
