"""Ho et al.'s U-Net, its training step and a step of ancestral sampling."""

import math

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmark.pytorch.steps import images, repeated
from experiments.benchmark.steps import TorchSteps


def make_unet(channels: int, multipliers: tuple[int, ...], attention_sides: tuple[int, ...], side: int, colours: int):
    """A module (x [B, colours, side, side], t [B]) -> like x; two blocks a level, dropout 0.1, one head."""
    norm = lambda width: nn.GroupNorm(32, width, eps=1e-6)
    conv = lambda a, b, stride=1: nn.Conv2d(a, b, 3, stride, padding=1)

    class Block(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.norm1, self.conv1, self.norm2, self.conv2 = norm(a), conv(a, b), norm(b), conv(b, b)
            self.embedding, self.dropout = nn.Linear(4 * channels, b), nn.Dropout(0.1)
            self.skip = nn.Identity() if a == b else nn.Conv2d(a, b, 1)

        def forward(self, x, embedding):
            h = self.conv1(functional.silu(self.norm1(x)))
            h = h + self.embedding(embedding)[:, :, None, None]
            return self.skip(x) + self.conv2(self.dropout(functional.silu(self.norm2(h))))

    class Attention(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.norm, self.qkv, self.project = norm(a), nn.Linear(a, 3 * a), nn.Linear(a, a)

        def forward(self, x):
            h = self.norm(x).flatten(2).transpose(1, 2)
            q, k, v = self.qkv(h).chunk(3, dim=-1)
            h = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
            return x + self.project(h).transpose(1, 2).reshape(x.shape)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = nn.Sequential(
                nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, 4 * channels)
            )
            self.first, width, size = conv(colours, channels), channels, side
            passed, self.down, self.up = [channels], nn.ModuleList(), nn.ModuleList()
            attention = lambda: Attention(width) if size in attention_sides else nn.Identity()
            for level, multiplier in enumerate(multipliers):
                for _ in range(2):
                    block, width = Block(width, channels * multiplier), channels * multiplier
                    self.down.append(nn.ModuleList([block, attention()]))
                    passed.append(width)
                if level + 1 < len(multipliers):
                    self.down.append(conv(width, width, 2))
                    passed.append(width)
                    size //= 2
            self.middle = nn.ModuleList([Block(width, width), Attention(width), Block(width, width)])
            for level, multiplier in reversed(list(enumerate(multipliers))):
                for _ in range(3):
                    block, width = Block(width + passed.pop(), channels * multiplier), channels * multiplier
                    self.up.append(nn.ModuleList([block, attention()]))
                if level:
                    self.up.append(conv(width, width))
                    size *= 2
            self.last = nn.Sequential(norm(width), nn.SiLU(), conv(width, colours))

        def forward(self, x, t):
            half = channels // 2
            frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=x.device))
            angles = t[:, None].float() * frequencies
            embedding = functional.silu(self.time(torch.cat([angles.sin(), angles.cos()], dim=1)))
            passed = [self.first(x)]
            for part in self.down:
                h = part(passed[-1]) if isinstance(part, nn.Conv2d) else part[1](part[0](passed[-1], embedding))
                passed.append(h)
            h = passed[-1]
            h = self.middle[2](self.middle[1](self.middle[0](h, embedding)), embedding)
            for part in self.up:
                if isinstance(part, nn.Conv2d):
                    h = part(functional.interpolate(h, scale_factor=2, mode="nearest"))
                else:
                    h = part[1](part[0](torch.cat([h, passed.pop()], dim=1), embedding))
            return self.last(h)

    return UNet()


def unet(
    batch_size: int,
    channels: int,
    multipliers: tuple[int, ...],
    attention_sides: tuple[int, ...],
    side: int,
    colours: int,
    device: str,
) -> TorchSteps:
    """The simple loss, gradients clipped at norm 1, Adam, and the moving average of the parameters."""
    network = make_unet(channels, multipliers, attention_sides, side, colours).to(device)
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=2e-4, fused=True)
    betas = torch.linspace(1e-4, 0.02, 1000, device=device)
    signal = torch.cumprod(1 - betas, 0)
    batch = images(batch_size, device, (colours, side, side))

    def step():
        x = 2 * batch() - 1
        t = torch.randint(0, 1000, (batch_size,), device=device)
        noise = torch.randn_like(x)
        a = signal[t][:, None, None, None]
        optimizer.zero_grad(set_to_none=True)
        loss = ((network(a.sqrt() * x + (1 - a).sqrt() * noise, t) - noise) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-4)

    state = [torch.randn(batch_size, colours, side, side, device=device)]

    @torch.no_grad()
    def denoise():
        x, t = state[0], 500
        noise = network(x, torch.full((batch_size,), t, device=device))
        x0 = ((x - (1 - signal[t]).sqrt() * noise) / signal[t].sqrt()).clamp(-1, 1)
        before = signal[t - 1]
        mean = (before.sqrt() * betas[t] * x0 + (1 - betas[t]).sqrt() * (1 - before) * x) / (1 - signal[t])
        state[0] = mean + betas[t].sqrt() * torch.randn_like(x)

    return TorchSteps(sum(p.numel() for p in parameters), repeated(step), repeated(denoise))
