"""The classifier of noisy images: trained as a stage of the run, or taken from elsewhere, and how often it is right."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ddpm_evaluation, image_batches, optimizers, run_folders
from experiments.diffusion_chain import Chain, make_schedule
from experiments.guided_networks import ClassifierNetwork, NoisyClassifier, build_classifier
from experiments.guided_training import Process
from jaxgen import diffusion, nn, training
from jaxgen.training.checkpoints import unflatten

STAGE = "classifier"


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classifier of noisy images."""

    network: ClassifierNetwork = ClassifierNetwork()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adamw", 3e-4, "linear", weight_decay=0.05)
    num_steps: int = 0
    """updates, before the U-Net's; 0: there is none"""
    batch_size: int = 256
    """examples an update; everything else is as in `train`"""
    noised: bool = True
    """trained on images of every noise level, and not on clean ones alone"""
    crop: float = 1.0
    """least side of the random square that is seen of an image, as a share of its own; 1: all of it"""
    trained: str = ""
    """taken from there instead: the folder of a run of this experiment, or a file that the authors released"""

    @property
    def exists(self) -> bool:
        """Whether there is a classifier."""
        return bool(self.num_steps or self.trained)


class Trained(NamedTuple):
    """A classifier with its parameters."""

    classifier: NoisyClassifier
    params: Any


def find(trained: str, process: Process, classes: int, shape: tuple[int, int, int]) -> Trained:
    """The classifier in the folder of a run, or in a released file.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it was trained for another noise schedule, for other classes or images, or not to its end.
    """
    path = Path(trained).expanduser()
    if path.is_file():
        return _released(path, process, classes, shape)
    if not path.is_dir():
        raise FileNotFoundError(f"no {trained}; --classifier.trained is the folder of a run, or a file of weights")
    record = run_folders.read(path).record
    if record["experiment"] != "guided_diffusion":
        raise ValueError(f"{path} is a run of {record['experiment']!r}, which trains no classifier of noisy images")
    config = record["config"]
    theirs, settings = Process(**config["process"]), config["classifier"]
    _check_process(path, theirs, theirs.rescaled_timesteps, process)
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in settings["network"].items()}
    found = build_classifier(ClassifierNetwork(**fields), classes, shape, process.rescale)
    with training.Checkpoints(path / "checkpoints" / STAGE) as checkpoints:
        steps = checkpoints.steps()
        if not steps or steps[-1] < settings["num_steps"]:
            raise ValueError(
                f"{path} has trained its classifier for {steps[-1] if steps else 0} of {settings['num_steps']} steps; "
                "run it to the end, or give another folder"
            )
        arrays = checkpoints.arrays(steps[-1])
    start = "state/params/"
    arrays = {name.removeprefix(start): x for name, x in arrays.items() if name.startswith(start)}
    target = jax.eval_shape(lambda: found.init(jax.random.key(0), shape))
    return Trained(found, unflatten(arrays, target, f"{path} (classifier of {classes} classes, images {shape})"))


def _released(path: Path, process: Process, classes: int, shape: tuple[int, int, int]) -> Trained:
    known = {
        name: r for name, r in diffusion.released().items() if isinstance(r.network, diffusion.EncoderUNet)
    }  # fmt: skip
    if path.name not in known:
        raise ValueError(f"{path.name!r} is not a released classifier; those are {', '.join(known)}")
    entry = known[path.name]
    theirs = Process(entry.schedule, entry.num_steps)
    _check_process(path, theirs, entry.rescaled, process)
    network: Any = entry.network
    if (classes, shape) != (network.out_channels, (entry.image_size, entry.image_size, network.in_channels)):
        raise ValueError(
            f"{path} tells {network.out_channels} classes of images {entry.image_size} x {entry.image_size} x "
            f"{network.in_channels}; the data has {classes} and {' x '.join(map(str, shape))}"
        )
    params = diffusion.from_guided_diffusion(network, nn.read_weights(path), entry.image_size)
    return Trained(NoisyClassifier(network, process.rescale), params)


