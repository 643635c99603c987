"""Denoising diffusion: Ho, Jain & Abbeel 2020 (notes 4), with the losses and samplers that followed.

    python -m experiments.ddpm quick
    python -m experiments.ddpm mnist --data.dir FOLDER

Measured with the averaged parameters: the bound of -log p on test images in bits/dim, with its rate and distortion, and
classifier-FID, precision and recall of samples, beside what held-out real images score. While training, figures/ gets a
preview every --preview-every steps, always of the same noise.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments import command, ddpm_evaluation, ddpm_figures, image_batches, optimizers
from experiments.ddpm_evaluation import Evaluation, Sampler
from experiments.diffusion_chain import Chain, make_schedule
from jaxgen import diffusion, pictures, training


@dataclasses.dataclass(frozen=True)
class Network:
    """The U-Net."""

    channels: int = 128
    """of the first level"""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """of the channels, one for each level; each level halves the image"""
    blocks: int = 2
    """residual blocks of each level on the way down; one more on the way up"""
    attention: tuple[int, ...] = (16,)
    """heights of the feature map at which blocks are followed by attention"""
    heads: int = 1
    """of the attention"""
    groups: int = 32
    """of the group normalisation"""
    dropout: float = 0.1
    """in the residual blocks, while training"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the computation; parameters, statistics and results are float32"""
    remat: bool = False
    """blocks are computed again in the backward pass, which saves memory"""


@dataclasses.dataclass(frozen=True)
class Process(Chain):
    """The chain, what the network says of it, and the loss."""

    variance: diffusion.Variance = "fixed_large"
    """of p(x_{t-1} | x_t)"""
    loss: Literal["simple", "bound", "hybrid"] = "simple"
    """"simple": mean squared error; "bound": L_{t-1} at a random t times T, in bits/dim; "hybrid": the error trains the
    prediction, the bound the variance alone"""
    bound_weight: float = 0.001
    """hybrid: of the bound"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A diffusion model."""

    seed: int = 0
    """of everything random"""
    data: image_batches.Data = image_batches.Data()
    network: Network = Network()
    process: Process = Process()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adam", 2e-4, warmup_steps=5000, clip=1.0)
    ema: float = 0.9999
    """decay of the average of the parameters, which is what is evaluated and drawn from"""
    ema_warm_up: bool = True
    """the decay starts low, (1 + step) / (10 + step), so that the average forgets the random start at once"""
    preview_every: int = training.free(5000)
    """steps between previews of samples while training; 0: none"""
    preview: Sampler = Sampler("dpm_solver", "logsnr20")
    # Free, because nothing trained depends on it: a trained run may be measured again in another way.
    evaluation: Evaluation = training.free(Evaluation())
    train: training.Settings = training.Settings(num_steps=800_000, batch_size=128)


_PAPER = training.Settings(
    num_steps=800_000, batch_size=128, log_every=1000, save_every=5000, deterministic=True
)  # fmt: skip
# Ho et al., appendix B. CIFAR-10 in about half a day on eight TPU cores.
_CIFAR10 = Config(
    data=image_batches.Data("cifar10", flip=True),
    ema_warm_up=False,
    evaluation=Evaluation(images=10_000, samples=50_000, sampler=Sampler(), batch_size=250),
    train=_PAPER,
)
_256 = dataclasses.replace(
    _CIFAR10,
    network=Network(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0),
    optimizer=dataclasses.replace(_CIFAR10.optimizer, learning_rate=2e-5),
    # No labels, no classifier: a distance needs --evaluation.inception FILE --evaluation.samples 50000.
    evaluation=Evaluation(images=256, samples=0, sampler=Sampler(), batch_size=16),
)
# With few steps beta_t is too large a variance (Nichol & Dhariwal 2021, section 4).
_respaced = lambda steps: Sampler(steps=steps, variance="fixed_small")

