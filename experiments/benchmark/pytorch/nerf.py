"""NeRF's coarse and fine networks, their training step, and a step of rendering."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.benchmark.pytorch.steps import descent
from experiments.benchmark.steps import TorchSteps


def make_network(model: Any):
    """A module (points [R, S, 3], view [R, 3]) -> rgb [R, S, 3], density [R, S]; `model` is the experiment's config."""

    def encode(x, frequencies):
        phase = x[..., None, :] * 2.0 ** torch.arange(frequencies, device=x.device)[:, None]
        waves = torch.stack([phase.sin(), phase.cos()], dim=-2)
        return torch.cat([x, waves.flatten(-3)], dim=-1)

    position, direction = 3 + 6 * model.position_frequencies, 3 + 6 * model.direction_frequencies

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [position] + [model.width + position * (i in model.skips) for i in range(model.depth - 1)]
            self.trunk = nn.ModuleList([nn.Linear(size, model.width) for size in sizes])
            self.density, self.feature = nn.Linear(model.width, 1), nn.Linear(model.width, model.width)
            self.view, self.rgb = nn.Linear(model.width + direction, model.view_width), nn.Linear(model.view_width, 3)

        def forward(self, points, view):
            x = h = encode(points, model.position_frequencies)
            for i, layer in enumerate(self.trunk):
                h = torch.relu(layer(h))
                if i in model.skips:
                    h = torch.cat([x, h], dim=-1)
            d = encode(view, model.direction_frequencies)[:, None].expand(-1, points.shape[1], -1)
            colour = torch.relu(self.view(torch.cat([self.feature(h), d], dim=-1)))
            return torch.sigmoid(self.rgb(colour)), torch.relu(self.density(h)[..., 0])

    return Network()


def nerf(batch_size: int, rendered: int, model: Any, sampling: Any, device: str) -> TorchSteps:
    """Random rays of random images, both networks, the sum of both squared errors, Adam.

    Args:
        batch_size: rays a step.
        rendered: rays of a step of rendering.
        model: the experiment's config of the network.
        sampling: the experiment's config of the samples.
        device: "cpu" or "cuda".
    """
    networks = nn.ModuleList([make_network(model), make_network(model)]).to(device)
    optimizer = torch.optim.Adam(networks.parameters(), lr=5e-4, eps=1e-7, fused=True)
    pixels = torch.randint(0, 256, (20 * 100 * 100, 4), dtype=torch.uint8, device=device)
    near, far = 2.0, 6.0

    def composite(rgb, density, t, length):
        deltas = torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], 1e10)], dim=-1) * length
        alpha = 1 - torch.exp(-density * deltas)
        through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1] + 1e-10], dim=-1), dim=-1)
        weights = alpha * through
        return (weights[..., None] * rgb).sum(-2) + (1 - weights.sum(-1, keepdim=True)), weights

    def inverse(bins, weights, number, random):
        weights = weights + 1e-5
        cumulative = torch.cumsum(weights / weights.sum(-1, keepdim=True), dim=-1)
        cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], dim=-1)
        u = torch.rand(len(bins), number, device=device) if random else torch.linspace(0, 1, number, device=device)
        u = u.expand(len(bins), number).contiguous()
        index = torch.searchsorted(cumulative, u, right=True)
        below, above = (index - 1).clamp(min=0), index.clamp(max=bins.shape[-1] - 1)
        low, high = torch.gather(cumulative, 1, below), torch.gather(cumulative, 1, above)
        mass = torch.where(high - low < 1e-5, torch.ones_like(high), high - low)
        start = torch.gather(bins, 1, below)
        return start + (u - low) / mass * (torch.gather(bins, 1, above) - start)

    def rays(number):
        chosen = torch.randint(0, len(pixels), (number,), device=device)
        view, pixel = chosen // 10_000, chosen % 10_000
        x, y = (pixel % 100 - 49.5) / 138.9, -(pixel // 100 - 49.5) / 138.9
        direction = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
        origin = torch.stack([0.01 * view, 0.01 * view, torch.full_like(x, 4.0)], dim=-1)
        rgba = pixels[chosen].float() / 255
        return origin, direction, rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]

    def see(origin, direction, random):
        length = direction.norm(dim=-1, keepdim=True)
        points = lambda t: origin[:, None] + t[..., None] * direction[:, None]
        t = torch.linspace(near, far, sampling.coarse, device=device).expand(len(origin), -1)
        if random:
            step = (far - near) / sampling.coarse
            t = near + step * (torch.arange(sampling.coarse, device=device) + torch.rand(t.shape, device=device))
        rgb, density = networks[0](points(t), direction / length)
        coarse, weights = composite(rgb, density, t, length)
        middle = (t[:, 1:] + t[:, :-1]) / 2
        more = inverse(middle, weights[:, 1:-1].detach(), sampling.fine, random)
        t = torch.cat([t, more], dim=-1).sort(dim=-1).values
        rgb, density = networks[1](points(t), direction / length)
        return coarse, composite(rgb, density, t, length)[0]

    def loss():
        origin, direction, target = rays(batch_size)
        coarse, fine = see(origin, direction, True)
        return (((coarse - target) ** 2).sum(-1) + ((fine - target) ** 2).sum(-1)).mean()

    def render():
        origin, direction, _ = rays(rendered)
        return see(origin, direction, False)[1]

    return descent(networks, optimizer, loss, render)
