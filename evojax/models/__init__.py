"""The networks that evolve, as Flax Linen modules."""

from evojax.models.alexnet import AlexNet
from evojax.models.detectnet import DetectNet
from evojax.models.lenet import LeNet
from evojax.models.narrow import narrow
from evojax.models.record import described, rebuilt
from evojax.models.resnet import ResNet

__all__ = ["AlexNet", "DetectNet", "LeNet", "ResNet", "described", "narrow", "rebuilt"]
