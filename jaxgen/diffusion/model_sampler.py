"""Samples of a model as settings describe them: sampler, respacing, variance and guidance.

Sources: Ho et al. (2020); Song et al. (2020); Dhariwal & Nichol (2021); Ho & Salimans (2022).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.guidance import Guidance, classifier_free_guidance, classifier_guidance
from jaxgen.diffusion.inpainting import Resampling, inpaint
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.respacing import respace
from jaxgen.diffusion.sampler_options import Method, SamplerOptions
from jaxgen.diffusion.sampling import sample
from jaxgen.diffusion.schedule import Schedule

GuidanceKind = Literal["none", "classifier", "classifier_alone", "classifier_free"]
Cond = dict[str, Any]
"""Conditioning of samples: arrays of one entry a sample, by the names of the arguments of `DiffusionModel.apply`."""
Observe = Callable[[jax.Array, jax.Array, jax.Array], None]
"""observe(x_t [B, ...], original timesteps [B], the network's output)"""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How samples are drawn."""

    method: Method = "ancestral"
    """"dpm_solver" needs the fewest steps, respaced by "logsnr20" or so"""
    steps: str = ""
    """respacing: a count "100", sections "10,15,20", "ddim25" or "logsnr20"; empty: all T"""
    eta: float = 0.0
    """ddim: share of the noise; 1: ancestral"""
    variance: Literal["model", "fixed_small", "fixed_large"] = "model"
    """ancestral: "model" as in training; with few steps "fixed_small" is the better of the fixed ones"""

    def schedule(self, schedule: Schedule) -> Schedule:
        """The schedule over the steps that are taken."""
        return respace(schedule, self.steps) if self.steps else schedule

    def bind(self, model: DiffusionModel) -> tuple[DiffusionModel, SamplerOptions, Schedule]:
        """The model, the options and the schedule with which samples of `model` are drawn."""
        if self.variance != "model":
            model = model.with_fixed_variance(self.variance)
        options = dataclasses.replace(model.options, method=self.method, eta=self.eta)
        return model, options, self.schedule(model.schedule)

    def check(self, schedule: Schedule) -> list[str]:
        """The problems of these settings with a schedule, one sentence each."""
        problems = []
        try:
            self.schedule(schedule)
        except ValueError as error:
            problems.append(str(error))
        if not 0 <= self.eta <= 1 or (self.eta and self.method != "ddim"):
            problems.append(f"eta is {self.eta} with method {self.method!r}; it is in [0, 1], and 0 unless 'ddim'")
        return problems

    @property
    def name(self) -> str:
        """For the names of files."""
        return f"{self.method}-{self.steps.replace(',', '_') or 'all'}-{self.eta:g}-{self.variance}"


@dataclasses.dataclass(frozen=True)
class SamplingVariant:
    """One way of drawing samples.

    Attributes:
        sampler: how steps are taken.
        kind: kind of guidance: "none"; "classifier", by its gradient; "classifier_alone", likewise, while the network
            is given the null label; "classifier_free".
        scale: guidance scale.
        labels: whether the network is given the labels, if it takes some.
        interval: the original timesteps, first and last, at which there is guidance; None: all.
        name: suffix of the names of its measurements.
    """

    sampler: Sampler
    kind: GuidanceKind = "none"
    scale: float = 1.0
    labels: bool = True
    interval: tuple[float, float] | None = None
    name: str = ""


def make_sampler(
    model: DiffusionModel,
    variant: SamplingVariant,
    classifier: DiffusionModel | None = None,
    *,
    resampling: Resampling | None = None,
    observe: Observe | None = None,
) -> Callable[[dict[str, Any], jax.Array, Cond], jax.Array]:
    """`draw(params, keys [n], cond) -> samples [n, H, W, C]` in [-1, 1], not compiled.

    Args:
        model: what is drawn from.
        variant: sampler and guidance; the scale is taken from `params`.
        classifier: of noisy images, for guidance by it.
        resampling: of `inpaint`, which is taken where `cond` holds "image", [n, H, W, C] in [-1, 1], and "mask", bool
            [n, H, W, 1], True where the image is known; None: its default.
        observe: called at every step while the sampler is traced, such as a function that calls `jax.debug.callback`.

    Returns:
        The function; its `params` are {"denoiser": tree, "classifier": tree, "scale": scalar}, of which a variant
        without guidance needs the first alone. `cond` may hold labels that only the classifier takes.

    Raises:
        ValueError: the variant needs a null label that the model does not have, or a classifier that is not given.
    """
    by_classifier, null_label = variant.kind in ("classifier", "classifier_alone"), _null_label(model, variant)
    if by_classifier and classifier is None:
        raise ValueError(f"guidance of kind {variant.kind!r} needs a classifier")
    model, options, schedule = variant.sampler.bind(model)

    def denoise(params: dict[str, Any], cond: Cond) -> Denoise:
        if variant.kind == "classifier_free":
            network = model.denoise_labelled(params["denoiser"], cond.get("low_resolution"))
            return classifier_free_guidance(
                network,
                cond["labels"],
                null_label,
                params["scale"],
                interval=variant.interval,
                variance=model.variance,
            )
        if model.num_classes is None:
            cond = {name: value for name, value in cond.items() if name != "labels"}
        elif not variant.labels:
            cond = {**cond, "labels": jnp.full_like(cond["labels"], null_label)}
        return model.denoise(params["denoiser"], **cond)

    def guidance(params: dict[str, Any], cond: Cond) -> Guidance | None:
        if not by_classifier or classifier is None:
            return None
        logits = classifier.classify(params["classifier"])
        return classifier_guidance(logits, cond["labels"], params["scale"], interval=variant.interval)

    def draw(params: dict[str, Any], keys: jax.Array, cond: Cond) -> jax.Array:
        cond = dict(cond)
        image, mask = cond.pop("image", None), cond.pop("mask", None)
        shape, guide = (keys.shape[0], *model.shape), guidance(params, cond)
        network = denoise(params, cond) if observe is None else _observed(denoise(params, cond), observe)
        if image is None or mask is None:
            return sample(keys, network, shape, schedule, options=options, guidance=guide)
        kind = resampling or Resampling()
        return inpaint(keys, network, image, mask, schedule, resampling=kind, options=options, guidance=guide)

    return draw


def _observed(denoise: Denoise, observe: Observe) -> Denoise:
    def observed(x: jax.Array, t: jax.Array) -> jax.Array:
        output = denoise(x, t)
        observe(x, t, output)
        return output

    return observed


def _null_label(model: DiffusionModel, variant: SamplingVariant) -> int:
    """The model's null label; any number where the variant does not use it."""
    is_used = variant.kind == "classifier_free" or (not variant.labels and model.num_classes is not None)
    if is_used and model.null_label is None:
        raise ValueError(
            f"guidance of kind {variant.kind!r} with labels {variant.labels} needs a null label, and the model has "
            "none: it was not trained with dropped labels"
        )
    return model.null_label or 0
