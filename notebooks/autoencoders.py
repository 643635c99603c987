# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 1. Autoencoders
#
# An autoencoder squeezes x through a few numbers, the code z = g(x), and rebuilds x from them. This notebook follows
# chapter 1 of the notes: the plain autoencoder, the sparse one, the contractive one. Everything runs on 1,437 scanned
# digits of 8 x 8 pixels that come with scikit-learn.

# %%
from importlib.util import find_spec
from pathlib import Path

if find_spec("jaxgen") is None:  # in Colab: upload a wheel (`pip wheel --no-deps .` makes it) or the folder jaxgen
    from IPython import get_ipython

    source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")
    get_ipython().run_line_magic("pip", f"install -q '{source}[experiments]'")

# %%
SMALL = False  # True: 3 steps instead of 3000, every cell in seconds

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxgen import autoencoder, data, pictures, training

STEPS = 3 if SMALL else 3000

images, test = data.load_images("digits"), data.load_images("digits", "test")
x, x_test = images.unit(), test.unit()  # [N, 64] in [0, 1]
batches = data.image_batches(images, 100, flat=True)


def train(loss, params):
    """Parameters after STEPS updates by Adam."""
    return training.train(loss, params, batches, STEPS, optimizer=optax.adam(1e-3)).params


def show(picture, factor=4):
    """A picture, each pixel a square."""
    return Image.fromarray(pictures.upscale(picture, factor))


show(pictures.grid(x_test[:40].reshape(-1, 8, 8), 20))

# %% [markdown]
# ## 1.1 The autoencoder
#
# $$L_{AE}(\theta, \phi) = \frac{1}{n} \sum_{i=1}^n \left( x^i - f_\theta(g_\phi(x^i)) \right)^2$$
#
# The network is a Flax module, a pure function of its parameters; the loss is one number an example.

# %%
network = autoencoder.Autoencoder(data_size=64, widths=(64, 32), code_size=4)
params = autoencoder.init_params(jax.random.key(0), network)
loss = autoencoder.reconstruction_loss(network, "squared_error")
params = train(loss, params)

# %% [markdown]
# The best *linear* code of the same size is that of PCA. Where the data lie on a curved surface, it does worse.

# %%
rebuild = lambda x: network.apply({"params": params}, x)
mean, components = autoencoder.pca(jnp.asarray(x), 4)
rebuild_linearly = lambda x: autoencoder.pca_reconstruct(x, mean, components)
print("autoencoder", autoencoder.reconstruction_error(rebuild, x_test))
print("PCA        ", autoencoder.reconstruction_error(rebuild_linearly, x_test))

# %%
some = jnp.asarray(x_test[:20])
rows = [some, rebuild(some), rebuild_linearly(some)]
show(pictures.grid(np.clip(np.concatenate([np.asarray(row).reshape(-1, 8, 8) for row in rows]), 0, 1), 20))

# %% [markdown]
# ## 1.2 A sparse autoencoder
#
# A code may have more units than x has pixels, if few of them are used at a time: here 144 units, of which the 12
# largest are kept. Other ways to the same end are `l1_sparsity_loss` and `kl_sparsity_loss`, whose KL divergence
# $\sum_j \mathrm{KL}(\rho \,\|\, \hat\rho_j)$ holds each unit's mean activation near $\rho$.

# %%
sparse = autoencoder.Autoencoder(data_size=64, widths=(), code_size=144, output="linear", tied=True)
sparse_params = autoencoder.init_params(jax.random.key(0), sparse)
sparse_params = train(autoencoder.k_sparse_loss(sparse, k=12), sparse_params)

# %%
kernel = sparse_params["encoder"]["layers_0"]["kernel"]
show(pictures.grid(np.asarray(kernel).T.reshape(-1, 8, 8)[:72], 18, rescale=True), 3)

# %% [markdown]
# A code is good if a linear classifier reads the digit from it.

# %%
codes = lambda x: autoencoder.top_k(sparse.apply({"params": sparse_params}, x, method="encode"), 12)
labels, labels_test = images.labels, test.labels
probed = dict(num_iterations=2 if SMALL else 300)
print("pixels", autoencoder.linear_probe_error(x, labels, x_test, labels_test, **probed), "percent wrong")
print("code  ", autoencoder.linear_probe_error(codes(x), labels, codes(x_test), labels_test, **probed), "percent wrong")

# %% [markdown]
# ## 1.3 A contractive autoencoder
#
# $$\| J_f(x) \|_F^2 = \sum_{ij} \left( \frac{\partial h_j(x)}{\partial x_i} \right)^2$$
#
# A robust code hardly moves when x moves a little. `contractive_penalty` differentiates any encoder;
# `sigmoid_contractive_penalty` is the closed form for one sigmoid layer. They agree.

# %%
layer = autoencoder.Autoencoder(data_size=64, widths=(), code_size=32, code_activation=jax.nn.sigmoid)
start = autoencoder.init_params(jax.random.key(0), layer)


def encoder(params):
    """g at these parameters."""
    return lambda x: layer.apply({"params": params}, x, method="encode")


exact = autoencoder.contractive_penalty(encoder(start), jnp.asarray(x[:5]))
kernel = start["encoder"]["layers_0"]["kernel"]
closed_form = autoencoder.sigmoid_contractive_penalty(encoder(start)(jnp.asarray(x[:5])), kernel)
print(exact, closed_form, sep="\n")
assert np.allclose(exact, closed_form, rtol=1e-4)

# %%
plain = train(autoencoder.reconstruction_loss(layer), start)
contractive = train(autoencoder.contractive_loss(layer, weight=0.1), start)

# %% [markdown]
# The singular values of the Jacobian say in how many directions the code still moves: those in which the data vary.

# %%
spectra = {
    name: np.mean(autoencoder.jacobian_spectrum(encoder(found), jnp.asarray(x_test[:50])), axis=0)
    for name, found in {"plain": plain, "contractive": contractive}.items()
}
Image.fromarray(pictures.curves({n: (np.arange(1, 33), s) for n, s in spectra.items()}, "number", "singular value"))