PRESETS = {
    # Offline, two minutes on two cores.
    "quick": Config(
        network=Network(32, (1, 2), 1, (), groups=8, dropout=0.0),
        # At 8 x 8 pixels the second half of the linear schedule is pure noise.
        process=Process("cosine"),
        optimizer=optimizers.Optimizer("adam", 2e-3, "cosine", warmup_steps=100, clip=1.0),
        ema=0.999,
        preview_every=0,
        evaluation=Evaluation(images=20, samples=360, sampler=_respaced("50"), batch_size=120),
        train=training.Settings(num_steps=1000, batch_size=32, log_every=100, save_every=500),
    ),
    # Ten epochs and the evaluation in an hour on two cores.
    "mnist": Config(
        data=image_batches.Data("mnist"),
        network=Network(16, (1, 2, 4), 1, (7,), groups=8, dropout=0.0),
        optimizer=optimizers.Optimizer("adam", 2e-3, "cosine", warmup_steps=500, clip=1.0),
        ema=0.999,
        preview_every=1000,
        evaluation=Evaluation(images=256, samples=2000, sampler=_respaced("100"), batch_size=64),
        train=training.Settings(num_steps=9380, batch_size=64, log_every=100, save_every=500),
    ),
    "cifar10": _CIFAR10,
    "celeba_hq_256": dataclasses.replace(
        _256,
        data=image_batches.Data("images", size=256, flip=True),
        train=dataclasses.replace(_PAPER, num_steps=500_000, batch_size=64, prefetch=2),
    ),
    # Church. Bedroom: --train.num-steps 2400000; Cat: --train.num-steps 1800000 --data.no-flip.
    "lsun": dataclasses.replace(
        _256,
        data=image_batches.Data("images", size=256, flip=True),
        train=dataclasses.replace(_PAPER, num_steps=1_200_000, batch_size=64, prefetch=2),
    ),
}  # fmt: skip
# Ho et al. (2020), tables 1 and 2 and section 4.3, CIFAR-10. Their FID is on Inception's features.
PAPER_CIFAR10 = {"bits_per_dim": 3.75, "rate": 1.78, "distortion": 1.97, "fid": 3.17, "inception_score": 9.46}


def prepare(config: Config) -> tuple[image_batches.Images, image_batches.Images]:
    """Refuses impossible settings and reads the images."""
    schedule = make_schedule(config.process)
    for sampler in (config.preview, config.evaluation.sampler):
        sampler.schedule(schedule)
    learned = config.process.variance in ("learned", "learned_range")
    if config.process.loss == "hybrid" and not learned:
        raise ValueError(
            f"process.loss 'hybrid' trains a learned variance, and process.variance is {config.process.variance!r}: "
            "set --process.variance learned_range, or --process.loss simple"
        )
    if config.process.loss == "simple" and learned:
        raise ValueError(
            f"process.variance is {config.process.variance!r}, and process.loss 'simple' does not train it: "
            "set --process.loss hybrid"
        )
    optimizers.build(config.optimizer, config.train.num_steps)
    if not 0 < config.ema < 1:
        raise ValueError(f"ema is {config.ema}; it must be in (0, 1)")
    if not 0 <= config.network.dropout < 1:
        raise ValueError(f"network.dropout is {config.network.dropout}; it must be in [0, 1)")
    if config.preview_every < 0:
        raise ValueError(f"preview_every is {config.preview_every}; it must be 0 or more")
    train_set, test_set = image_batches.load(config.data)
    config.evaluation.check(train_set, test_set)
    network = build(config.network, config.process, train_set.shape)
    jax.eval_shape(lambda: init(network, jax.random.key(0), train_set.shape))
    return train_set, test_set


def build(model: Network, process: Process, shape: tuple[int, int, int]) -> diffusion.UNet:
    """The network of a config for images [H, W, C]."""
    learned = process.variance in ("learned", "learned_range")
    return diffusion.UNet(
        in_channels=shape[2],
        out_channels=shape[2] * (2 if learned else 1),
        channels=model.channels,
        multipliers=model.multipliers,
        num_blocks=model.blocks,
        attention_resolutions=model.attention,
        num_heads=model.heads,
        num_groups=model.groups,
        dropout=model.dropout,
        dtype=jnp.bfloat16 if model.dtype == "bfloat16" else None,
        remat=model.remat,
    )


def model_of(config: Config, shape: tuple[int, int, int]) -> ddpm_evaluation.Model:
    """The network of a config for images [H, W, C], and what its output means."""
    process = config.process
    network = build(config.network, process, shape)
    return ddpm_evaluation.Model(network, make_schedule(process), process.prediction, process.variance, shape)


