"""The networks of evojax.models in PyTorch, to be timed: layers alike, weights their own."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from evojax.models.alexnet import CONVOLUTIONS


def lenet(inputs: int = 1, classes: int = 10) -> nn.Sequential:
    """evojax.models.LeNet."""

    def average() -> nn.Module:
        return nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, 32, 5, padding=2),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=average(),
            conv3=nn.Conv2d(32, 64, 5, padding=2),
            relu3=nn.ReLU(),
            pool3=average(),
            dense1=nn.Conv2d(64, 64, 4),
            relu4=nn.ReLU(),
            flat=nn.Flatten(),
            dense2=nn.Linear(64, classes),
        )
    )


def alexnet() -> nn.Module:
    """evojax.models.AlexNet, with batch normalisation."""
    parts: list[nn.Module] = []
    entering = 3
    for (_, window, pooled), leaving in zip(CONVOLUTIONS, (96, 256, 384, 384, 256), strict=True):
        parts.append(nn.Conv2d(entering, leaving, window, padding=window // 2, bias=False))
        parts.append(nn.BatchNorm2d(leaving))
        parts += [nn.MaxPool2d(3, 2, ceil_mode=True)] * pooled
        parts.append(nn.ReLU())
        entering = leaving
    dense = [
        nn.Conv2d(256, 4096, 4, bias=False), nn.BatchNorm2d(4096), nn.ReLU(), nn.Flatten(),
        nn.Linear(4096, 4096, bias=False), nn.BatchNorm1d(4096), nn.ReLU(), nn.Linear(4096, 10),
    ]  # fmt: skip
    return nn.Sequential(*parts, *dense)


class Block(nn.Module):
    """Two convolutions beside the identity, which a stage's first block narrows (option A)."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.stride, self.new = leaving // entering, leaving - entering
        self.body = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, self.stride, padding=1, bias=False),
            nn.BatchNorm2d(leaving), nn.ReLU(),
            nn.Conv2d(leaving, leaving, 3, padding=1, bias=False), nn.BatchNorm2d(leaving),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of (N, entering, H, W), (N, leaving, H / stride, W / stride)."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        half = self.new // 2
        shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, half, self.new - half))
        return nn.functional.relu(self.body(x) + shortcut)


def resnet(blocks: int) -> nn.Module:
    """evojax.models.ResNet with so many blocks in each of its three stages."""
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
    parts.append(nn.ReLU())
    entering = 16
    for leaving in (16, 32, 64):
        for _ in range(blocks):
            parts.append(Block(entering, leaving))
            entering = leaving
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LeNet": lenet,
    "AlexNet": alexnet,
    "ResNet-20": lambda: resnet(3),
    "ResNet-56": lambda: resnet(9),
}
