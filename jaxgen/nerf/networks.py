"""The network F: position and direction of view -> color and density.

Source: Mildenhall et al. (2020), section 3 and appendix A (figure 7).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, takes
from jaxgen.nerf.checks import check_vectors
from jaxgen.nerf.encoding import positional_encoding

GLOROT = nn.initializers.glorot_uniform()


@takes(x=Float())
def shifted_softplus(x: ArrayLike) -> jax.Array:
    """log(1 + exp(x - 1)) of any shape: a density whose gradient never dies (Barron et al., "Mip-NeRF", 2021).

    With ReLU a scene that starts empty everywhere stays so.
    """
    return nn.softplus(x - 1)


class JoinedDense(nn.Module):
    """A dense layer on the concatenation of its inputs, [..., D_1], [..., D_2], ... -> [..., features].

    The parameters are those of `Dense` on the concatenation, kernel [sum D, features] and bias, but each input meets
    its own rows: nothing is copied, and an input that is the same for all samples of a ray has size 1 there.
    """

    features: int
    kernel_init: nn.initializers.Initializer = GLOROT

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        sizes = [x.shape[-1] for x in inputs]
        kernel = self.param("kernel", self.kernel_init, (sum(sizes), self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        rows = jnp.split(kernel, np.cumsum(sizes)[:-1])
        products = [x @ w for x, w in zip(inputs, rows, strict=True)]
        return sum(products[1:], products[0]) + bias.reshape(*(1,) * (inputs[0].ndim - 1), self.features)


class NeRF(nn.Module):
    """The paper's network; 595,844 parameters as it stands.

    `depth` hidden layers on gamma(x), which is given again to the layer after each in `skips`. The last gives the
    density, and a feature that with gamma(view) and `view_depth` layers more gives the color. Parameters: `trunk_0`,
    ..., `density`, `feature`, `view_0`, ..., `rgb`, each with `kernel` and `bias`.

    Attributes:
        depth: hidden layers.
        width: their width.
        skips: numbers of the layers (from 0) whose output is joined by gamma(x).
        view_depth: hidden layers after the direction of view is added: 1 in the authors' runs, 4 in their text.
        view_width: their width.
        view_dependent: False leaves the direction out ("no view dependence" of the paper's table 2); the color is
            then a linear layer on the last hidden layer.
        position_frequencies: L of gamma(x).
        direction_frequencies: L of gamma(view).
        pi: as in `positional_encoding`; False is what the authors ran.
        include_input: as in `positional_encoding`; True is what the authors ran.
        encoding_order: as in `positional_encoding`.
        skip_first: which rows of the kernel after a skip belong to gamma(x): True the first, as in the authors'
            code; False the last, as in later JAX code. It matters to weights that come from elsewhere.
        density_activation: `nn.relu`, or `shifted_softplus`.
        rgb_padding: the color is sigmoid stretched to [-padding, 1 + padding]; 0 as in the paper.
        activate_first: False leaves out the ReLU after the first hidden layer, as a PyTorch port does (`convert`).
        activate_feature: True puts a ReLU after the feature, likewise.
        kernel_init: initializer of all kernels.
    """

    depth: int = 8
    width: int = 256
    skips: Sequence[int] = (4,)
    view_depth: int = 1
    view_width: int = 128
    view_dependent: bool = True
    position_frequencies: int = 10
    direction_frequencies: int = 4
    pi: bool = False
    include_input: bool = True
    encoding_order: str = "interleaved"
    skip_first: bool = True
    density_activation: Callable[[jax.Array], jax.Array] = nn.relu
    rgb_padding: float = 0.0
    kernel_init: nn.initializers.Initializer = GLOROT
    activate_first: bool = True
    activate_feature: bool = False

    @nn.compact
    def __call__(
        self, points: jax.Array, view: jax.Array, density_noise: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Color and density of S points on each ray.

        Args:
            points: [..., S, 3].
            view: unit vectors, [..., 3], one a ray.
            density_noise: [..., S], added before the density's activation. For real scenes the paper draws it from
                N(0, 1) in training.

        Returns:
            rgb [..., S, 3], in [0, 1] (without padding), and density [..., S], at least 0.

        Raises:
            ValueError: shapes do not fit, or a skip is not one of the hidden layers before the last.
        """
        check_vectors("points", points)
        if view.shape != (*points.shape[:-2], 3):
            raise ValueError(f"view has shape {view.shape} for points {points.shape}; expected [..., 3], one a ray")
        if not all(0 <= i < self.depth - 1 for i in self.skips):
            raise ValueError(f"skips are {tuple(self.skips)}; with depth {self.depth} they are in 0..{self.depth - 2}")
        encode = lambda x, frequencies: positional_encoding(
            x, frequencies, pi=self.pi, include_input=self.include_input, order=self.encoding_order
        )
        dense = lambda features, name: JoinedDense(features, self.kernel_init, name=name)
        position = encode(points, self.position_frequencies)
        inputs = (position,)
        for i in range(self.depth):
            hidden = dense(self.width, f"trunk_{i}")(*inputs)
            hidden = nn.relu(hidden) if i or self.activate_first else hidden
            inputs = (hidden,)
            if i in self.skips:
                inputs = (position, hidden) if self.skip_first else (hidden, position)
        raw_density = dense(1, "density")(hidden)[..., 0]
        if self.view_dependent:
            # In the authors' code the feature is linear: no activation between it and the view layer.
            feature = dense(self.width, "feature")(hidden)
            feature = nn.relu(feature) if self.activate_feature else feature
            inputs = (feature, encode(view, self.direction_frequencies)[..., None, :])
            for i in range(self.view_depth):
                hidden = nn.relu(dense(self.view_width, f"view_{i}")(*inputs))
                inputs = (hidden,)
        rgb = nn.sigmoid(dense(3, "rgb")(hidden))
        if density_noise is not None:
            raw_density = raw_density + density_noise
        return rgb * (1 + 2 * self.rgb_padding) - self.rgb_padding, self.density_activation(raw_density)


@takes(key=Key(""))
def init_params(key: jax.Array, network: nn.Module, fine: bool = True) -> dict[str, Any]:
    """Random parameters of the coarse and the fine network: {"coarse": tree, "fine": tree}.

    Args:
        key: scalar key.
        network: of both fields, e.g. `NeRF`.
        fine: whether there is a fine network.
    """
    names = ("coarse", "fine") if fine else ("coarse",)
    # Lazily: the layers are not compiled and run one by one.
    points, view = jax.ShapeDtypeStruct((1, 1, 3), jnp.float32), jax.ShapeDtypeStruct((1, 3), jnp.float32)
    keys = zip(names, jax.random.split(key, len(names)), strict=True)
    return {name: network.lazy_init(key, points, view)["params"] for name, key in keys}
