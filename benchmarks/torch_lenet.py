"""LeNet in PyTorch: trained step by step as evojax trains it, and cut by Torch-Pruning."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_networks
from torch import nn

from evojax.data import Dataset
from evojax.genetics.trees import path_hash
from evojax.learning import Images, Recipe, linen
from evojax.learning.images import normalise
from evojax.learning.recipe import learning_rate
from evojax.models import LeNet

EVALUATION_BATCH = 500


def initial(seed: int, dataset: Dataset) -> dict[str, dict[str, np.ndarray]]:
    """The weights that evojax's ancestor of this seed starts from."""
    key = jax.random.fold_in(jax.random.key(seed), path_hash("initial"))
    params, _ = linen(LeNet(dataset.classes)).init(key, dataset.train.images.shape[1:])
    return jax.device_get(params)


def generation_key(seed: int, generation: int) -> jax.Array:
    """The key of evojax's training of this generation."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), generation), 0)
    return jax.random.fold_in(key, path_hash("training"))


def lenet(params: dict[str, dict[str, np.ndarray]], inputs: int) -> nn.Sequential:
    """evojax.models.LeNet in PyTorch, with weights given as evojax has them."""
    kernels = {name: torch.tensor(layer["kernel"]) for name, layer in params.items()}
    net = torch_networks.lenet(inputs, kernels["dense2"].shape[1])
    with torch.no_grad():
        for name, kernel in kernels.items():
            layer = net.get_submodule(name)
            layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)
            layer.bias.copy_(torch.tensor(params[name]["bias"]))
    return net


def narrowed(net: nn.Module, kept: Mapping[str, Sequence[int]], image: torch.Tensor) -> nn.Module:
    """Cuts a network with Torch-Pruning, in place, and returns it.

    Args:
        net: the network.
        kept: by the name of a layer, which of its outputs stay; layers that are not named do whole.
        image: an example input.
    """
    import torch_pruning

    for name, places in kept.items():
        graph = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=image)
        layer = net.get_submodule(name)
        gone = sorted(set(range(layer.weight.shape[0])) - set(places))
        graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, idxs=gone).prune()
    return net


def with_weights(net: nn.Module) -> list[nn.Module]:
    """Convolutions and dense layers in the order of the forward pass."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def count(net: nn.Module) -> int:
    """Parameters that are not pruned."""
    return sum(
        int(getattr(layer, f"{name}_mask", torch.ones_like(getattr(layer, name))).sum())
        for layer in with_weights(net)
        for name in ("weight", "bias")
    )


def tensors(data: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images (N, C, H, W) and their labels."""
    images = torch.from_numpy(np.array(normalise(data.images, data)))
    return images.permute(0, 3, 1, 2), torch.from_numpy(np.array(data.labels)).long()


def fit(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe, key: jax.Array,
    epochs: int, density: float,
) -> None:  # fmt: skip
    """Trains as evojax.learning does: the same order of images, the same rate in every step."""
    optimizer = torch.optim.AdamW(net.parameters(), betas=(recipe.momentum, 0.999), weight_decay=0)
    batch = min(recipe.batch_size, len(labels))
    steps = len(labels) // batch
    for epoch in range(epochs):
        order_key, _ = jax.random.split(jax.random.fold_in(key, epoch))
        order = np.array(jax.random.permutation(order_key, len(labels))[: steps * batch])
        progress = (epoch + (jnp.arange(steps) + 0.5) / steps) / epochs
        rates = learning_rate(recipe, progress, density).tolist()
        for rows, rate in zip(torch.from_numpy(order).view(steps, batch), rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
            if recipe.l1:
                soften(net, rate * recipe.l1)


@torch.no_grad()
def soften(net: nn.Module, by: float) -> None:
    """Soft thresholding of all weights, biases left out."""
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.copy_(nn.functional.softshrink(parameter, by))


@torch.no_grad()
def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images classified right."""
    batches = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches)
    return right / len(labels)
