"""Autoencoders and their kin on 784 pixels."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.benchmark.pytorch.steps import descent, images, repeated
from experiments.benchmark.steps import TorchSteps


def deep(batch_size: int, widths: tuple[int, ...], activation: str, device: str) -> TorchSteps:
    """A mirror of dense layers, linear code, logistic output, squared error, AdamW; `widths`: pixels to code."""
    act = {"sigmoid": nn.Sigmoid, "gelu": lambda: nn.GELU("tanh"), "relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    half, layers = len(widths) - 1, []
    sizes = (*widths, *widths[-2::-1])
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True), 1):
        layers += [nn.Linear(a, b), *([] if i in (half, 2 * half) else [act()])]
    network = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batch = images(batch_size, device)

    def loss():
        x = batch()
        return ((torch.sigmoid(network(x)) - x) ** 2).sum(-1).mean()

    return descent(network, optimizer, loss)


def sparse(batch_size: int, method: str, model: Any, device: str) -> TorchSteps:
    """The four codes of experiments.sparse_autoencoder, squared error, Adam; `model` is its config of the network."""
    encoder = nn.Linear(784, model.code_size)
    tied = method == "k_sparse"
    decoder = nn.ParameterList([torch.zeros(784)]) if tied else nn.Linear(model.code_size, 784)
    modules = nn.ModuleList([encoder, decoder]).to(device)
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3, fused=True)
    batch = images(batch_size, device)

    def loss():
        x = batch()
        h = encoder(x)
        if method == "k_sparse":
            kept = h.topk(model.start_k, dim=-1)
            code = torch.zeros_like(h).scatter(-1, kept.indices, kept.values)
            y = nn.functional.linear(code, encoder.weight.T, decoder[0])
        else:
            code = torch.relu(h) if method == "l1" else torch.sigmoid(h)
            y = decoder(code) if method == "l1" else torch.sigmoid(decoder(code))
        error = ((y - x) ** 2).sum(-1).mean()
        if method == "l1":
            return error + model.l1_weight * code.abs().sum(-1).mean()
        if method == "kl":
            m, rho = code.mean(0), model.rho
            kl = (rho * torch.log(rho / m) + (1 - rho) * torch.log((1 - rho) / (1 - m))).sum()
            return error + model.kl_weight * kl
        return error

    return descent(modules, optimizer, loss)


def contractive(batch_size: int, weight: float, device: str) -> TorchSteps:
    """784-1000, tied, logistic, cross-entropy and the closed form of the Jacobian's norm, Adam."""
    encoder, bias = nn.Linear(784, 1000), nn.ParameterList([torch.zeros(784)])
    modules = nn.ModuleList([encoder, bias]).to(device)
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3, fused=True)
    batch = images(batch_size, device)

    def loss():
        x = batch()
        h = torch.sigmoid(encoder(x))
        logits = nn.functional.linear(h, encoder.weight.T, bias[0])
        error = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        penalty = (h * (1 - h)) ** 2 @ (encoder.weight**2).sum(1)
        return (error + weight * penalty).mean()

    return descent(modules, optimizer, loss)


def classifier(batch_size: int, device: str) -> TorchSteps:
    """784-1000-10, logistic, momentum."""
    network = nn.Sequential(nn.Linear(784, 1000), nn.Sigmoid(), nn.Linear(1000, 10)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, fused=True)
    batch = images(batch_size, device)
    labels = torch.arange(batch_size, device=device) % 10
    return descent(network, optimizer, lambda: nn.functional.cross_entropy(network(batch()), labels))


def boltzmann_machine(batch_size: int, device: str) -> TorchSteps:
    """CD-1 of 784-1000 with momentum and weight decay; drawing is a step of Gibbs sampling."""
    kernel = 0.1 * torch.randn(784, 1000, device=device)
    b, c = torch.zeros(784, device=device), torch.zeros(1000, device=device)
    params = [kernel, b, c]
    velocity = [torch.zeros_like(p) for p in params]
    batch = images(batch_size, device)
    up = lambda v: torch.sigmoid(torch.addmm(c, v, kernel))
    down = lambda h: torch.sigmoid(torch.addmm(b, h, kernel.T))

    def step():
        v = batch()
        mean = up(v)
        again = down(torch.bernoulli(mean))
        mean_again = up(again)
        difference = [
            (again.T @ mean_again - v.T @ mean) / batch_size + 2e-4 * kernel,
            (again - v).mean(0),
            (mean_again - mean).mean(0),
        ]
        torch._foreach_mul_(velocity, 0.9)
        torch._foreach_add_(velocity, difference, alpha=-0.1)
        torch._foreach_add_(params, velocity)

    state = [batch()]

    def gibbs():
        state[0] = torch.bernoulli(down(torch.bernoulli(up(state[0]))))

    return TorchSteps(sum(p.numel() for p in params), repeated(step), repeated(gibbs))
