"""A small classifier of images, whose penultimate layer gives features (ours)."""

from typing import Any, cast

import jax
from flax import linen as nn

from jaxgen.nn import Conv
from jaxgen.weights import tree_digest

from .features import Extractor


class FeatureClassifier(nn.Module):
    """Three convolutions, the last two of stride 2, and two dense layers: [B, H, W, C] in [-1, 1] -> logits [B, K].

    Attributes:
        num_classes: K.
        num_features: F.
        channels: of the first convolution.
    """

    num_classes: int
    num_features: int = 64
    channels: int = 16

    def setup(self) -> None:
        """Declares the layers."""
        he = nn.initializers.he_normal()
        self.convolutions = [
            Conv(self.channels * 2**i, stride=1 if i == 0 else 2, kernel_init=he, name=f"conv_{i}") for i in range(3)
        ]
        self.penultimate = nn.Dense(self.num_features, kernel_init=he)
        self.last = nn.Dense(self.num_classes)

    def features(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, F], at least 0."""
        for convolution in self.convolutions:
            x = nn.relu(convolution(x))
        return nn.relu(self.penultimate(x.reshape(x.shape[0], -1)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, K]."""
        return self.last(self.features(x))

    def both(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, C] -> features [B, F], logits [B, K]."""
        features = self.features(x)
        return features, self.last(features)


def classifier_extractor(network: FeatureClassifier, params: Any, accuracy: float) -> Extractor:
    """The extractor "classifier_fid": the penultimate layer of a trained classifier.

    Args:
        network: the classifier.
        params: tree of its parameters.
        accuracy: share of test images that it classifies correctly.
    """
    on_device = jax.device_put(params)

    def both(params, x):
        features, logits = cast(Any, network.apply({"params": params}, x, method="both"))
        return features, nn.softmax(logits)

    compiled = jax.jit(both)
    return Extractor("classifier_fid", lambda x: compiled(on_device, x), tree_digest(params), accuracy)
