"""A convolutional GAN at 28x28."""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.benchmark.pytorch.steps import images, repeated
from experiments.benchmark.steps import TorchSteps


def dcgan(batch_size: int, device: str) -> TorchSteps:
    """jaxgen.gan's DCGAN players, non-saturating losses, alternating Adam with fresh noise for the generator."""
    generator = nn.Sequential(
        nn.Linear(100, 7 * 7 * 128), nn.Unflatten(1, (128, 7, 7)),
        nn.GroupNorm(8, 128), nn.ReLU(), nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.GroupNorm(8, 64), nn.ReLU(), nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh(),
    ).to(device)  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(128, 256, 4, 2), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(4 * 4 * 256, 1),
    ).to(device)  # fmt: skip
    adam = lambda player: torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
    of_generator, of_discriminator = adam(generator), adam(discriminator)
    batch = images(batch_size, device, (1, 28, 28))
    noise = lambda: torch.randn(batch_size, 100, device=device)
    softplus = nn.functional.softplus

    def step():
        x = 2 * batch() - 1
        with torch.no_grad():
            fake = generator(noise())
        of_discriminator.zero_grad(set_to_none=True)
        (softplus(-discriminator(x)) + softplus(discriminator(fake))).mean().backward()
        of_discriminator.step()
        of_generator.zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)
        softplus(-discriminator(generator(noise()))).mean().backward()
        discriminator.requires_grad_(True)
        of_generator.step()

    num_params = sum(p.numel() for player in (generator, discriminator) for p in player.parameters())
    return TorchSteps(num_params, repeated(step), repeated(torch.no_grad()(lambda: generator(noise()))))
