"""Classifiers of noisy images: their loss and their accuracy (Dhariwal & Nichol 2021, section 4)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Int, Key, Real, takes
from jaxgen.diffusion.arguments import IMAGES
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.objectives import by_quarter
from jaxgen.diffusion.process import q_sample


def classifier_objective(
    model: DiffusionModel, *, noised: bool = True, smallest_crop: float = 1.0
) -> Callable[[Any, dict[str, jax.Array], jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]:
    """-log p(y | x_t) as the loss of a classifier's parameters on a batch of clean images, for `training.train`.

    Each example has a random t, noise, crop and dropout of its own, from its own key.

    Args:
        model: the classifier and its noise schedule.
        noised: train on images of every noise level, and not on clean ones alone.
        smallest_crop: smallest side of the random square that is cut from an image, as a share of the image's side;
            1: no crop.

    Returns:
        `loss(params, batch, keys, context) -> (losses [B], metrics)` for a batch {"x": [B, H, W, C], "label": [B]}.
        Metrics, [B] each: "right", 1 where the largest logit is that of the label, and where images are noised
        "right_quarter_1" to "right_quarter_4", which on average are its means over quarters of the timesteps.
    """
    schedule, dropout = model.schedule, getattr(model.network, "dropout", 0.0)

    @takes(batch={"x": IMAGES, "label": Int("B")}, keys=Key("B"))
    def loss(params: Any, batch: dict[str, jax.Array], keys: jax.Array, context: Any):
        x, labels = batch["x"], batch["label"]
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        t_keys, noise_keys, dropout_keys, crop_keys = (four[:, i] for i in range(4))
        if smallest_crop < 1:
            x = jax.vmap(random_crop, (0, 0, None))(crop_keys, x, smallest_crop)
        t = jnp.zeros(x.shape[0], jnp.int32)
        if noised:
            t = jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(t_keys)
            x, _ = q_sample(noise_keys, schedule, x, t)
        logits = model.apply(params, x, schedule.timesteps[t], keys=dropout_keys if dropout else None)
        log_p = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
        right = (jnp.argmax(logits, axis=1) == labels).astype(jnp.float32)
        return losses, {"right": right, **(by_quarter("right", right, t, schedule.num_steps) if noised else {})}

    return loss


@takes(key=Key(""), image=Float("H W C"), smallest=Real())
def random_crop(key: jax.Array, image: ArrayLike, smallest: float) -> jax.Array:
    """A random square of an image [H, W, C], of a share of its sides drawn from [smallest, 1], enlarged to [H, W, C].

    The authors cut it from the file's own pixels; here the image has been resized before.
    """
    image = jnp.asarray(image)
    share_key, place_key = jax.random.split(key)
    share = jax.random.uniform(share_key, (), image.dtype, smallest, 1)
    start = jax.random.uniform(place_key, (2,), image.dtype) * (1 - share) * jnp.array(image.shape[:2], image.dtype)
    scale = jnp.broadcast_to(1 / share, (2,))
    return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -start * scale, "linear", antialias=False)
