"""Masked training: Optax transformation, recipes, the compiled epoch, evaluation."""

from evojax.learning.images import Images, on_device
from evojax.learning.masking import apply_masks, freeze_pruned
from evojax.learning.memory import Memory, training_memory
from evojax.learning.network import Layer, Model, Network, linen
from evojax.learning.nnx_model import nnx
from evojax.learning.population import population_mesh, population_trainer, split_trainer
from evojax.learning.recipe import Recipe
from evojax.learning.training import Epoch, NonFiniteLoss, Trainer, trainer

__all__ = [
    "Epoch",
    "Images",
    "Layer",
    "Memory",
    "Model",
    "Network",
    "NonFiniteLoss",
    "Recipe",
    "Trainer",
    "apply_masks",
    "freeze_pruned",
    "linen",
    "nnx",
    "on_device",
    "population_mesh",
    "population_trainer",
    "split_trainer",
    "trainer",
    "training_memory",
]
