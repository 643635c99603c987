"""Memory and FLOP estimate of a training step, without allocating anything: the step is traced with shapes alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .placement import bytes_per_device
from .update import Context, Objective

Tree = Any
# A prime that no other dimension is a multiple of: an array that grows with the batch shows by its shape.
BATCH = 10_007


class StepCost(NamedTuple):
    """Memory and work of one step's forward and backward pass.

    Attributes:
        saved: bytes that the forward pass saves for the backward pass, for each example.
        fixed: bytes that it saves whatever the batch, such as parameters in another dtype.
        flops: of forward and backward pass, for each example; a product and its sum are 2.
    """

    saved: float
    fixed: int
    flops: float


class MemoryEstimate(NamedTuple):
    """Bytes of a training step on one device, and its FLOPs.

    Attributes:
        parameters: bytes of the device's part of the parameters; the gradient has as many.
        optimizer: bytes of its part of the optimizer's state.
        ema: bytes of its part of the moving average of the parameters, or 0.
        step: cost of the forward and backward pass, of all devices that share a model together.
    """

    parameters: int
    optimizer: int
    ema: int
    step: StepCost

    def saved(self, examples: int) -> float:
        """Bytes that the forward pass saves for the backward pass, for so many examples on the device."""
        return self.step.saved * examples + self.step.fixed

    def total(self, examples: int) -> float:
        """Bytes of parameters, gradient, optimizer, moving average, and what is saved for so many examples."""
        return 2 * self.parameters + self.optimizer + self.ema + self.saved(examples)

    def flops(self, examples: int) -> float:
        """FLOPs of forward and backward pass of so many examples."""
        return self.step.flops * examples


def estimate_memory(
    loss: Objective,
    params: Tree,
    batch: Tree,
    optimizer: optax.GradientTransformation,
    *,
    ema: bool = False,
    model_parallel_size: int = 1,
) -> MemoryEstimate:
    """Memory and FLOP estimate of a training step, without computing or allocating anything.

        estimate = training.estimate_memory(loss, params, {"x": image[None]}, optax.adam(1e-3))
        estimate.total(examples=64) / 2**30

    Saved is what JAX's differentiation requires to be kept; the compiler drops some of it where computing it again
    costs nothing, and adds temporary memory. FLOPs are as XLA counts them before it compiles; the optimizer is left
    out.

    Args:
        loss: `loss(params, batch, keys, context) -> (losses [B], {name: [B]})`.
        params: tree of arrays or shapes (`jax.eval_shape`).
        batch: tree of arrays or shapes [b, ...], of any batch size.
        optimizer: an optax transformation.
        ema: the state holds a moving average of the parameters.
        model_parallel_size: M > 1: each M devices share one copy of the model.
    """
    state = jax.eval_shape(optimizer.init, params)
    of_params, of_state = (bytes_per_device(tree, model_parallel_size) for tree in (params, state))
    return MemoryEstimate(of_params, of_state, of_params if ema else 0, estimate_step(loss, params, batch))


def estimate_step(loss: Objective, params: Tree, batch: Tree) -> StepCost:
    """Cost of differentiating the mean of a loss over a batch.

    Args:
        loss: `loss(params, batch, keys, context) -> (losses [B], {name: [B]})`; traced once.
        params: tree of arrays or shapes.
        batch: tree of arrays or shapes [b, ...], of any batch size.
    """
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((BATCH, *x.shape[1:]), x.dtype), batch)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), BATCH))

    def step(params: Tree, batch: Tree, keys: jax.Array, step_number: jax.Array) -> tuple[list, Tree, jax.Array]:
        mean = lambda params: jnp.mean(loss(params, batch, keys, Context(step_number))[0])
        value, pullback = jax.vjp(mean, params)
        (gradient,) = pullback(jnp.ones_like(value))
        return jax.tree.leaves(pullback), gradient, value

    # The residuals come first; those that are parameters or inputs are there in any case.
    traced = jax.jit(step).trace(params, batch, keys, jax.ShapeDtypeStruct((), jnp.int32))
    jaxpr = traced.jaxpr.jaxpr
    inputs = {id(variable) for variable in jaxpr.invars}
    num_residuals = len(jaxpr.outvars) - len(jax.tree.leaves(params)) - 1
    residuals = {id(v): v.aval for v in jaxpr.outvars[:num_residuals] if not hasattr(v, "val") and id(v) not in inputs}
    saved = fixed = 0
    for x in residuals.values():
        if any(size % BATCH == 0 for size in x.shape):
            saved += x.size * x.dtype.itemsize
        else:
            fixed += x.size * x.dtype.itemsize
    cost: Any = traced.lower().cost_analysis()
    return StepCost(saved / BATCH, fixed, cost["flops"] / BATCH)
