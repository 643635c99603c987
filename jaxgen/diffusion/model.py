"""A network and what its output means."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.predictions import Prediction
from jaxgen.diffusion.reverse import Variance, split_output
from jaxgen.diffusion.sampler_options import ANCESTRAL, SamplerOptions
from jaxgen.diffusion.schedule import Schedule
from jaxgen.diffusion.unet.embedding import rescaled_timesteps
from jaxgen.diffusion.unet.low_resolution import area_mean, with_low_resolution
from jaxgen.diffusion.unet.networks import EncoderUNet


@dataclasses.dataclass(frozen=True)
class DiffusionModel:
    """A network and what its output means. It only binds: the functions of this package take `denoise(params)`.

    A classifier of noisy images is one too: its output, `classify(params)`, is logits.

    Attributes:
        network: a Flax module called as `network.apply({"params": params}, x, t, labels, keys)`, such as `UNet` or
            `EncoderUNet`; labels and keys are passed where they are given.
        schedule: the schedule that the network was trained for.
        prediction: the kind of prediction.
        variance: the kind of variance of p(x_{t-1} | x_t).
        shape: (H, W, C) of the images.
        rescaled_timesteps: whether the network takes 1000 t / T in place of t.
        low_resolution: height and width of the small images that an upsampler enlarges, or None.
        null_label: the label that stands for no label, or None where the network was not trained without labels.
        ignored_variance: the kind of a learned variance that the network returns and that is left out, or None.
        clip: whether samplers hold the predicted x_0 in [-1, 1].
    """

    network: Any
    schedule: Schedule
    prediction: Prediction = "noise"
    variance: Variance = "fixed_large"
    shape: tuple[int, int, int] = (32, 32, 3)
    rescaled_timesteps: bool = False
    low_resolution: int | None = None
    null_label: int | None = None
    ignored_variance: Variance | None = None
    clip: bool = True

    @property
    def is_classifier(self) -> bool:
        """Whether the network returns logits."""
        return isinstance(self.network, EncoderUNet)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the labels, the null label excluded; None for a network without labels."""
        if self.is_classifier:
            return self.network.out_channels
        rows = getattr(self.network, "num_classes", None)
        return rows if rows is None or self.null_label is None else self.null_label

    @property
    def options(self) -> SamplerOptions:
        """The sampler options that belong to the network's output."""
        return dataclasses.replace(ANCESTRAL, prediction=self.prediction, variance=self.variance, clip=self.clip)

    def with_size(self, height: int, width: int) -> "DiffusionModel":
        """The same model for images of another size; attention stays at the levels at which it was trained.

        Args:
            height: of the images, in pixels.
            width: of the images, in pixels.

        Raises:
            ValueError: the size does not divide by 2^(levels - 1), or the network fixes it: one that enlarges small
                images, or a classifier that pools by attention.
        """
        trained, network = self.shape[0], self.network
        if self.low_resolution is not None or getattr(network, "pool", None) == "attention":
            what = "pools by attention" if self.is_classifier else f"enlarges images of {self.low_resolution} pixels"
            raise ValueError(f"the size is {height} x {width}, and the network, which {what}, takes {trained} pixels")
        levels = range(len(network.multipliers))
        factor = 2 ** levels[-1]
        if min(height, width) < 1 or height % factor or width % factor:
            nearest = " x ".join(str(max(1, round(side / factor)) * factor) for side in (height, width))
            raise ValueError(
                f"the size is {height} x {width}, and the network halves images {levels[-1]} times; the nearest size "
                f"that it takes is {nearest}"
            )
        heights = tuple(height >> level for level in levels if trained >> level in network.attention_resolutions)
        network = network.clone(attention_resolutions=heights)
        return dataclasses.replace(self, network=network, shape=(height, width, self.shape[2]))

    def with_fixed_variance(self, variance: Variance) -> "DiffusionModel":
        """The same model with another, fixed variance; the values of a learned one are left out of the output."""
        learned = self.variance in ("learned", "learned_range")
        ignored = self.variance if learned else self.ignored_variance
        return dataclasses.replace(self, variance=variance, ignored_variance=ignored)

    def init(self, key: jax.Array) -> Any:
        """Random initial parameters."""
        *sides, channels = self.shape
        # Lazily: the layers are not compiled and run one by one.
        inputs = (1, *sides, channels * (1 if self.low_resolution is None else 2))
        x, t = jax.ShapeDtypeStruct(inputs, jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        labels = () if getattr(self.network, "num_classes", None) is None else (t,)
        return self.network.lazy_init(key, x, t, *labels)["params"]

    def apply(
        self,
        params: Any,
        x: jax.Array,
        t: jax.Array,
        labels: jax.Array | None = None,
        low_resolution: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The network's output.

        Args:
            params: tree of parameters.
            x: x_t, [B, H, W, C].
            t: original timesteps, integers [B].
            labels: integers [B], for a network with classes.
            low_resolution: small images in [-1, 1], [b, h, w, C], for an upsampler; repeated where B is a multiple.
            keys: keys of dropout, [B]; None: no dropout.

        Returns:
            [B, H, W, C], [B, H, W, 2 C] where the variance is learned, or logits [B, K] of a classifier.
        """
        if low_resolution is not None:
            copies = x.shape[0] // low_resolution.shape[0]
            x = with_low_resolution(x, jnp.concatenate([low_resolution] * copies) if copies > 1 else low_resolution)
        if self.rescaled_timesteps:
            t = rescaled_timesteps(t, self.schedule.num_original_steps)
        given = {"labels": labels, "keys": keys}
        given = {name: value for name, value in given.items() if value is not None}
        output = self.network.apply({"params": params}, x, t, **given)
        return output if self.ignored_variance is None else split_output(output, self.ignored_variance)[0]

    def denoise(self, params: Any, **cond: Any) -> Denoise:
        """(x_t [B, H, W, C], original timesteps [B]) -> the output, without dropout.

        Args:
            params: tree of parameters.
            **cond: what the network is conditioned on: `labels`, `low_resolution`, see `apply`.
        """
        return lambda x, t: self.apply(params, x, t, **cond)

    def classify(self, params: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """(x_t [B, H, W, C], original timesteps [B]) -> logits [B, K], without dropout."""
        return self.denoise(params)

    def denoise_labelled(
        self, params: Any, low_resolution: jax.Array | None = None
    ) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
        """(x_t [B, H, W, C], original timesteps [B], labels [B]) -> the output, for `classifier_free_guidance`."""
        return lambda x, t, labels: self.apply(params, x, t, labels, low_resolution)

    def conditioning(self, x: jax.Array, labels: jax.Array | None) -> dict[str, Any]:
        """What the network is conditioned on for clean images, by the names of the arguments of `apply`.

        Args:
            x: images, [B, H, W, C].
            labels: integers [B]; not used by a network without classes.
        """
        cond: dict[str, Any] = {} if self.num_classes is None or self.is_classifier else {"labels": labels}
        return cond if self.low_resolution is None else {**cond, "low_resolution": area_mean(x, self.low_resolution)}
