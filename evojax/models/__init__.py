"""The networks that evolve, as Flax Linen modules."""

from evojax.models.lenet import LeNet

__all__ = ["LeNet"]