def init(network: diffusion.UNet, key: jax.Array, shape: tuple[int, int, int]):
    """Fresh parameters for images [H, W, C]."""
    # Lazily: the layers are not compiled and run one by one.
    x, t = jax.ShapeDtypeStruct((1, *shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    return network.lazy_init(key, x, t)["params"]


def objective(process: Process, schedule: diffusion.Schedule, network: diffusion.UNet):
    """The loss of a config: a random t, noise and dropout for each example, from its own key."""
    dims = lambda x: x.size // x.shape[0]

    def bound(output, x0, x_t, t):
        """L_{t-1} times T: the expected bound, bits/dim."""
        term = diffusion.vlb_term(
            schedule, output, x0, x_t, t, prediction=process.prediction, variance=process.variance, clip=False
        )
        return schedule.num_steps * term / (dims(x0) * jnp.log(2.0))

    def loss(params, batch, keys, context):
        x0 = batch["x"]
        three = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(three[:, 0])
        x_t, noise = diffusion.q_sample(three[:, 1], schedule, x0, t)
        dropout_keys = three[:, 2] if network.dropout else None
        output: Any = network.apply({"params": params}, x_t, schedule.timesteps[t], keys=dropout_keys)
        predicted, values = diffusion.split_output(output, process.variance)
        error = diffusion.simple_loss(schedule, predicted, x0, t, noise, prediction=process.prediction)
        losses, measured = error, {}
        if process.loss == "bound":
            losses = bound(output, x0, x_t, t)
        elif process.loss == "hybrid" and values is not None:
            held = jnp.concatenate([jax.lax.stop_gradient(predicted), values], axis=-1)
            measured["bound"] = bound(held, x0, x_t, t)
            losses = error + process.bound_weight * measured["bound"]
        # Four times the error where t is in that quarter: on average, the quarter's mean.
        quarter = 4 * t // schedule.num_steps
        measured |= {f"error_quarter_{i + 1}": jnp.where(quarter == i, 4 * error, 0) for i in range(4)}
        return losses, {**measured, "error": error}

    return loss


def train(config: Config, prepared: tuple[image_batches.Images, image_batches.Images], run: training.Run) -> dict:
    train_set, test_set = prepared
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    key = training.keys.root(config.seed)
    model = model_of(config, train_set.shape)
    averaged = training.fetch(fit(config, model, train_set, key, run).ema)
    measured = ddpm_evaluation.Measured(config.evaluation, model, averaged, key, run, config.train.num_steps)
    metrics = ddpm_evaluation.evaluate(measured, train_set, test_set)
    ddpm_figures.draw(run.figures, measured, train_set, test_set)
    paper = PAPER_CIFAR10 if config.data.name.endswith("cifar10") else {}
    return run.finish(
        step=config.train.num_steps,
        params=averaged,
        metrics=metrics,
        paper={name: value for name, value in paper.items() if name in metrics},
    )


def drawing(config: Config, prepared: tuple[image_batches.Images, image_batches.Images]):
    """(params, keys [n], numbers [n]) -> samples of the evaluation's sampler, for `training.ParallelDraw`."""
    draw = model_of(config, prepared[0].shape).drawing(config.evaluation.sampler)
    return lambda params, keys, numbers: draw(params, keys)


def fit(
    config: Config, model: ddpm_evaluation.Model, train_set: image_batches.Images, key: jax.Array, run: training.Run
) -> training.TrainState:
    """Trains, drawing previews of the same noise from the averaged parameters."""
    sample_key, preview = training.keys.stream(key, "sample"), model.sampler(config.preview)

    def draw_preview(step, state):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(sample_key, jnp.arange(36))
        picture = pictures.grid(image_batches.to_bytes(preview(state.ema, keys)), 9)
        pictures.save_png(run.figures / f"preview-{step:07d}.png", ddpm_figures.enlarged(picture, model.shape))

    optimizer = optimizers.build(config.optimizer, config.train.num_steps)
    params = init(model.network, training.keys.stream(key, "params"), model.shape)
    return training.fit(
        run,
        config.train,
        update=training.update_from_objective(
            objective(config.process, model.schedule, model.network),
            optimizer,
            ema_decay=training.warm_up_decay(config.ema) if config.ema_warm_up else config.ema,
        ),
        state=training.create_state(params, optimizer, ema=True),
        batches=image_batches.batches(train_set, config.train.batch_size, config.data.flip, config.data.workers),
        key=key,
        also=[training.Every(config.preview_every, draw_preview)] if config.preview_every else [],
    )


def may_grow(config: Config) -> tuple[str, ...]:
    """Longer training is the same training where the rate does not know its length."""
    return ("train.num_steps",) if config.optimizer.schedule == "constant" else ()


if __name__ == "__main__":
    command.main("ddpm", PRESETS, prepare, train, __doc__ or "", may_grow=may_grow)
