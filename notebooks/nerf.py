# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 5. Neural radiance fields
#
# A network maps a place and a direction to a colour and a density; an image is made by adding up colours along rays;
# and since all of it can be differentiated, the network is trained by comparing rendered with photographed pixels. This
# notebook follows chapter 5 of the notes, on a scene that is known exactly.

# %%
from importlib.util import find_spec
from pathlib import Path

if find_spec("jaxgen") is None:  # in Colab: upload a wheel (`pip wheel --no-deps .` makes it) or the folder jaxgen
    from IPython import get_ipython

    source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")
    get_ipython().run_line_magic("pip", f"install -q '{source}[experiments]'")

# %%
SMALL = False  # True: 2 steps instead of 1000, every cell in seconds

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxgen import data, nerf, pictures, training

SIZE = 8 if SMALL else 64  # pixels a side
VIEWS = 2 if SMALL else 20
STEPS = 2 if SMALL else 1000
BATCH = 16 if SMALL else 512
scene = nerf.analytic_scene


def show(image, factor=4):
    """An image [H, W, 3] in [0, 1]."""
    return Image.fromarray(pictures.upscale(np.clip(np.asarray(image) * 255, 0, 255).astype(np.uint8), factor))


# %% [markdown]
# ## Photographs with poses

# %%
focal = SIZE / 2 / np.tan(scene.CAMERA_ANGLE_X / 2)
camera = nerf.Camera(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2)
poses = nerf.hemisphere(VIEWS + 1, elevations=(5.0, 75.0), target=scene.TARGET)
photographs = [scene.render_view(camera, pose, num_nodes=8).color for pose in poses]
show(np.concatenate(photographs[:4], axis=1))

# %% [markdown]
# ## Rays, and points on them
#
# $$r(t) = o + t d, \qquad
# t_i \sim U \left[ t_n + \frac{i-1}{N} (t_f - t_n), \; t_n + \frac{i}{N} (t_f - t_n) \right]$$

# %%
columns, rows = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
pixels = jnp.asarray(np.stack([columns, rows], axis=-1))
rays = nerf.camera_rays(camera, poses[0], pixels)  # origin, direction, view: [H, W, 3] each
t = nerf.stratified_samples(jax.random.key(0), scene.NEAR, scene.FAR, 8)
print("one in each of eight bins:", t)

# %% [markdown]
# ## Rendering
#
# $$\hat C(r) = \sum_{i=1}^N T_i (1 - e^{-\sigma_i \delta_i}) c_i, \qquad T_i = e^{-\sum_{j<i} \sigma_j \delta_j}$$
#
# The notes call the distance sigma_i; it is $\delta_i = t_{i+1} - t_i$. In a fog of density 2 the opacity after a
# distance s is $1 - e^{-2 s}$, and the sum finds it.

# %%
t = jnp.linspace(0.0, 1.0, 101)
fog = nerf.composite(jnp.ones((101, 3)), jnp.full((101,), 2.0), t, jnp.array([0.0, 0.0, 1.0]), far=1.0)
print("opacity", 1 - jnp.exp(-2.0), "by the sum", jnp.sum(fog.weights))

# %% [markdown]
# ## Position encoding, and where to look
#
# $$\gamma(p) = \left( \sin(2^0 \pi p), \cos(2^0 \pi p), \ldots, \sin(2^{L-1} \pi p), \cos(2^{L-1} \pi p) \right)$$
#
# Sines and cosines give sharp detail. The coarse network's weights $\hat w_i = w_i / \sum_j w_j$ say where along the
# ray the fine one should look.

# %%
print("gamma(0.25)", nerf.positional_encoding(jnp.array([0.25]), 3))
bins, weights = jnp.linspace(2.0, 6.0, 5), jnp.array([0.0, 0.1, 0.8, 0.1])
print("most samples fall into the third bin:", nerf.importance_samples(jax.random.key(0), bins, weights, 8))

# %% [markdown]
# ## Training
#
# $$L = \sum_r \| \hat C_c(r) - C(r) \|^2 + \| \hat C_f(r) - C(r) \|^2$$
#
# Batches of random pixels of all photographs but the first, which is held out.

# %%
network = nerf.NeRF(
    depth=2 if SMALL else 4, width=8 if SMALL else 64, skips=(), view_width=8 if SMALL else 64,
    position_frequencies=6, direction_frequencies=2,
)  # fmt: skip
settings = dict(background=1.0, num_coarse=4 if SMALL else 32, num_fine=4 if SMALL else 32)
loss = nerf.nerf_loss(network, scene.NEAR, scene.FAR, **settings)
rays_of_views = [nerf.camera_rays(camera, pose, pixels.reshape(-1, 2)) for pose in poses[1:]]
all_rays = nerf.Rays(*(jnp.concatenate(parts) for parts in zip(*rays_of_views, strict=True)))
colors = jnp.asarray(np.concatenate([photograph.reshape(-1, 3) for photograph in photographs[1:]]))
batches = data.array_batches({"rays": all_rays, "rgb": colors}, BATCH)
for_coarse, for_fine = jax.random.split(jax.random.key(0))
start = lambda key: network.init(key, jnp.zeros((1, 1, 3)), jnp.zeros((1, 3)))["params"]
params = {"coarse": start(for_coarse), "fine": start(for_fine)}
params = training.train(loss, params, batches, STEPS, optimizer=optax.adam(2e-3)).params

# %% [markdown]
# ## A view that was held out: truth, rendering, depth


# %%
def render(params, rays):
    """What the fine network sees, without randomness."""
    fields = [nerf.network_field(network, params[name]) for name in ("coarse", "fine")]
    return nerf.render_rays(None, rays, scene.NEAR, scene.FAR, *fields, **settings).best


seen = nerf.render_image(render, params, camera, poses[0], chunk=512)
error = np.mean(np.square(seen.color - photographs[0]))
print("PSNR", -10 * np.log10(error), "dB")
depth = np.clip((scene.FAR - seen.depth) / (scene.FAR - scene.NEAR), 0, 1) * seen.opacity
show(np.concatenate([photographs[0], seen.color, np.repeat(depth[..., None], 3, axis=-1)], axis=1))
