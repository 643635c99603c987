"""The two players as functions of parameters and keys, whatever networks they are.

Notes 3; Goodfellow et al. (2014), section 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.compiler import check_once
from jaxgen.nn.draws import checked_draws

Tree = Any
Noise = Callable[[jax.Array], jax.Array]
"""keys [B] -> z [B, Z]."""


class Players(NamedTuple):
    """A generator and a discriminator.

    Attributes:
        generator: module, (z [B, Z], labels) -> x [B, ...].
        discriminator: module, (x [B, ...], labels, keys) -> logits [B]; keys [B] or None draw its dropout.
        noise: p_z.
        condition: name of the labels in a batch, or None for players that see no labels.
    """

    generator: nn.Module
    discriminator: nn.Module
    noise: Noise
    condition: str | None = None

    def generate(
        self,
        params: Tree,
        keys: jax.Array | None,
        labels: jax.Array | None = None,
        *,
        noise: jax.Array | None = None,
    ) -> jax.Array:
        """G(z), z drawn from the keys: generator's parameters, keys [B], labels [B] -> [B, ...].

        Args:
            params: the generator's parameters, a tree.
            keys: [B]; may be None where `noise` is given.
            labels: [B] for players with a condition.
            noise: z, [B, Z], in place of the draw from p_z.

        Raises:
            ValueError: there are neither keys nor noise, or the noise has another shape than draws from p_z.
        """
        if noise is not None:
            num = np.shape(noise)[:1] or (1,)
            # Only the shape of the draws is used, which no key changes.
            drawn = jax.eval_shape(lambda: self.noise(jax.random.split(jax.random.key(0), num)))
            z = checked_draws("noise", noise, drawn.shape, drawn.dtype)
        elif keys is not None:
            z = self.noise(keys)
        else:
            raise ValueError("there are no keys and no noise; expected keys [B], or noise z [B, Z]")
        value: Any = self.generator.apply({"params": params}, z, labels)
        return value

    def discriminate(
        self, params: Tree, keys: jax.Array | None, x: jax.Array, labels: jax.Array | None = None
    ) -> jax.Array:
        """Logits of D(x): discriminator's parameters, keys [B] (None: no dropout), [B, ...], labels [B] -> [B]."""
        value: Any = self.discriminator.apply({"params": params}, x, labels, keys)
        return value

    def labels(self, batch: dict[str, jax.Array]) -> jax.Array | None:
        """The labels [B] that the players see of a batch, or None."""
        return None if self.condition is None else batch[self.condition]

    def init(self, key: jax.Array, batch: dict[str, Any]) -> dict[str, Tree]:
        """Fresh parameters {"generator": tree, "discriminator": tree} from a scalar key and a batch of data.

        Args:
            key: scalar key.
            batch: {"x": [B, ...]} and the labels if there is a condition; only shapes and label range are read.

        Raises:
            ValueError: the networks do not fit the data, or the generator not the discriminator.
        """
        check_once()
        for_noise, for_generator, for_discriminator = jax.random.split(key, 3)
        x, labels = jnp.asarray(batch["x"][:1]), self.labels(batch)
        labels = None if labels is None else jnp.asarray(labels[:1])
        fake, generator = self.generator.init_with_output(
            for_generator, self.noise(jax.random.split(for_noise, 1)), labels
        )
        if fake.shape != x.shape:
            raise ValueError(f"the generator makes examples of shape {fake.shape[1:]}, the data's are {x.shape[1:]}")
        discriminator = self.discriminator.init(for_discriminator, x, labels, None)
        return {"generator": generator["params"], "discriminator": discriminator["params"]}


def normal_noise(size: int) -> Noise:
    """z ~ N(0, I): keys [B] -> [B, size]."""
    return lambda keys: jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


def uniform_noise(size: int) -> Noise:
    """z uniform on [-sqrt 3, sqrt 3], of variance 1 as in the paper's code: keys [B] -> [B, size]."""
    edge = 3**0.5
    return lambda keys: jax.vmap(lambda key: jax.random.uniform(key, (size,), minval=-edge, maxval=edge))(keys)
