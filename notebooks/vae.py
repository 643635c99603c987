# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 2. Variational autoencoders
#
# An autoencoder rebuilds but cannot invent: nobody knows which codes stand for images. A VAE makes the code random,
# $z \sim N(\mu(x), \sigma(x)^2)$, and pulls it towards $N(0, I)$; then z drawn from $N(0, I)$ gives new images. This
# notebook follows chapter 2 of the notes, on scanned digits of 8 x 8 pixels.

# %%
from importlib.util import find_spec
from pathlib import Path

if find_spec("jaxgen") is None:  # in Colab: upload a wheel (`pip wheel --no-deps .` makes it) or the folder jaxgen
    from IPython import get_ipython

    source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")
    get_ipython().run_line_magic("pip", f"install -q '{source}[experiments]'")

# %%
SMALL = False  # True: 3 steps instead of 5000, every cell in seconds

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxgen import data, pictures, training, vae

STEPS = 3 if SMALL else 5000

images, test = data.load_images("digits"), data.load_images("digits", "test")
x_test = test.unit()  # [N, 64] in [0, 1]


def show(picture, factor=4):
    """A picture, each pixel a square."""
    return Image.fromarray(pictures.upscale(picture, factor))


# %% [markdown]
# ## The pieces
#
# $$z = \mu + \sigma \epsilon, \quad \epsilon \sim N(0, I)$$
# $$D_{KL}(N(\mu, \sigma^2) \,\|\, N(0, I)) = \frac12 \sum_i \left( \mu_i^2 + \sigma_i^2 - \log \sigma_i^2 - 1 \right)$$
#
# The divergence in closed form, and by sampling: log q(z) - log p(z), averaged over draws of z.

# %%
mean, log_variance = jnp.array([1.0, -0.5]), jnp.array([-1.0, 0.3])
draws = 100 if SMALL else 100_000
many = lambda values: jnp.broadcast_to(values, (draws, 2))
z = vae.reparameterize(jax.random.key(0), many(mean), many(log_variance))
print("mean and variance of z", jnp.mean(z, axis=0), jnp.var(z, axis=0))
print("KL, closed form", vae.kl_to_standard_normal(mean, log_variance))
print("KL, by sampling", jnp.mean(vae.monte_carlo_kl(z, many(mean), many(log_variance))))

# %% [markdown]
# ## Training
#
# $$L_b = E_{q(z|x)} \log p(x|z) - D_{KL}(q(z|x) \,\|\, p(z)) \leq \log p(x)$$
#
# The loss is $-L_b$, summed over the dimensions of x and z, in nats: nothing is rescaled, so minus the loss *is* a
# lower bound of log p(x). Grey pixels are taken as probabilities of white.

# %%
network = vae.mlp_vae(data_size=64, latent_sizes=(2,), widths=((128, 128),))
likelihood = vae.bernoulli(grey=True)
params = vae.init_params(jax.random.key(0), network, vae.mean_logits(images.unit()))
loss, batches = vae.vae_loss(network, likelihood), data.image_batches(images, 100, flat=True)
params = training.train(loss, params, batches, STEPS, optimizer=optax.adam(1e-3)).params

# %% [markdown]
# ## What it has learned
#
# The decoder's image at every place of the latent plane, equally spaced in probability under N(0, I).

# %%
decode = lambda z: likelihood.mean(network.apply({"params": params}, z, method="decode"))
show(pictures.grid(np.asarray(decode(vae.manifold(12))).reshape(-1, 8, 8), 12), 5)

# %% [markdown]
# Where the encoder puts the test images. No label was used to train.

# %%
(means,) = vae.posterior_means(jax.random.key(2), network, params, x_test)
Image.fromarray(pictures.scatter(means, test.label))

# %% [markdown]
# New images, and the way from one test image to another.

# %%
new, _ = vae.sample(jax.random.key(3), network, params, likelihood, 20)
path = vae.interpolate(jnp.asarray(means[0]), jnp.asarray(means[1]), 20)
rows = [np.asarray(row).reshape(-1, 8, 8) for row in (new, decode(path))]
show(pictures.grid(np.concatenate(rows), 20))

# %% [markdown]
# ## How tight is the bound?
#
# $$\log p(x) \approx \log \frac1K \sum_{k=1}^K \frac{p(x|z_k) \, p(z_k)}{q(z_k|x)}$$
#
# The difference is $D_{KL}(q(z|x) \,\|\, p(z|x))$: how far the encoder is from the true posterior.

# %%
found = vae.log_marginal_likelihood(
    jax.random.key(4), network, params, likelihood, x_test[:100], num_samples=10 if SMALL else 1000, chunk=10
)
print("bound of log p(x)", jnp.mean(found.elbo), "nats")
print("log p(x)         ", jnp.mean(found.log_likelihood), "nats")

# %% [markdown]
# More samples inside the logarithm make a tighter bound to train on: `vae.iwae_loss` (Burda et al. 2015).
