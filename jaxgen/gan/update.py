"""One step of the two-player game, in the shape of every update: `update(state, batch, keys, mean)`.

The update averages over examples only through `mean` and draws only from per-example keys, so the engine may split the
batch over devices and micro-shards in any way.

Source: Goodfellow et al. (2014), algorithm 1; the other papers' rules are options.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.gan.networks import Players
from jaxgen.gan.objectives import NON_SATURATING, Losses, value
from jaxgen.gan.penalties import Penalty
from jaxgen.gan.spectral import advance_spectral, spectrally_normalized

Tree = Any
Batch = dict[str, Any]
Metrics = dict[str, jax.Array]
Mean = Callable[..., Any]
"""mean(f, batch, keys) -> f's tree of results, averaged over the global batch."""

Order = Literal["simultaneous", "alternating"]
_DRAWS = ("noise", "uniforms")
# Players that take no noise are not handed any.
_given_noise = lambda batch: {"noise": batch["noise"]} if "noise" in batch else {}


def separate_optimizers(
    generator: optax.GradientTransformation, discriminator: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimizer for each player, on trees {"generator": ..., "discriminator": ...}.

    `init` takes both players' parameters. `update` steps the players that it is given gradients of and leaves the
    others' state alone, so each learning-rate schedule counts its own player's steps.
    """
    optimizers = {"generator": generator, "discriminator": discriminator}

    def init(params: Tree) -> Tree:
        return {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        state, changes = dict(state), {}
        for name, gradient in updates.items():
            own = None if params is None else params[name]
            changes[name], state[name] = optimizers[name].update(gradient, state[name], own)
        return changes, state

    return optax.GradientTransformation(init, update)


def two_player_update(
    players: Players,
    optimizer: optax.GradientTransformation,
    losses: Losses = NON_SATURATING,
    *,
    order: Order = "alternating",
    discriminator_steps: int = 1,
    penalty: Penalty | None = None,
    penalty_weight: float = 1.0,
    spectral: bool = False,
    ema_decay: float | Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[..., tuple[Any, Metrics]]:
    """k steps of the discriminator and one of the generator (Goodfellow et al. 2014, Algorithm 1).

    Args:
        players: generator and discriminator.
        optimizer: of `separate_optimizers`.
        losses: what each player minimizes.
        order: "alternating": the generator's gradient is taken after the discriminator's steps, with fresh noise.
            "simultaneous": the gradients of the generator and of the last discriminator step are taken at the same
            parameters and on the same generated examples and dropout masks, as in the paper's code.
        discriminator_steps: k, each on its own real examples and fresh noise.
        penalty: added to the discriminator's loss, e.g. `gradient_penalty` or `r1_penalty`.
        penalty_weight: its weight.
        spectral: spectral normalisation of the discriminator, one power iteration before each of its steps; the state's
            `model_state` holds {"spectral": init_spectral(key, params["discriminator"])}. Exact only if "alternating".
        ema_decay: decay of the moving average of parameters, or a function of the step. The state's `ema` is a tree
            {"generator": ...} like the parameters, with or without the discriminator; the players in it are averaged.

    Returns:
        update(state, batch, keys, mean) -> (state, metrics) on parameters {"generator": ..., "discriminator": ...} and
        batch {"x": [B, ...]} with the players' labels [B]. With k > 1, every array of the batch is [B, k, ...]: the
        j-th step uses [:, j]. Metrics, of the last discriminator step and of the generator's: "discriminator_loss"
        (without the penalty), "generator_loss", "value" of the game (-2 log 2 = -1.386 at the equilibrium),
        "real_probability" and "fake_probability" (the means of D), "penalty" if there is one, and both gradient norms.

        To compare a step with other code, the batch may hold the draws: "noise" [B, k + 1, Z] (simultaneous: [B, k, Z])
        is the z of the discriminator steps in their order, then that of the generator step; "uniforms" [B, k] are
        those of `gradient_penalty`. The keys then draw dropout alone.

    Raises:
        ValueError: no discriminator steps, or an unknown order; when called, a batch without the axis of k, given draws
            of another shape, or a state without what `spectral` or `ema_decay` needs.
    """
    if discriminator_steps < 1:
        raise ValueError(
            f"discriminator_steps is {discriminator_steps}: the generator would learn from a discriminator that never "
            "does; expected at least 1"
        )
    if order not in ("simultaneous", "alternating"):
        raise ValueError(f"order is {order!r}; expected 'simultaneous' or 'alternating'")
    rules = _Rules(players, optimizer, losses, order, discriminator_steps, penalty, penalty_weight, spectral, ema_decay)

    def update(state: Any, batch: Batch, keys: jax.Array, mean: Mean) -> tuple[Any, Metrics]:
        rules.check(state, batch)
        position = _Position(state.params, state.opt_state, state.model_state["spectral"] if spectral else None)
        both = _alternating if order == "alternating" else _simultaneous
        position, metrics = both(rules, position, batch, keys, mean)
        model_state = {**state.model_state, "spectral": position.vectors} if spectral else state.model_state
        ema = state.ema if ema_decay is None else _average(ema_decay, state, position.params)
        changed = {"params": position.params, "opt_state": position.opt_state, "model_state": model_state, "ema": ema}
        return state.replace(step=state.step + 1, **changed), metrics

    return update


@dataclasses.dataclass(frozen=True)
class _Rules:
    """The arguments of `two_player_update`."""

    players: Players
    optimizer: optax.GradientTransformation
    losses: Losses
    order: Order
    discriminator_steps: int
    penalty: Penalty | None
    penalty_weight: float
    spectral: bool
    ema_decay: float | Callable[[jax.Array], jax.Array] | None

    def check(self, state: Any, batch: Batch) -> None:
        """Raises ValueError where a batch or a state lacks what the rules need."""
        steps = self.discriminator_steps
        turns = steps + (self.order == "alternating")
        for name, x in batch.items():
            if steps > 1 and name not in _DRAWS and (x.ndim < 2 or x.shape[1] != steps):
                raise ValueError(
                    f"batch[{name!r}] has shape {x.shape}; with {steps} discriminator steps it must be "
                    f"[B, {steps}, ...], real examples for each step"
                )
        if "noise" in batch and (batch["noise"].ndim != 3 or batch["noise"].shape[1] != turns):
            raise ValueError(f"batch['noise'] has shape {batch['noise'].shape}; expected [B, {turns}, Z]")
        if "uniforms" in batch and (batch["uniforms"].ndim != 2 or batch["uniforms"].shape[1] != steps):
            raise ValueError(f"batch['uniforms'] has shape {batch['uniforms'].shape}; expected [B, {steps}]")
        if self.spectral and "spectral" not in (state.model_state or {}):
            raise ValueError('spectral needs a state with model_state={"spectral": init_spectral(...)}')
        if self.ema_decay is not None and state.ema is None:
            raise ValueError('ema_decay is set but the state has no ema; expected {"generator": ...}')


class _Position(NamedTuple):
    """What the steps of one update change: both players' parameters, optimizer state, spectral vectors or None."""

    params: Tree
    opt_state: Tree
    vectors: Tree


def _step_keys(keys: jax.Array, step: jax.Array | int) -> tuple[jax.Array, ...]:
    """Five keys for each example in one discriminator (or generator) step, [B] each.

    They draw the noise, the dropout on real and on generated examples, the penalty, and the dropout under the penalty.
    """
    # A key that a loop carries counts as used at every turn; what is folded in makes it another.
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(lambda key: tuple(jax.random.split(key, 5)))(keys)


def _alternating(
    rules: _Rules, position: _Position, batch: Batch, keys: jax.Array, mean: Mean
) -> tuple[_Position, Metrics]:
    """All discriminator steps, then the generator's against the updated discriminator."""
    steps = rules.discriminator_steps
    position, metrics = _discriminator_steps(rules, position, steps, batch, keys, mean)
    generator = partial(_generator_gradient, rules, position, step=steps)
    gradient, measured = mean(generator, _step_batch(rules, batch, steps - 1, steps), keys)
    position, norms = _apply(rules, position, {"generator": gradient})
    return position, {**metrics, **measured, **norms}


def _simultaneous(
    rules: _Rules, position: _Position, batch: Batch, keys: jax.Array, mean: Mean
) -> tuple[_Position, Metrics]:
    """All discriminator steps but the last, then both players' gradients at the same parameters."""
    last = rules.discriminator_steps - 1
    if last:
        position, _ = _discriminator_steps(rules, position, last, batch, keys, mean)
    position = _advance(position)

    def both(batch: Batch, keys: jax.Array) -> tuple:
        # Both draw the same noise and masks, on purpose; the compiler merges what they compute twice.
        discriminator = _discriminator_gradient(rules, position, batch, keys, step=last)
        return discriminator, _generator_gradient(rules, position, batch, keys, step=last)

    (discriminator, metrics), (generator, measured) = mean(both, _step_batch(rules, batch, last, last), keys)
    position, norms = _apply(rules, position, {"discriminator": discriminator, "generator": generator})
    return position, {**metrics, **measured, **norms}


def _discriminator_steps(
    rules: _Rules, position: _Position, number: int, batch: Batch, keys: jax.Array, mean: Mean
) -> tuple[_Position, Metrics]:
    """Steps 0 .. number - 1, and the metrics of the last."""

    def one(position: _Position, step: jax.Array | int) -> tuple[_Position, Metrics]:
        position = _advance(position)
        discriminator = partial(_discriminator_gradient, rules, position, step=step)
        gradient, metrics = mean(discriminator, _step_batch(rules, batch, step, step), keys)
        position, norms = _apply(rules, position, {"discriminator": gradient})
        return position, {**metrics, **norms}

    if number == 1:
        return one(position, 0)
    position, metrics = jax.lax.scan(one, position, jnp.arange(number))
    return position, jax.tree.map(lambda x: x[-1], metrics)


def _discriminator_gradient(
    rules: _Rules, position: _Position, batch: Batch, keys: jax.Array, *, step: jax.Array | int
) -> tuple[Tree, Metrics]:
    """Gradient with respect to the discriminator, and metrics, averaged over a micro-shard."""
    players, x, labels = rules.players, batch["x"], rules.players.labels(batch)
    for_noise, for_real, for_fake, for_penalty, for_penalized = _step_keys(keys, step)
    fake = players.generate(position.params["generator"], for_noise, labels, **_given_noise(batch))
    fake = jax.lax.stop_gradient(fake)

    def loss(discriminator: Tree) -> tuple[jax.Array, Metrics]:
        weights = spectrally_normalized(discriminator, position.vectors)
        logits = lambda keys, x: players.discriminate(weights, jax.random.clone(keys), x, labels)
        real_logits, fake_logits = logits(for_real, x), logits(for_fake, fake)
        losses = rules.losses.discriminator(real_logits, fake_logits)
        metrics = {
            "discriminator_loss": losses,
            "value": value(real_logits, fake_logits),
            "real_probability": jax.nn.sigmoid(real_logits),
            "fake_probability": jax.nn.sigmoid(fake_logits),
        }
        if rules.penalty is not None:
            critic, given = partial(logits, for_penalized), {k: batch[k] for k in ("uniforms",) if k in batch}
            metrics["penalty"] = rules.penalty(for_penalty, critic, x, fake, **given)
            losses = losses + rules.penalty_weight * metrics["penalty"]
        return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

    return jax.grad(loss, has_aux=True)(position.params["discriminator"])


def _generator_gradient(
    rules: _Rules, position: _Position, batch: Batch, keys: jax.Array, *, step: jax.Array | int
) -> tuple[Tree, Metrics]:
    """Gradient with respect to the generator, and metrics, averaged over a micro-shard."""
    players, labels = rules.players, rules.players.labels(batch)
    for_noise, _, for_fake, *_ = _step_keys(keys, step)
    weights = spectrally_normalized(position.params["discriminator"], position.vectors)

    def loss(generator: Tree) -> jax.Array:
        fake = players.generate(generator, for_noise, labels, **_given_noise(batch))
        return jnp.mean(rules.losses.generator(players.discriminate(weights, for_fake, fake, labels)))

    mean_loss, gradient = jax.value_and_grad(loss)(position.params["generator"])
    return gradient, {"generator_loss": mean_loss}


def _apply(rules: _Rules, position: _Position, gradients: Tree) -> tuple[_Position, Metrics]:
    """One optimizer step of the players that have a gradient, and the gradients' norms."""
    own = {name: position.params[name] for name in gradients}
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts and floats
        changes, opt_state = rules.optimizer.update(gradients, position.opt_state, own)
    norms = {f"{name}_gradient_norm": optax.tree.norm(gradient) for name, gradient in gradients.items()}
    moved: Any = optax.apply_updates(own, changes)
    return position._replace(params={**position.params, **moved}, opt_state=opt_state), norms


def _advance(position: _Position) -> _Position:
    """One power iteration for the discriminator's kernels, with spectral normalisation."""
    return position._replace(vectors=advance_spectral(position.params["discriminator"], position.vectors))


def _average(ema_decay: float | Callable[[jax.Array], jax.Array], state: Any, params: Tree) -> Tree:
    """The moving average of the parameters after a step."""
    decay = ema_decay(state.step) if callable(ema_decay) else ema_decay
    drift = lambda e, p: e + (1.0 - jnp.asarray(decay, e.dtype)) * (p - e)
    return {name: jax.tree.map(drift, average, params[name]) for name, average in state.ema.items()}


def _step_batch(rules: _Rules, batch: Batch, step: jax.Array | int, turn: jax.Array | int) -> Batch:
    """The real examples of one discriminator step, and the draws given for the turn: a step, or the generator's."""

    def take(name: str, x: jax.Array) -> jax.Array:
        if rules.discriminator_steps == 1 and name not in _DRAWS:
            return x
        return jax.lax.dynamic_index_in_dim(x, turn if name == "noise" else step, 1, keepdims=False)

    return {name: take(name, x) for name, x in batch.items()}
