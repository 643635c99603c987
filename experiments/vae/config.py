"""Configurations and presets of the variational autoencoders."""

import dataclasses
from functools import partial
from typing import Literal

from experiments.command import checks, image_data
from jaxgen import data, training, vae


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measurements on the test images."""

    num_samples: int = 5000
    """importance samples for each image; 0: log p is not estimated"""
    examples: int = 10_000
    """largest number of test images"""
    bound_at: tuple[int, ...] = ()
    """numbers of training images seen after which the bound is measured on training and test images"""

    def check(self, batch_size: int) -> list[str]:
        """The problems of these settings with batches of this size."""
        problems = checks.bounds(self, "evaluation.", num_samples=0, examples=2)
        if any(points % batch_size for points in self.bound_at):
            problems.append(f"evaluation.bound_at must be multiples of the batch size {batch_size}")
        return problems


@dataclasses.dataclass(frozen=True)
class Config:
    """A variational autoencoder."""

    seed: int = 0
    """random seed"""
    data: image_data.FlatImageData = image_data.FlatImageData()
    binarization: Literal["stochastic", "fixed", "grey"] = "stochastic"
    """"stochastic": pixels are drawn anew at each visit, of test images once; "fixed": drawn once; "grey": unchanged,
    as colours must be"""
    train_examples: int = 0
    """number of training images, the first ones; 0: all"""
    shuffle: bool = True
    """false: the same order of images in every epoch, as in the released code of Burda et al."""
    model: vae.Architecture = vae.Architecture()
    compared_latent_sizes: tuple[int, ...] = training.renamed((), "sweep")
    """sizes of z, one model each, trained one after another in place of model.latent_sizes"""
    objective: vae.Objective = vae.Objective()
    optimizer: training.Optimizer = training.Optimizer("adam", 1e-3, "cosine")
    ema: float = 0.0
    """decay of the moving average of the parameters, which is then evaluated in their place; 0: none"""
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=6000, batch_size=100)

    def check(self) -> list[str]:
        """All problems of these settings that do not depend on the data."""
        problems = self.data.check() + self.optimizer.check(self.train.num_steps)
        problems += self.model.check(self.binarization == "grey") + self.evaluation.check(self.train.batch_size)
        if not 0 <= self.ema < 1:
            problems.append(f"ema is {self.ema}; it must be in [0, 1), 0 for none")
        # For images of any shape, here those of MNIST.
        models = [model for model in self.models.values() if model.latent_sizes]
        built = checks.errors_of(*(partial(self.build, model, (28, 28, 1), 1) for model in models))
        return problems + list(dict.fromkeys(built))

    @property
    def models(self) -> dict[str, vae.Architecture]:
        """The models to train by name; one alone has the name ""."""
        sizes = self.compared_latent_sizes
        compared = {f"nz{size}": dataclasses.replace(self.model, latent_sizes=(size,)) for size in sizes}
        return compared or {"": self.model}

    def build(self, model: vae.Architecture, image_shape: tuple[int, int, int], num_images: int):
        """(network, likelihood, loss, statistics or None) for training images of this shape and number."""
        network = vae.build_network(model, image_shape)
        likelihood = vae.build_likelihood(model, self.binarization == "grey")
        return network, likelihood, *vae.build_loss(self.objective, network, likelihood, num_images)


def data_problems(config: Config, images: data.Images) -> list[str]:
    """The problems of a configuration with training images."""
    problems = []
    if not 0 <= config.train_examples <= len(images):
        problems.append(f"train_examples is {config.train_examples}; the data has {len(images)}, 0 takes all")
    if config.binarization != "grey" and images.shape[2] == 3:
        problems.append(
            f"binarization is {config.binarization!r}, and the images have colours, which are not drawn as black or "
            "white: set --binarization grey, and --model.likelihood discretized_logistic for the likelihood of 256 "
            "levels"
        )
    return problems


MNIST_EPOCH = 600
# 59,600 images in batches of 20; 3^0 + ... + 3^7 = 3,280 epochs.
BURDA_EPOCH = 2980
_BURDA = Config(
    data=image_data.FlatImageData("mnist"),
    train_examples=59_600,
    objective=vae.Objective(kl="monte_carlo"),
    optimizer=training.Optimizer("adam", 1e-3, "rounds", epsilon=1e-4),
    train=training.Settings(
        num_steps=3280 * BURDA_EPOCH, batch_size=20, log_every=BURDA_EPOCH, save_every=10 * BURDA_EPOCH,
        deterministic=True,
    ),
)  # fmt: skip
_KINGMA = Config(
    data=image_data.FlatImageData("mnist"),
    model=vae.Architecture(widths=(500,), kernels="normal_0.01", data_bias=False),
    compared_latent_sizes=(3, 5, 10, 20, 200),
    objective=vae.Objective(parameter_prior=True),
    optimizer=training.Optimizer("adagrad", 0.02),
    evaluation=Evaluation(num_samples=0, bound_at=(1_000_000, 10_000_000, 100_000_000)),
    train=training.Settings(num_steps=1_000_000, batch_size=100, log_every=1000, save_every=50_000, deterministic=True),
)

PRESETS = {
    # Offline, about a minute on two cores.
    "quick": Config(
        model=vae.Architecture(latent_sizes=(2,)),
        optimizer=training.Optimizer("adam", 2e-3, "cosine"),
        evaluation=Evaluation(num_samples=1000),
        train=training.Settings(num_steps=5000, batch_size=100),
    ),
    # The best schedule found for the bound with one sample on Burda et al.'s one-layer network: large batches, a high
    # learning rate, averaged parameters, and a gradient without the score term of log q.
    "mnist": Config(
        data=image_data.FlatImageData("mnist"),
        objective=vae.Objective("iwae", 1, "stl"),
        optimizer=training.Optimizer("adam", 3e-3, "cosine", warmup_steps=MNIST_EPOCH),
        ema=0.9995,
        train=training.Settings(num_steps=600 * MNIST_EPOCH, batch_size=100, log_every=MNIST_EPOCH, save_every=6000),
    ),
    # The importance-weighted bound with five samples, on the first four rounds of the paper's schedule (40 epochs).
    "iwae": dataclasses.replace(
        _BURDA,
        objective=vae.Objective("iwae", 5),
        optimizer=dataclasses.replace(_BURDA.optimizer, rounds=4),
        train=dataclasses.replace(_BURDA.train, num_steps=40 * BURDA_EPOCH, deterministic=False),
    ),
    "frey_faces": Config(
        data=image_data.FlatImageData("frey_faces"),
        binarization="grey",
        model=vae.Architecture(latent_sizes=(2,), widths=(200,), likelihood="sigmoid_gaussian"),
        train=training.Settings(num_steps=20_000, batch_size=100),
    ),
    # Figure 2 of Kingma & Welling, as a table. Of the rates that they chose from, 0.02.
    "paper_kingma": _KINGMA,
    "paper_kingma_frey": dataclasses.replace(
        _KINGMA,
        data=image_data.FlatImageData("frey_faces"),
        binarization="grey",
        model=dataclasses.replace(_KINGMA.model, widths=(200,), likelihood="sigmoid_gaussian"),
        compared_latent_sizes=(2, 5, 10, 20),
        evaluation=Evaluation(num_samples=0, bound_at=(1_000_000, 10_000_000)),
        train=dataclasses.replace(_KINGMA.train, num_steps=100_000),
    ),
    # Table 1 of Burda et al.: VAE, k = 1; by --objective.bound iwae --objective.num-samples 50 and so on the others.
    "paper_burda": _BURDA,
    # Their released code departs from their paper in these settings.
    "paper_burda_released": dataclasses.replace(
        _BURDA,
        shuffle=False,
        optimizer=dataclasses.replace(_BURDA.optimizer, beta1=0.99, start_second_moment=1.0, scale=20.0),
    ),
}
# Burda et al. (2015), table 1, MNIST: (bound, samples, latent sizes) -> (-log p by 5,000 samples, active units).
PAPER_BURDA = {
    ("vae", 1, (50,)): (86.76, 19), ("vae", 5, (50,)): (86.47, 20), ("vae", 50, (50,)): (86.35, 20),
    ("iwae", 1, (50,)): (86.76, 19), ("iwae", 5, (50,)): (85.54, 22), ("iwae", 50, (50,)): (84.78, 25),
    ("vae", 1, (100, 50)): (85.33, 21), ("iwae", 50, (100, 50)): (82.90, 33),
}  # fmt: skip


def paper_values(config: Config, metrics: dict) -> dict[str, float]:
    """Burda et al.'s values of this row, where the data and the network are theirs."""
    row = (config.objective.bound, config.objective.num_samples, config.model.latent_sizes)
    theirs = (
        config.data.is_test_of("mnist") and config.binarization == "stochastic" and config.model.architecture == "mlp"
    )
    if not theirs or config.compared_latent_sizes or row not in PAPER_BURDA or "negative_log_likelihood" not in metrics:
        return {}
    nll, active = PAPER_BURDA[row]
    return {"negative_log_likelihood": nll, "active_units": active}
