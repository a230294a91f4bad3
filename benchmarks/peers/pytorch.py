"""PyTorch: the training loop of its "Learn the basics" tutorial, on tensors held in memory.

The tutorial's DataLoader collates image by image in Python and would take most of the time, so each mini-batch is
indexed out of a permuted epoch instead, which lies on the GPU where there is one. Convolutional networks are trained
channels last, as PyTorch's memory-format tutorial has it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from benchmarks.peers.job import LEARNING_RATE, Data, Job, Layer, LayerShape, Weights, layer_shapes
from benchmarks.peers.worker import Reporter, serve, unit_interval

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}


def train(job: Job, data: Data, report: Reporter, *, fused: bool | None = None, compiled: bool = False) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(job.network)
    set_weights(model, job.network, data.weights)
    model = model.to(device)
    images = torch.from_numpy(unit_interval(data)[:, None]).to(device)
    labels = torch.from_numpy(data.labels).long().to(device)
    if any(layer["type"] == "conv2d" for layer in job.network):
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    forward = torch.compile(model) if compiled else model
    for _ in range(job.slices):
        report(train_slice(forward, optimizer, images, labels, job.batch_size))


def train_slice(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, batch_size: int
) -> float:
    """Every image once, in random order; returns the mean loss."""
    crossentropy = nn.CrossEntropyLoss()
    batches = torch.randperm(len(images), device=images.device).split(batch_size)
    total = torch.zeros((), device=images.device)
    for indices in batches:
        loss = crossentropy(model(images[indices]), labels[indices])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()
    return float(total) / len(batches)


def build(network: Sequence[Layer]) -> nn.Sequential:
    return nn.Sequential(*(module for shape in layer_shapes(network) for module in modules(shape)))


def modules(shape: LayerShape) -> Iterator[nn.Module]:
    """The last layer's softmax is in PyTorch's crossentropy already."""
    layer = shape.layer
    match layer["type"]:
        case "flatten":
            yield nn.Flatten()
        case "dense":
            yield nn.Linear(shape.input_shape[0], layer["units"])
        case "conv2d":
            yield nn.Conv2d(shape.input_shape[2], layer["filters"], layer["kernel_size"])
        case "max_pooling2d":
            yield nn.MaxPool2d(layer["pool_size"])
    if layer.get("activation", "softmax") != "softmax":
        yield ACTIVATIONS[layer["activation"]]()


@torch.no_grad()
def set_weights(model: nn.Sequential, network: Sequence[Layer], weights: Sequence[Weights]) -> None:
    targets = [module for module in model if isinstance(module, nn.Linear | nn.Conv2d)]
    image_shape = next(shape.input_shape for shape in layer_shapes(network) if shape.layer["type"] == "flatten")
    behind_flatten = next(module for module in targets if isinstance(module, nn.Linear))
    for module, layer in zip(targets, weights, strict=True):
        kernel = torch.from_numpy(layer.kernel)
        if module is behind_flatten:  # PyTorch flattens channels first
            kernel = kernel.reshape(*image_shape, -1).permute(2, 0, 1, 3).flatten(end_dim=2)
        module.weight.copy_(kernel.T if kernel.ndim == 2 else kernel.permute(3, 2, 0, 1))
        module.bias.copy_(torch.from_numpy(layer.bias))


if __name__ == "__main__":
    serve(train, ["torch"])
