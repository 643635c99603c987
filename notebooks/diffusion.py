# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 4. Diffusion models
#
# Noise is added to an image in many small steps, until nothing is left of it; a network learns to say which noise was
# added; and going back step by step, from pure noise, gives new images. This notebook follows chapter 4 of the notes on
# scanned digits of 8 x 8 pixels.

# %%
from importlib.util import find_spec
from pathlib import Path

if find_spec("jaxgen") is None:  # in Colab: upload a wheel (`pip wheel --no-deps .` makes it) or the folder jaxgen
    from IPython import get_ipython

    source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")
    get_ipython().run_line_magic("pip", f"install -q '{source}[experiments]'")

# %%
SMALL = False  # True: 2 steps instead of 2000, every cell in seconds

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxgen import data, diffusion, pictures, training

STEPS = 2 if SMALL else 2000
T = 24 if SMALL else 400
images, test = data.load_images("digits"), data.load_images("digits", "test")
x = jnp.asarray(images.signed())  # [N, 8, 8, 1] in [-1, 1]


def show(images, columns, factor=4):
    """Images in [-1, 1] in rows."""
    found = np.clip((np.asarray(images)[..., 0] + 1) / 2, 0, 1)
    return Image.fromarray(pictures.upscale(pictures.grid(found, columns), factor))


# %% [markdown]
# ## Forward: how noise is added
#
# $$q(x_t | x_{t-1}) = N(x_t; \sqrt{1 - \beta_t} \, x_{t-1}, \beta_t I)$$
# $$x_t = \sqrt{\bar\alpha_t} \, x_0 + \sqrt{1 - \bar\alpha_t} \, \epsilon$$
#
# The second follows from the first: t steps in one go. `t` counts from 0 in the code.

# %%
schedule = diffusion.make_schedule(diffusion.linear_betas(T))
times = np.linspace(0, T - 1, 8).astype(np.int32)
keys = jax.random.split(jax.random.key(2), 8)
noised = diffusion.q_sample(keys, schedule, jnp.repeat(x[:1], 8, axis=0), jnp.asarray(times))
show(noised.x_t, 8, 8)

# %%
one_by_one = jnp.repeat(x[:1], 1000, axis=0)
for t in range(3):
    one_by_one = diffusion.q_step(jax.random.fold_in(jax.random.key(3), t), schedule, one_by_one, t)
in_one_go = diffusion.q_sample(jax.random.key(4), schedule, jnp.repeat(x[:1], 1000, axis=0), 2).x_t
print("after three steps: standard deviation", jnp.std(one_by_one - in_one_go) / 2**0.5)
print("sqrt(1 - alpha-bar)                  ", jnp.sqrt(1 - schedule.alphas_bar[2]))

# %% [markdown]
# ## Backward: the posterior that the network imitates
#
# $$\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t, \quad
# \tilde\mu_t = \frac{1}{\sqrt{\alpha_t}} \left( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}} \epsilon \right)$$
#
# With the true noise in the place of the predicted one, the two ways to write the mean are one.

# %%
posterior = diffusion.q_posterior(schedule, jnp.repeat(x[:1], 8, axis=0), noised.x_t, jnp.asarray(times))
by_noise = diffusion.mean_from_noise(schedule, noised.noise, noised.x_t, jnp.asarray(times))
print("largest difference", jnp.max(jnp.abs(posterior.mean - by_noise)[1:]))

# %% [markdown]
# ## Training
#
# $$L_{simple} = E_{t, x_0, \epsilon} \| \epsilon - \epsilon_\theta(x_t, t) \|^2$$
#
# A random t and noise for each image. The network is a U-Net; the papers' are `diffusion.ddpm_unet` and others.

# %%
network = diffusion.UNet(
    in_channels=1,
    out_channels=1,
    channels=8 if SMALL else 32,
    multipliers=(1,) if SMALL else (1, 2),
    num_blocks=1,
    attention_resolutions=(),
    num_groups=4,
    dropout=0.0,
)
model = diffusion.DiffusionModel(network, schedule, shape=images.shape)
loss, batches = diffusion.denoising_objective(model), data.image_batches(images, 64)
params = training.train(loss, model.init(jax.random.key(0)), batches, STEPS, optimizer=optax.adam(1e-3)).params

# %% [markdown]
# ## Drawing
#
# $$x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \left( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}}
# \epsilon_\theta(x_t, t) \right) + \sigma_t z$$

# %%
draw = jax.jit(lambda params, key: diffusion.sample_trajectory(key, model.denoise(params), (10, 8, 8, 1), schedule, 8))
way = draw(params, jax.random.key(5))
show(way.x, 10, 6)

# %% [markdown]
# The way from noise to image: x_t above, and below it the x_0 that the network predicts from it.

# %%
show(jnp.concatenate([way.x_t[:, 0], way.x0[:, 0]]), 8, 8)

# %% [markdown]
# A few steps of another sampler through the same network: DDIM with 20 steps instead of T.

# %%
few = diffusion.respace(schedule, "ddim4" if SMALL else "ddim20")
fast = jax.jit(lambda params, key: diffusion.sample(key, model.denoise(params), (10, 8, 8, 1), few, method="ddim"))
show(fast(params, jax.random.key(5)), 10, 6)

# %% [markdown]
# ## The bound
#
# $$L_{VLB} = L_T + \sum_{t=2}^T L_{t-1} + L_0 \geq -\log p_\theta(x_0)$$
#
# Here in bits per pixel of held-out digits; uniform pixels would cost 8.

# %%
held_out = jnp.asarray(test.signed(0, 32))
measure = jax.jit(lambda params, x0: diffusion.bits_per_dim(jax.random.key(6), model.denoise(params), schedule, x0))
bound = measure(params, held_out)
print("L_T", jnp.mean(bound.prior), " sum", jnp.mean(bound.total), "bits per pixel")
