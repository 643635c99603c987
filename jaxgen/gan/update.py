"""One step of the two-player game, in the shape of every update: `update(state, batch, keys, mean)`.

It averages over examples only through `mean` and draws only from per-example keys, so the engine may split the batch
over devices and micro-shards as it likes.

Source: Goodfellow et al. (2014), algorithm 1; the other papers' rules are options.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxgen.gan.game import value
from jaxgen.gan.objectives import NON_SATURATING, Losses
from jaxgen.gan.penalties import Penalty
from jaxgen.gan.players import Players
from jaxgen.gan.spectral import advance_spectral, spectrally_normalized

Tree = Any
Order = Literal["simultaneous", "alternating"]
_DRAWS = ("noise", "uniforms")


def separate_optimizers(
    generator: optax.GradientTransformation, discriminator: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimizer for each player, on trees {"generator": ..., "discriminator": ...}.

    `init` takes both players' parameters. `update` steps the players that it is given gradients of and leaves the
    others' state alone, so each learning-rate schedule counts its own player's steps.
    """
    each = {"generator": generator, "discriminator": discriminator}

    def init(params):
        return {name: optimizer.init(params[name]) for name, optimizer in each.items()}

    def update(updates, state, params=None):
        state, changes = dict(state), {}
        for name, gradient in updates.items():
            own = None if params is None else params[name]
            changes[name], state[name] = each[name].update(gradient, state[name], own)
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
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """k steps of the discriminator and one of the generator (Goodfellow et al. 2014, Algorithm 1).

    Args:
        players: generator and discriminator.
        optimizer: of `separate_optimizers`.
        losses: what each player minimizes.
        order: "alternating": the generator answers the updated discriminator, with fresh noise. "simultaneous": the
            gradients of the generator and of the last discriminator step are taken at the same parameters and on the
            same generated examples and dropout masks, as in the paper's code.
        discriminator_steps: k, each on its own real examples and fresh noise.
        penalty: added to the discriminator's loss, e.g. `gradient_penalty` or `r1_penalty`.
        penalty_weight: its weight.
        spectral: spectral normalisation of the discriminator, one power iteration before each of its steps. The state's
            `model_state` must hold {"spectral": init_spectral(key, params["discriminator"])}.
        ema_decay: decay of the moving average of parameters, or a function of the step. The state's `ema` is a tree
            {"generator": ...} like the parameters, with or without the discriminator; the players in it are averaged.

    Returns:
        update(state, batch, keys, mean) -> (state, metrics) on parameters {"generator": ..., "discriminator": ...} and
        batch {"x": [B, ...]} with the players' labels [B]. With k > 1, every array of the batch is [B, k, ...]: the
        j-th step sees [:, j]. Metrics, of the last discriminator step and of the generator's: "discriminator_loss"
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
    last = discriminator_steps - 1

    def discriminator_gradient(params, vectors, batch, keys):
        """Gradient with respect to the discriminator, and metrics, averaged over a micro-shard."""
        x, labels = batch["x"], players.labels(batch)
        for_noise, for_real, for_fake, for_penalty, for_penalised = keys
        fake = players.generate(params["generator"], for_noise, labels, **given(batch, "noise"))
        fake = jax.lax.stop_gradient(fake)

        def loss(discriminator):
            weights = normalized(discriminator, vectors)
            logits = lambda keys, x: players.discriminate(weights, jax.random.clone(keys), x, labels)
            real_logits, fake_logits = logits(for_real, x), logits(for_fake, fake)
            each = losses.discriminator(real_logits, fake_logits)
            metrics = {
                "discriminator_loss": each,
                "value": value(real_logits, fake_logits),
                "real_probability": jax.nn.sigmoid(real_logits),
                "fake_probability": jax.nn.sigmoid(fake_logits),
            }
            if penalty is not None:
                critic = partial(logits, for_penalised)
                metrics["penalty"] = penalty(for_penalty, critic, x, fake, **given(batch, "uniforms"))
                each = each + penalty_weight * metrics["penalty"]
            return jnp.mean(each), jax.tree.map(jnp.mean, metrics)

        return jax.grad(loss, has_aux=True)(params["discriminator"])

    def generator_gradient(params, vectors, batch, keys):
        """Gradient with respect to the generator, and metrics, averaged over a micro-shard."""
        labels = players.labels(batch)
        for_noise, _, for_fake, *_ = keys
        weights = normalized(params["discriminator"], vectors)

        def loss(generator):
            fake = players.generate(generator, for_noise, labels, **given(batch, "noise"))
            return jnp.mean(losses.generator(players.discriminate(weights, for_fake, fake, labels)))

        mean_loss, gradient = jax.value_and_grad(loss)(params["generator"])
        return gradient, {"generator_loss": mean_loss}

    def normalized(discriminator, vectors):
        return spectrally_normalized(discriminator, vectors) if spectral else discriminator

    def advanced(params, vectors):
        return advance_spectral(params["discriminator"], vectors) if spectral else vectors

    def given(batch, name):
        return {name: batch[name]} if name in batch else {}

    def taken(batch, step, turn):
        """The real examples of one discriminator step, and the draws given for the turn: a step, or the generator's."""
        at = lambda index: lambda x: jax.lax.dynamic_index_in_dim(x, index, 1, keepdims=False)
        real = {name: x for name, x in batch.items() if name not in _DRAWS}
        if discriminator_steps > 1:
            real = jax.tree.map(at(step), real)
        noise = jax.tree.map(at(turn), given(batch, "noise"))
        return {**real, **noise, **jax.tree.map(at(step), given(batch, "uniforms"))}

    def stepped(params, opt_state, gradients):
        own = {name: params[name] for name in gradients}
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts and floats
            changes, opt_state = optimizer.update(gradients, opt_state, own)
        norms = {f"{name}_gradient_norm": optax.tree.norm(gradient) for name, gradient in gradients.items()}
        moved: Any = optax.apply_updates(own, changes)
        return {**params, **moved}, opt_state, norms

    def discriminator_step(carry, step, batch, keys, mean):
        params, opt_state, vectors = carry
        vectors = advanced(params, vectors)
        f = lambda batch, keys: discriminator_gradient(params, vectors, batch, _drawn(keys, step))
        gradient, metrics = mean(f, taken(batch, step, step), keys)
        params, opt_state, norms = stepped(params, opt_state, {"discriminator": gradient})
        return (params, opt_state, vectors), {**metrics, **norms}

    def discriminator_many(carry, number, batch, keys, mean):
        """Steps 0 .. number - 1, and the metrics of the last."""
        if number == 1:
            return discriminator_step(carry, 0, batch, keys, mean)
        carry, metrics = jax.lax.scan(
            lambda carry, step: discriminator_step(carry, step, batch, keys, mean), carry, jnp.arange(number)
        )
        return carry, jax.tree.map(lambda x: x[-1], metrics)

    def alternate(carry, batch, keys, mean):
        (params, opt_state, vectors), metrics = discriminator_many(carry, discriminator_steps, batch, keys, mean)
        f = lambda batch, keys: generator_gradient(params, vectors, batch, _drawn(keys, discriminator_steps))
        gradient, found = mean(f, taken(batch, last, discriminator_steps), keys)
        params, opt_state, norms = stepped(params, opt_state, {"generator": gradient})
        return (params, opt_state, vectors), {**metrics, **found, **norms}

    def together(carry, batch, keys, mean):
        if last:
            carry, _ = discriminator_many(carry, last, batch, keys, mean)
        params, opt_state, vectors = carry
        vectors = advanced(params, vectors)

        def f(batch, keys):
            # Both draw the same noise and masks, on purpose; the compiler merges what they compute twice.
            of_discriminator = discriminator_gradient(params, vectors, batch, _drawn(keys, last))
            of_generator = generator_gradient(params, vectors, batch, _drawn(keys, last))
            return of_discriminator, of_generator

        (discriminator, metrics), (generator, found) = mean(f, taken(batch, last, last), keys)
        gradients = {"discriminator": discriminator, "generator": generator}
        params, opt_state, norms = stepped(params, opt_state, gradients)
        return (params, opt_state, vectors), {**metrics, **found, **norms}

    def update(state, batch, keys, mean):
        _check_steps(batch, discriminator_steps)
        _check_draws(batch, discriminator_steps, discriminator_steps + (order == "alternating"))
        if spectral and "spectral" not in (state.model_state or {}):
            raise ValueError('spectral needs a state with model_state={"spectral": init_spectral(...)}')
        if ema_decay is not None and state.ema is None:
            raise ValueError('ema_decay is set but the state has no ema; expected {"generator": ...}')
        vectors = state.model_state["spectral"] if spectral else None
        run = alternate if order == "alternating" else together
        (params, opt_state, vectors), metrics = run((state.params, state.opt_state, vectors), batch, keys, mean)
        model_state = {**state.model_state, "spectral": vectors} if spectral else state.model_state
        ema = state.ema
        if ema_decay is not None:
            decay = ema_decay(state.step) if callable(ema_decay) else ema_decay
            drift = lambda e, p: e + (1.0 - jnp.asarray(decay, e.dtype)) * (p - e)
            ema = {name: jax.tree.map(drift, average, params[name]) for name, average in ema.items()}
        state = state.replace(
            step=state.step + 1, params=params, opt_state=opt_state, ema=ema, model_state=model_state
        )
        return state, metrics

    return update


def _drawn(keys, step):
    """Five keys for each example in one discriminator (or generator) step, [B] each.

    Of the noise, of the dropout on real and on generated examples, of the penalty and of the dropout under it.
    """
    # A key that a loop carries counts as used at every turn; what is folded in makes it another.
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(lambda key: tuple(jax.random.split(key, 5)))(keys)


def _check_steps(batch, steps):
    if steps == 1:
        return
    for name, x in batch.items():
        if name in _DRAWS:
            continue
        if x.ndim < 2 or x.shape[1] != steps:
            raise ValueError(
                f"batch[{name!r}] has shape {x.shape}; with {steps} discriminator steps it must be [B, {steps}, ...], "
                "real examples for each step"
            )


def _check_draws(batch, steps, turns):
    if "noise" in batch and (batch["noise"].ndim != 3 or batch["noise"].shape[1] != turns):
        raise ValueError(f"batch['noise'] has shape {batch['noise'].shape}; expected [B, {turns}, Z]")
    if "uniforms" in batch and (batch["uniforms"].ndim != 2 or batch["uniforms"].shape[1] != steps):
        raise ValueError(f"batch['uniforms'] has shape {batch['uniforms'].shape}; expected [B, {steps}]")
