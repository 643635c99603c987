"""Weights of the PyTorch ports of Ho et al. (2020), pesser/pytorch_diffusion and ermongroup/ddim, both ways."""

from collections.abc import Mapping

import numpy as np

from jaxgen.diffusion.pretrained.by_layer import PYTORCH_DIFFUSION, entries_by_layer
from jaxgen.diffusion.pretrained.entries import Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.unet.networks import UNet

_FIXED = {
    "num_heads": 1,
    "head_channels": None,
    "scale_shift": False,
    "embedding": "sin_cos",
    "stride_padding": "same",
    "num_groups": 32,
    "norm_epsilon": 1e-6,
    "num_classes": None,
}


def from_pytorch_diffusion(
    network: UNet, weights: Mapping[str, np.ndarray], image_size: int | tuple[int, int]
) -> Params:
    """The parameters of `network` from a state dictionary of the ports.

    Args:
        network: `ddpm_unet(image_size)`, or another with the same kinds of layers.
        weights: name -> array, as `weights.read_weights` gives them.
        image_size: of the network's images, which says where there is attention.

    Returns:
        float32 parameters for `network.apply({"params": parameters}, ...)`.

    Raises:
        ValueError: the network computes otherwise than the ports.
        WeightsMismatchError: an entry is missing, unknown, or of another shape.
    """
    _check(network)
    shapes = parameter_shapes(network, image_size)
    return to_parameters(entries_by_layer(network, shapes, PYTORCH_DIFFUSION), weights, shapes)


def to_pytorch_diffusion(network: UNet, params: Params) -> dict[str, np.ndarray]:
    """The ports' state dictionary from the parameters of `network`: the inverse of `from_pytorch_diffusion`.

    Args:
        network: as there.
        params: tree of its parameters.

    Raises:
        ValueError: the network computes otherwise than the ports.
    """
    _check(network)
    return to_weights(entries_by_layer(network, params, PYTORCH_DIFFUSION), params)


def _check(network: UNet) -> None:
    found = {name: getattr(network, name) for name in _FIXED}
    wrong = [f"{name} {found[name]!r} (expected {value!r})" for name, value in _FIXED.items() if found[name] != value]
    wrong += ["resample 'residual' (expected 'conv' or 'plain')"] if network.resample == "residual" else []
    if wrong:
        raise ValueError(f"the PyTorch ports of Ho et al. have no networks with {', '.join(wrong)}")
