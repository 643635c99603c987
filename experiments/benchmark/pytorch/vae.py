"""A Bernoulli VAE on 784 pixels."""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.benchmark.pytorch.steps import descent, images
from experiments.benchmark.steps import TorchSteps


def vae(batch_size: int, widths: tuple[int, ...], latent_size: int, num_samples: int, device: str) -> TorchSteps:
    """Stochastic binarization, Adam.

    Args:
        batch_size: images a step.
        widths: hidden tanh layers of the encoder; the decoder mirrors them.
        latent_size: Z.
        num_samples: 0: the evidence lower bound with the analytic KL, one sample; K > 0: the importance-weighted bound.
        device: "cpu" or "cuda".
    """

    def stack(sizes):
        layers = [(nn.Linear(a, b), nn.Tanh()) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        return nn.Sequential(*[part for layer in layers for part in layer])

    encoder = stack((784, *widths))
    mean_head, log_variance_head = (nn.Linear(widths[-1], latent_size) for _ in range(2))
    decoder = nn.Sequential(stack((latent_size, *widths[::-1])), nn.Linear(widths[0], 784))
    modules = nn.ModuleList([encoder, mean_head, log_variance_head, decoder]).to(device)
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3, fused=True)
    batch = images(batch_size, device)

    def log_normal(z, mean, log_variance):
        return -0.5 * ((z - mean) ** 2 * torch.exp(-log_variance) + log_variance + 1.8378770664093453).sum(-1)

    def loss():
        x = torch.bernoulli(batch())
        h = encoder(x)
        mean, log_variance = mean_head(h)[:, None], log_variance_head(h)[:, None]
        noise = torch.randn(batch_size, max(num_samples, 1), latent_size, device=device)
        z = mean + torch.exp(log_variance / 2) * noise
        logits, x = decoder(z), x[:, None].expand(-1, max(num_samples, 1), -1)
        log_likelihood = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        if not num_samples:
            kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)
            return (kl - log_likelihood).mean()
        zero = torch.zeros((), device=device)
        log_w = log_likelihood + log_normal(z, zero, zero) - log_normal(z, mean, log_variance)
        return -torch.logsumexp(log_w, dim=1).mean()

    def sample():
        return torch.bernoulli(torch.sigmoid(decoder(torch.randn(batch_size, latent_size, device=device))))

    return descent(modules, optimizer, loss, sample)