def _check_process(path: Path, theirs: Chain, rescaled: bool, ours: Process) -> None:
    schedules = [make_schedule(chain) for chain in (theirs, ours)]
    if schedules[0].exact_betas != schedules[1].exact_betas:
        said = [
            f"{chain.schedule!r}, {s.num_steps} steps, beta from {float(s.betas[0]):.3g} to {float(s.betas[-1]):.3g}"
            for chain, s in zip((theirs, ours), schedules, strict=True)
        ]
        raise ValueError(
            f"the classifier in {path} was trained for another noise schedule: {said[0]}; process has {said[1]}"
        )
    if rescaled != ours.rescaled_timesteps:
        raise ValueError(
            f"the classifier in {path} was trained with process.rescaled_timesteps {rescaled}, "
            f"and this run has {ours.rescaled_timesteps}"
        )


def objective(config: Classifier, schedule: diffusion.Schedule, classifier: NoisyClassifier) -> training.Objective:
    """-log p(y | x_t): a random t, noise, crop and dropout for each example, from its own key."""

    def loss(params, batch, keys, context):
        x = batch["x"]
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        if config.crop < 1:
            x = jax.vmap(random_crop, (0, 0, None))(four[:, 3], x, config.crop)
        t = jnp.zeros(x.shape[0], jnp.int32)
        if config.noised:
            t = jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(four[:, 0])
            x, _ = diffusion.q_sample(four[:, 1], schedule, x, t)
        logits = classifier.logits(
            params, x, schedule.timesteps[t], four[:, 2] if classifier.network.dropout else None
        )  # fmt: skip
        log_p = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
        right = (jnp.argmax(logits, axis=1) == batch["label"]).astype(jnp.float32)
        quarter = 4 * t // schedule.num_steps
        by_noise = {f"right_quarter_{i + 1}": jnp.where(quarter == i, 4 * right, 0) for i in range(4)}
        return losses, {"right": right, **(by_noise if config.noised else {})}

    return loss


def random_crop(key: jax.Array, image: jax.Array, smallest: float) -> jax.Array:
    """A random square of an image [H, W, C], of a share of its sides drawn from [smallest, 1], enlarged to [H, W, C].

    The authors cut it from the file's own pixels; here the image has been resized before.
    """
    share_key, place_key = jax.random.split(key)
    share = jax.random.uniform(share_key, (), image.dtype, smallest, 1)
    start = jax.random.uniform(place_key, (2,), image.dtype) * (1 - share) * jnp.array(image.shape[:2], image.dtype)
    scale = jnp.broadcast_to(1 / share, (2,))
    return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -start * scale, "linear", antialias=False)


def fit(
    config: Classifier,
    settings: training.Settings,
    schedule: diffusion.Schedule,
    classifier: NoisyClassifier,
    batches: Any,
    shape: tuple[int, int, int],
    root: jax.Array,
    run: training.Run,
) -> Any:
    """The parameters after the stage."""
    key = training.keys.stage(root, 0)
    optimizer = optimizers.build(config.optimizer, config.num_steps)
    state = training.fit(
        run,
        dataclasses.replace(settings, batch_size=config.batch_size, num_steps=config.num_steps),
        update=training.update_from_objective(objective(config, schedule, classifier), optimizer),
        state=training.create_state(classifier.init(training.keys.stream(key, "params"), shape), optimizer),
        batches=batches,
        key=key,
        stage=STAGE,
    )
    return training.fetch(state.params)


def accuracy(
    trained: Trained,
    schedule: diffusion.Schedule,
    images: image_batches.Images,
    num: int,
    levels: int,
    key: jax.Array,
    batch_size: int,
) -> dict[int, float]:
    """{t: percent} of the first `num` images whose class is found at each of `levels` steps from 0 to T - 1."""
    compiled = ddpm_evaluation.program(trained.classifier.logits)
    steps = np.unique(np.rint(np.linspace(0, schedule.num_steps - 1, levels)).astype(int))
    found = {}
    for t in steps.tolist():
        right = 0
        for part in image_batches.slices(num, batch_size):
            # A whole batch in any case, so that there is one shape to compile.
            numbers = np.minimum(np.arange(part.start, part.start + batch_size), num - 1)
            batch = images.read(numbers)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, t), jnp.asarray(numbers))
            x_t, _ = diffusion.q_sample(keys, schedule, jnp.asarray(image_batches.signed(batch["image"])), t)
            chosen = np.asarray(compiled(trained.params, x_t, jnp.full(batch_size, t, jnp.int32))).argmax(axis=1)
            right += int(np.sum((chosen == batch["label"])[: part.stop - part.start]))
        found[t] = 100 * right / num
    return found
