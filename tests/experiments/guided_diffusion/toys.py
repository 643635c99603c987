"""A small configuration of `guided_diffusion`, and networks that compile quickly."""

from functools import partial

import jax
import numpy as np
from flax import linen as nn
from PIL import Image

from experiments import guided_diffusion
from experiments.command import image_data
from experiments.guided_diffusion.config import (
    Classifier,
    ClassifierNetwork,
    DiffusionConfig,
    Evaluation,
    Guidance,
    Labels,
    Network,
    Timesteps,
)
from experiments.guided_diffusion.train import fit, fit_classifier
from jaxgen import diffusion, training
from jaxgen.diffusion import Sampler
from tests.experiments import one_program
from tests.experiments.ddpm import toys

SHAPE = (8, 8, 1)
T = 40
TINY = guided_diffusion.Config(
    data=image_data.ImageData(flip=True),
    labels=Labels(dropout=0.3),
    network=Network(4, (1,), 1, (), head_channels=4, groups=2, dropout=0.5),
    process=DiffusionConfig("cosine", T),
    timesteps=Timesteps("loss_second_moment", history=1),
    optimizer=training.Optimizer("adamw", 1e-2),
    ema=0.99,
    classifier=Classifier(
        ClassifierNetwork(4, (1,), 1, (), head_channels=4, groups=2, dropout=0.2),
        num_steps=3,
        batch_size=8,
        crop=0.8,
    ),
    preview_every=100,
    preview=Sampler("dpm_solver", "logsnr4"),
    guidance=Guidance(("classifier", "classifier_free"), (0.0, 1.0, 3.0)),
    evaluation=Evaluation(
        images=5, samples=12, sampler=Sampler("ddim", "ddim4"), second=Sampler(steps="3"), second_scales=(3.0,),
        batch_size=5, levels=3, classified=7,
    ),
    train=training.Settings(num_steps=8, batch_size=16, log_every=4, save_every=4, devices=1),
)  # fmt: skip


changed = partial(toys.changed, TINY)


def write_images(folder, number, subfolder):
    """Image i is of the grey level 10 i."""
    for i in range(number):
        (folder / subfolder(i)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(folder / subfolder(i) / f"{i:02}.png")


class Small(nn.Module):
    """Called as a U-Net, or without classes as its encoder, but compiled in no time."""

    in_channels: int = 1
    out_channels: int = 1
    num_classes: int | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        if self.num_classes is not None:
            x = x + nn.Embed(self.num_classes, 1)(labels)[:, None, None]
        if keys is not None:
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, x.shape[1:]))(keys)
            x = x * kept.astype(x.dtype)
        return nn.Dense(self.out_channels)(nn.tanh(nn.Dense(8)(x)))


class SmallEncoder(diffusion.EncoderUNet):
    """A dense layer over all pixels."""

    @nn.compact
    def __call__(self, x, t, keys=None):
        return nn.Dense(self.out_channels, name="logits")(x.reshape(x.shape[0], -1))


def make_networks_small(monkeypatch):
    """Replaces the U-Nets and classifiers of every config."""

    def unet(in_channels, out_channels, num_classes, dropout, **_):
        return Small(in_channels, out_channels, num_classes, dropout)

    def encoder(in_channels, out_channels, dropout, **_):
        return SmallEncoder(in_channels, out_channels, dropout=dropout)

    monkeypatch.setattr(diffusion, "UNet", unet)
    monkeypatch.setattr(diffusion, "EncoderUNet", encoder)


def use_few_programs(monkeypatch):
    """Most of what the experiment computes outside of its steps is one program, or NumPy."""
    make_networks_small(monkeypatch)
    one_program.networks(monkeypatch)
    one_program.whole(monkeypatch, diffusion, "q_sample")
    one_program.pixel_features(monkeypatch)


def run(folder, config, whole=True):
    """Trains in a run directory; returns the metrics, or if not `whole` the state and the classifier's parameters."""
    prepared = guided_diffusion.validate_and_load(config)
    grow = guided_diffusion.extendable_fields(config)
    with training.Run(folder, config, experiment="guided_diffusion", extendable_fields=grow, quiet=True) as opened:
        if whole:
            return guided_diffusion.train(config, prepared, opened)["metrics"]
        key = training.keys.root(config.seed)
        classifier = fit_classifier(config, prepared, key, opened)
        assert classifier is not None
        return jax.device_get(fit(config, prepared, key, opened)), classifier.params


SHORT_CHAIN = changed(
    process__steps=4, preview__steps="logsnr3", evaluation__sampler=Sampler(), evaluation__second=Sampler()
)
