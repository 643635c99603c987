"""Networks small enough to be drawn from in a test: one dense layer over pixels, with the interfaces of the U-Nets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen import diffusion

SIZE, CLASSES = 4, 3
SCHEDULE = diffusion.make_schedule(diffusion.linear_betas(40))


class Toy(diffusion.UNet):
    """tanh of a dense layer over all pixels, the time and the label."""

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        h = jnp.concatenate([x.reshape(x.shape[0], -1), t.astype(x.dtype)[:, None] / 40], axis=1)
        if labels is not None:
            h = jnp.concatenate([h, jax.nn.one_hot(labels, self.num_classes or 0, dtype=x.dtype)], axis=1)
        return nn.tanh(nn.Dense(SIZE * SIZE * self.out_channels)(h)).reshape(*x.shape[:3], self.out_channels)


class ToyClassifier(diffusion.EncoderUNet):
    """A dense layer over all pixels."""

    @nn.compact
    def __call__(self, x, t, keys=None):
        return nn.Dense(self.out_channels)(x.reshape(x.shape[0], -1))


def trained(network, seed=0, **changes):
    """With parameters of a scale at which samples differ from noise."""
    shapes = diffusion.parameter_shapes(network, SIZE)
    generator = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: generator.normal(size=s.shape, scale=0.3).astype(np.float32), shapes)
    options = {"variance": "learned_range", "shape": (SIZE, SIZE, 3)} | changes
    return diffusion.Pretrained(f"toy {seed}", diffusion.DiffusionModel(network, SCHEDULE, **options), params)


def changed(pretrained, **changes):
    """Another model with the same parameters."""
    return pretrained._replace(model=dataclasses.replace(pretrained.model, **changes))


def described(model):
    """The fields of a model as values that compare."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return {**fields, "schedule": model.schedule.exact_betas}


PLAIN = trained(Toy(out_channels=6))
CONDITIONAL = trained(Toy(out_channels=6, num_classes=CLASSES), 1)
FREE = trained(Toy(out_channels=6, num_classes=CLASSES + 1), 2, null_label=CLASSES)
UPSAMPLER = trained(Toy(in_channels=6, out_channels=6, num_classes=CLASSES), 3, low_resolution=2)
CLASSIFIER = trained(ToyClassifier(out_channels=CLASSES), 4)
