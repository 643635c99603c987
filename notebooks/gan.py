# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 3. Generative adversarial networks
#
# A generator G turns noise z into samples; a discriminator D says how likely a sample is to be real. Each is trained
# against the other. This notebook follows chapter 3 of the notes, on eight Gaussians in a ring: there the densities are
# known, and it can be counted how many of them G has found.

# %%
from importlib.util import find_spec
from pathlib import Path

if find_spec("jaxgen") is None:  # in Colab: upload a wheel (`pip wheel --no-deps .` makes it) or the folder jaxgen
    from IPython import get_ipython

    source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")
    get_ipython().run_line_magic("pip", f"install -q '{source}[experiments]'")

# %%
SMALL = False  # True: 3 steps instead of 6000, every cell in seconds

import jax
import jax.numpy as jnp
import optax
from PIL import Image

from jaxgen import data, gan, metrics, pictures, training

STEPS = 3 if SMALL else 6000
BATCH = 256

# %% [markdown]
# ## The game
#
# $$\min_G \max_D \; E_{x \sim p_r} [ \log D(x) ] + E_{z \sim p_z} [ \log (1 - D(G(z))) ]$$
#
# For a given G the best answer is $D^* = p_r / (p_r + p_g)$, and against it the value is
# $2 D_{JS}(p_r \,\|\, p_g) - 2 \log 2$. On a line both can be computed, and compared.

# %%
line = jnp.linspace(-8.0, 8.0, 2001)
bell = lambda mean: jnp.exp(-jnp.square(line - mean) / 2) / jnp.sqrt(2 * jnp.pi)
p_real, p_generated = bell(0.0), bell(1.5)
best = gan.optimal_discriminator(p_real, p_generated)
value = jnp.sum(p_real * jnp.log(best) + p_generated * jnp.log1p(-best)) * (line[1] - line[0])
weights = jnp.full_like(line, line[1] - line[0])
print("value of the game at D*", value)
print("2 JS - 2 log 2         ", 2 * gan.jensen_shannon(p_real, p_generated, weights) - 2 * jnp.log(2.0))

# %%
Image.fromarray(pictures.curves({"p_r": (line, p_real), "p_g": (line, p_generated), "D*": (line, best)}, "x"))

# %% [markdown]
# ## Two players
#
# They are Flax modules. What each minimises: D the cross-entropy of its answers, G either $\log (1 - D(G(z)))$, its
# side of the game, or $-\log D(G(z))$, whose gradient does not vanish while D wins.

# %%
logits = jnp.array([-6.0, 0.0, 6.0])
print("gradient, saturating    ", jax.grad(lambda x: jnp.sum(gan.generator_loss(x, saturating=True)))(logits))
print("gradient, non-saturating", jax.grad(lambda x: jnp.sum(gan.generator_loss(x)))(logits))

# %%
ring = data.ring_mixture(8, radius=2.0, std=0.05)
players = gan.Players(
    gan.MLPGenerator(2, (64, 64), output=lambda x: x, kernel_init=jax.nn.initializers.glorot_uniform()),
    gan.MLPDiscriminator((64, 64), jax.nn.leaky_relu),
    gan.normal_noise(8),
)
optimizer = gan.separate_optimizers(optax.adam(1e-3, b1=0.5), optax.adam(1e-3, b1=0.5))
# The penalty keeps the game from turning in circles (Mescheder et al. 2018).
update = gan.two_player_update(players, optimizer, gan.NON_SATURATING, penalty=gan.r1_penalty, penalty_weight=0.1)
state = training.create_state(players.init(jax.random.key(0), {"x": jnp.zeros((1, 2))}), optimizer)

batches = data.mixture_batches(ring)
state = training.train_state(update, state, batches, STEPS, batch_size=BATCH)

# %% [markdown]
# At the equilibrium the value is $-2 \log 2 = -1.386$ and D answers 1/2 everywhere. How many modes has G found?

# %%
samples = gan.sample(jax.random.key(3), players, state.params["generator"], 100 if SMALL else 2500)
found = metrics.mode_coverage(samples, ring.means, 0.05)
print(f"{found.captured} of 8 modes, {100 * found.high_quality:.1f} % of the samples near one")
Image.fromarray(pictures.scatter(samples, title="samples"))
