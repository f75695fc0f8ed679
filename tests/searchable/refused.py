"""Networks and rules that do not go together, and what the error says."""

from __future__ import annotations

from typing import Any

import attending
import networks
import torch
from torch import nn

from mmrazor_mutators.errors import ConfigError, InputError, SearchSpaceError


def tied() -> nn.Module:
    model = attending.Characters()
    model.head.weight = model.embed.weight
    return model


def mlp(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), *between, nn.Linear(8, 2))


class Reshaped(nn.Module):
    """Writes the number of its channels down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).reshape(-1, 4, 4).mean(-1).reshape(len(x), -1, 4).mean(1))


class WrittenDown(attending.Attention):
    """Attention that returns as many features as it read."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.qkv(x)[..., : self.num_heads * self.head_dim]
        return self.proj(mixed.reshape(x.shape))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.fc(x)).detach()


def packing() -> nn.Module:
    model = attending.Encoder()
    model.encoder.use_nested_tensor = True
    return model


def activated() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation=nn.ReLU(), batch_first=True)
    return nn.Sequential(layer, nn.Linear(4, 2))


class Halves(nn.Module):
    """Reads two halves of its features by layers of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 8), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.fc(x).chunk(2, -1)
        return self.out(a * b.sigmoid())


class Shuffled(nn.Module):
    """Mixes its channels, as a ShuffleNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.fc(x).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2))


class Viewed(nn.Module):
    """Writes the number of its features down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.conv(x).view(-1, 4 * 64))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return self.out(y + torch.randn_like(y))


def repeated() -> nn.Module:
    """Runs one layer twice, whose outputs are its own inputs."""
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 2))


def tied_linear() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    return model


class ChannelNorm(nn.LayerNorm):
    """Normalises over channels, which are the second dimension of its maps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), ChannelNorm(4), nn.Conv2d(4, 2, 1))


class OwnConv(nn.Conv2d):
    """Asks for its kernel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.weight, nn.Parameter):
            raise ValueError('no parameter')
        return super().forward(x)


class OptimizedModule(nn.Module):
    """Named as what torch.compile returns, which takes long to get."""

    def __init__(self) -> None:
        super().__init__()
        self._orig_mod = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._orig_mod(x)


Space = SearchSpaceError
FOUR, IMAGES, TOKENS = torch.randn(3, 4), torch.randn(2, 3, 8, 8), torch.randint(0, 11, (2, 6))
REFUSED: list[tuple[Any, Any, Any, type, str]] = [
    (
        normalised,
        [{'match': '0', 'width': [2, 4]}],
        IMAGES,
        Space,
        r"its channels reach '1' \(ChannelNorm\), whose features cannot be chosen",
    ),
    (
        lambda: nn.Sequential(OwnConv(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 2)),
        [{'match': '0', 'kernel_size': [1, 3]}],
        IMAGES,
        Space,
        r"'0': the choice 'k1' cannot work: ValueError: no parameter \(in '0', OwnConv",
    ),
    (mlp, [{'match': '0', 'width': [0]}], FOUR, Space, 'from 1 to 8.* but got 0'),
    (mlp, [{'match': '0', 'width': [16]}], FOUR, Space, 'from 1 to 8.* but got 16'),
    *[
        (mlp, [{'match': '0', 'width': [w]}], FOUR, Space, f'from 1 to 8.* but got {w}')
        for w in (0.0, -1, 2.5, True, None, float('nan'), float('inf'))
    ],
    (mlp, [{'match': '0', 'width': ['a']}], FOUR, Space, "but got 'a'"),
    (mlp, [{'match': '0', 'width': 3}], FOUR, Space, 'expected a list of numbers'),
    (mlp, [{'match': '0', 'width': [8]}], FOUR, Space, 'a smaller width than .* 8'),
    (mlp, [{'match': '1', 'width': [1]}], FOUR, Space, 'the output of the model'),
    (
        lambda: mlp(nn.Softmax(-1)),
        [{'match': '0', 'width': [4]}],
        FOUR,
        Space,
        "space '0': the choice 'w4' cannot work: .*mixes live and dead",
    ),
    (
        mlp,
        [{'match': '*', 'width': [4]}, {'match': '0', 'width': [2]}],
        FOUR,
        Space,
        r"'0' is matched twice for `width`: by the rule match='\*' and by the rule match='0'",
    ),
    (mlp, [{'match': 'fc*', 'width': [4]}], FOUR, Space, "match='fc\\*' matches no"),
    (mlp, [{'match': 'Linaer', 'width': [4]}], FOUR, Space, "did you mean 'Linear'"),
    (
        mlp,
        [{'match': '0', 'kernel_size': [3]}],
        FOUR,
        Space,
        'a convolution .*Linear',
    ),
    (
        mlp,
        [{'match': '0', 'heads': [2]}],
        FOUR,
        Space,
        'expected an nn.MultiheadAtt',
    ),
    (
        mlp,
        [{'match': '0', 'depth': True}],
        FOUR,
        Space,
        r'makes \(3, 8\) of \(3, 4\)',
    ),
    (
        mlp,
        [{'match': '0', 'ops': {'short': nn.Linear(4, 5)}}],
        FOUR,
        Space,
        "space '0': the choice 'short' cannot work: .*shapes",
    ),
    (mlp, [{'match': '0', 'ops': 3}], FOUR, Space, 'but got 3'),
    (
        mlp,
        [{'match': '0', 'activation': ['rleu']}],
        FOUR,
        Space,
        "did you mean 'relu'",
    ),
    (mlp, [], FOUR, ConfigError, r'a non-empty list such as .*, but got \[\]'),
    (mlp, [{'width': [4]}], FOUR, ConfigError, 'a rule to be a dict with `match`'),
    (mlp, [{'match': '0'}], FOUR, ConfigError, 'what may be chosen, by one of ops'),
    (mlp, [{'match': '0', 'witdh': [4]}], FOUR, ConfigError, "'witdh'.*did you mean 'width'"),
    (mlp, [{'match': 3, 'width': [4]}], FOUR, ConfigError, 'a type, or a function .* got 3'),
    (
        mlp,
        [{'match': '0', 'width': [4]}],
        torch.randn(3, 5),
        InputError,
        'do not pass Sequential',
    ),
    (mlp, [{'match': '0', 'width': [4]}], 'x', InputError, 'but got str'),
    (
        networks.series,
        [{'match': '4', 'width': [3]}],
        torch.randn(1, 2, 12),
        Space,
        'cuts through a group of channels; possible are 2, 4, 6, 8',
    ),
    (
        networks.ResNet,
        [{'match': '*.conv2', 'kernel_size': [2]}],
        IMAGES,
        Space,
        'all odd or all even, but got 2',
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(64, 2)),
        [{'match': '0', 'kernel_size': [3]}],
        IMAGES,
        Space,
        'a padding below 0 .*at least 1',
    ),
    (
        networks.ResNet,
        [{'match': 'layers.0.conv2', 'width': [3]}, {'match': 'stem', 'width': [2]}],
        IMAGES,
        Space,
        "tied to those of space 'layers/0/conv2', where w3, w6 can be chosen, but here w2, w6",
    ),
    (
        tied,
        [{'match': 'embed', 'width': [4]}],
        TOKENS,
        Space,
        'which shares its weight|whose features cannot be chosen',
    ),
    (
        attending.Characters,
        [{'match': '*.self_attn', 'heads': [5]}],
        TOKENS,
        Space,
        'from 1 to 4, .*but got 5',
    ),
    (
        lambda: nn.Sequential(nn.Identity(), WrittenDown(4, 2)),
        [{'match': '1', 'heads': [1]}],
        FOUR[None],
        Space,
        r"'h1' cannot work: .*shape '\[1, 3, 4\]' is invalid .* \(in '1', WrittenDown\); "
        'if code counts on a number of features, as .* does, let it say -1',
    ),
    (
        Reshaped,
        [{'match': 'conv', 'width': [2]}],
        torch.randn(2, 1, 6, 6),
        Space,
        "space 'conv': the choice 'w2' cannot work|no layer reads|only together",
    ),
    (
        Untraceable,
        [{'match': 'fc', 'width': [2]}],
        FOUR,
        Space,
        r"'fc' \(Linear\), width=\[2\]: expected a layer that a forward pass calls",
    ),
    (
        packing,
        [{'match': '*.self_attn', 'heads': [2]}],
        torch.tensor([[1, 2, 0], [3, 0, 0]]),
        Space,
        "'encoder.layers.0.self_attn' .*stands in 'encoder', .*nested tensors.*"
        'enable_nested_tensor=False',
    ),
    (
        activated,
        [{'match': 'ReLU', 'activation': ['tanh']}],
        FOUR[None],
        Space,
        "'0.activation' .*stands in '0', .*without calling .* `activation_relu_or_gelu = 0`",
    ),
    (
        attending.Characters,
        [{'match': '*.self_attn', 'heads': [float('nan')]}],
        TOKENS,
        Space,
        'from 1 to 4, .*but got nan',
    ),
    (
        Halves,
        [{'match': 'fc', 'width': [4]}],
        FOUR,
        Space,
        r"At 'fc' .*'w4' would leave none of those that a Linear reads, .* as by chunk",
    ),
    (
        Shuffled,
        [{'match': 'fc', 'width': [4]}],
        FOUR,
        Space,
        "space 'fc': the choice 'w4' cannot work: .*mixes live and dead features; leave it",
    ),
    (
        Viewed,
        [{'match': 'conv', 'width': [2]}],
        IMAGES,
        Space,
        r"space 'conv': the choice 'w2' .*\(in 'out', Linear\); if code counts on a number of "
        r'features, as view\(-1, 256\) does, let it say -1',
    ),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 2, 1)),
        [{'match': '0', 'width': [4]}],
        IMAGES,
        Space,
        r"At '0' .* reach '2' \(Conv2d\) through a reshape",
    ),
    (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LSTM(8, 4)),
        [{'match': '0', 'width': [4]}],
        FOUR,
        Space,
        r"At '0' .* reach '1' \(LSTM\), whose features cannot be chosen",
    ),
    (
        Noisy,
        [{'match': 'fc', 'width': [4]}],
        FOUR,
        Space,
        'Noisy draws random numbers in eval mode, .* in training alone',
    ),
    (
        repeated,
        [{'match': '0', 'width': [2]}],
        FOUR,
        Space,
        "'w2' cannot work: .*'0' is called 2 times in a forward pass",
    ),
    (
        tied_linear,
        [{'match': '0', 'width': [2]}],
        FOUR,
        Space,
        r"At '0' \(Linear\).* reach '0', which shares its weight .* untie the weights",
    ),
    (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)),
        [{'match': ['0', '1'], 'width': [0.5, 1.0], 'space': 'a'}],
        FOUR,
        Space,
        r"id 'a' is used twice .*\('w4', 'w8'\).*\('w3', 'w6'\); give them different space ids",
    ),
    (
        OptimizedModule,
        [{'match': '*.0', 'width': [4]}],
        FOUR,
        Space,
        'The model was made by torch.compile',
    ),
    (
        lambda: nn.DataParallel(mlp()),
        [{'match': '*.0', 'width': [4]}],
        FOUR,
        Space,
        'a DataParallel around the model; make its `.module` searchable',
    ),
]
