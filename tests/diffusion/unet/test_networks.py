import functools
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from jaxgen.diffusion.unet import blocks as unet_blocks
from jaxgen.diffusion.unet.attention import SelfAttention
from jaxgen.diffusion.unet.blocks import Downsample, ResidualBlock, Upsample
from jaxgen.diffusion.unet.layers import Layers, dropout
from tests.diffusion.unet import numpy_unet
from tests.programs import compiled, values

RNG = np.random.default_rng(0)
SMALL = diffusion.UNet(
    in_channels=2, out_channels=2, channels=8, multipliers=(1, 2), num_blocks=1, attention_resolutions=(4,),
    num_groups=4, dropout=0.3,
)  # fmt: skip


def images(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def shapes(module, *inputs):
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


@functools.cache
def small_params():
    return random_params(SMALL, images(2, 8, 8, 2), np.array([3, 700]))


def random_params(module, *inputs):
    """Normal float32 parameters, so that nothing is 0, without compiling initializers."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (0.3 * rng.normal(size=s.shape)).astype(np.float32), shapes(module, *inputs))


small = compiled(lambda params, *inputs: SMALL.apply({"params": params}, *inputs))
"""SMALL's output; all tests have batches of two, so that it is compiled once."""


def doubles(params):
    return jax.tree.map(lambda p: np.asarray(p, np.float64), params)


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


@pytest.mark.parametrize("size, expected", [(32, 35_746_307), (256, 113_673_219)])
def test_the_published_networks_have_their_number_of_parameters(size, expected):
    tree = shapes(
        diffusion.ddpm_unet(size), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), np.zeros(1, np.int32)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == expected


def test_timestep_embedding_is_its_closed_form():
    t = np.array([0, 1, 37, 999])
    cases = list(itertools.product((128, 7), ("sin_cos", "cos_sin")))
    found = values(lambda t: [diffusion.timestep_embedding(t, *case) for case in cases], t)
    for (width, convention), embedding in zip(cases, found, strict=True):
        half = width // 2
        last = half - 1 if convention == "sin_cos" else half
        angles = t[:, None] / 10000 ** (np.arange(half) / last)
        parts = (np.sin(angles), np.cos(angles))
        expected = np.concatenate(parts if convention == "sin_cos" else parts[::-1], axis=1)
        expected = np.pad(expected, ((0, 0), (0, width % 2)))
        # float32 angles of up to 999 have an error of half of 6e-5.
        case = f"{width}, {convention}"
        np.testing.assert_allclose(embedding, expected, atol=1e-4, err_msg=case)
        np.testing.assert_allclose(np.sum(embedding[:, : 2 * half] ** 2, axis=1), half, rtol=1e-5, err_msg=case)


def test_timestep_embedding_has_the_numbers_of_the_authors_code():
    conventions = ("cos_sin", "sin_cos")
    run = lambda t: [diffusion.timestep_embedding(t, 128, convention)[0, :3] for convention in conventions]
    theirs = [[0.99964985, -0.39899176, 0.12520332], [-0.02646075, 0.72670883, -0.92157018]]
    np.testing.assert_allclose(values(run, np.array([999])), theirs, atol=1e-4)


def test_timestep_embedding_refuses_what_it_cannot_embed():
    with pytest.raises(ValueError, match=r"\[B\]"):
        diffusion.timestep_embedding(jnp.asarray(3), 8)
    with pytest.raises(ValueError, match="at least 4"):
        diffusion.timestep_embedding(jnp.asarray([3]), 3)
    with pytest.raises(ValueError, match="cos_sin"):
        diffusion.timestep_embedding(jnp.asarray([3]), 8, "sincos")  # type: ignore[arg-type]


def test_the_residual_block_is_numpys():
    layers = Layers("fan_in", 4, 1e-5, jnp.float32)
    changes: dict[Any, Any] = {"same": lambda x: x, "down": numpy_unet.halve, "up": numpy_unet.double}
    cases = list(itertools.product(changes, (False, True)))
    x, e = images(2, 4, 6, 8), images(2, 5)
    modules = [ResidualBlock(layers, 12 if way == "same" else 8, 0.5, shift, way) for way, shift in cases]
    params = [random_params(module, x, e) for module in modules]

    def program(params, x, e):
        e = jax.nn.swish(e)
        return [module.apply({"params": p}, x, e) for module, p in zip(modules, params, strict=True)]

    for (way, shift), p, found in zip(cases, params, values(program, params, x, e), strict=True):
        assert ("skip" in p) == (way == "same")
        expected = [numpy_unet.residual_block(x[i], e[i], doubles(p), 4, 1e-5, shift, changes[way]) for i in range(2)]
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5, err_msg=f"{way}, scale_shift={shift}")


def test_attention_is_numpys():
    cases: list[tuple[Any, dict[str, Any], int]] = [
        ("heads_first", {"heads": 4}, 4),
        ("qkv_first", {"heads": 4}, 4),
        ("qkv_first", {"head_channels": 4}, 2),
        ("heads_first", {"head_channels": 8}, 1),
    ]
    layers = Layers("fan_avg", 2, 1e-5, jnp.float32)
    modules = [SelfAttention(layers, order=order, **settings) for order, settings, _ in cases]
    x = images(2, 3, 4, 8)
    p = random_params(modules[0], x)
    found = values(lambda p, x: [module.apply({"params": p}, x) for module in modules], p, x)
    for (order, settings, heads), y in zip(cases, found, strict=True):
        expected = [numpy_unet.attention(x[i], doubles(p), 2, 1e-5, heads, order == "qkv_first") for i in range(2)]
        np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-5, err_msg=f"{order}, {settings}")


def test_attention_refuses_heads_that_do_not_divide():
    x = images(1, 2, 2, 8)
    layers = Layers("fan_avg", 2, 1e-5, jnp.float32)
    with pytest.raises(ValueError, match="8 channels do not divide into 3 heads"):
        shapes(SelfAttention(layers, heads=3), x)
    with pytest.raises(ValueError, match="8 channels do not divide into heads of 16"):
        shapes(SelfAttention(layers, head_channels=16), x)


def test_changes_of_resolution_are_numpys():
    layers = Layers("fan_avg", 2, 1e-5, jnp.float32)
    x = images(1, 6, 4, 3)
    down, up = partial(Downsample, layers), partial(Upsample, layers)
    p_down, p_up = random_params(down(), x), random_params(up(), x)
    pads: dict[Any, Any] = {"same": ((0, 1), (0, 1)), "symmetric": ((1, 1), (1, 1))}

    def program(p_down, p_up, x):
        halved = {padding: down(padding=padding).apply({"params": p_down}, x)[0] for padding in pads}
        halved["mean"] = down(learned=False).apply({}, x)[0]
        return halved, up().apply({"params": p_up}, x)[0], up(learned=False).apply({}, x)[0]

    halved, doubled, copied = values(program, p_down, p_up, x)
    for padding, pad in pads.items():
        expected = numpy_unet.conv3(x[0], doubles(p_down)["conv"], 2, pad)
        np.testing.assert_allclose(halved[padding], expected, rtol=1e-4, atol=1e-5, err_msg=padding)
    np.testing.assert_allclose(halved["mean"], numpy_unet.halve(x[0]), rtol=1e-5)
    expected = numpy_unet.conv3(numpy_unet.double(x[0]), doubles(p_up)["conv"])
    np.testing.assert_allclose(doubled, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(copied, numpy_unet.double(x[0]))


def test_the_unet_is_numpys():
    x, t = images(2, 8, 8, 2), np.array([3, 700])
    p = small_params()
    expected = [
        numpy_unet.ddpm_unet(
            x[i], int(t[i]), doubles(p), channels=8, levels=2, num_blocks=1, resolutions=(4,), groups=4
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(small(p, x, t), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_remat_computes_every_block_again_and_changes_no_name():
    x, t = images(1, 8, 8, 2), np.array([3])
    p, remat = small_params(), SMALL.clone(remat=True)
    assert jax.tree.structure(shapes(remat, x, t)) == jax.tree.structure(p)
    program = lambda net: jax.make_jaxpr(lambda p: net.apply({"params": p}, x, t))(p)
    again = [e for e in program(remat).eqns if e.primitive.name in ("checkpoint", "remat", "remat2")]
    assert len(again) == sum("block" in name or "attention" in name for name in p)
    assert not [e for e in program(SMALL).eqns if e.primitive.name in ("checkpoint", "remat", "remat2")]


def test_the_unet_computes_in_bfloat16_and_answers_in_float32():
    x, t = images(2, 8, 8, 2), np.array([3, 700])
    p = small_params()
    half = SMALL.clone(dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes(half, x, t)))
    found = values(lambda p, *inputs: half.apply({"params": p}, *inputs), p, x, t)
    full = np.asarray(small(p, x, t))
    assert found.dtype == np.float32
    error = np.sqrt(np.mean((found - full) ** 2) / np.mean(full**2))
    assert 1e-4 < error < 0.03


def test_the_output_is_zero_at_first():
    x, t = images(2, 8, 8, 2), np.array([3, 700])
    zero = {"conv2", "project", "conv_out"}

    def init(path, leaf):
        name = path[-2].key
        return np.zeros(leaf.shape, np.float32) if name in zero else leaf

    p = jax.tree_util.tree_map_with_path(init, small_params())
    np.testing.assert_array_equal(small(p, x, t), 0)


def test_initialization_is_the_papers():
    x, e = np.zeros((1, 4, 4, 32), np.float32), np.zeros((1, 8), np.float32)
    layers, torch_layers = (Layers(scale, 32, 1e-6, jnp.float32) for scale in ("fan_avg", "fan_in"))
    modules = (ResidualBlock(layers, 32), x, e), (ResidualBlock(torch_layers, 32), x, e), (SelfAttention(layers), x)
    init = lambda key: [module.init(jax.random.clone(key), *inputs)["params"] for module, *inputs in modules]
    params, torch, attention = values(init, jax.random.key(0))
    kernel = params["conv1"]["kernel"]
    np.testing.assert_allclose(np.var(kernel), 2 / (9 * 64), rtol=0.1)
    assert np.max(np.abs(kernel)) <= np.sqrt(6 / (9 * 64))
    # q, k and v are three layers in the paper.
    np.testing.assert_allclose(np.var(attention["qkv"]["kernel"]), 2 / 64, rtol=0.1)
    for leaf in jax.tree.leaves(torch["conv1"]):
        assert 0.8 / np.sqrt(9 * 32) < np.max(np.abs(leaf)) <= 1 / np.sqrt(9 * 32)
    for leaf in jax.tree.leaves([params["conv2"], torch["conv2"], attention["project"]]):
        np.testing.assert_array_equal(leaf, 0)


def test_dropout_belongs_to_the_example_and_not_to_the_batch():
    net = SMALL.clone(multipliers=(1,))
    x, t = images(2, 4, 4, 2), np.array([3, 3])
    run = partial(compiled(lambda p, x, keys: net.apply({"params": p}, x, t, keys=keys)), random_params(net, x, t))
    both = np.asarray(run(x, keys(2)))
    swapped = np.asarray(run(x[::-1], keys(2)[::-1]))
    np.testing.assert_allclose(swapped[::-1], both, rtol=1e-4, atol=1e-4)
    same = np.asarray(run(np.stack([x[0]] * 2), keys(2)))
    np.testing.assert_allclose(same[0], both[0], rtol=1e-4, atol=1e-4)
    assert np.abs(same[0] - same[1]).max() > 1e-2


def test_every_block_has_dropout_keys_of_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(unet_blocks, "dropout", lambda keys, x, rate: seen.append(jax.random.key_data(keys)) or x)
    net = SMALL.clone(multipliers=(1,), attention_resolutions=())
    x, t = images(2, 2, 2, 2), np.array([3, 3])
    p = random_params(net, x, t)
    assert not seen

    def program(key):
        net.apply({"params": p}, x, t, keys=jax.random.split(key, 2))
        return seen

    found = values(program, jax.random.key(0))
    assert len(found) == 5 and len({key.tobytes() for pair in found for key in pair}) == 10


def test_dropout_keeps_the_expectation():
    inputs = {channels: 1 + RNG.random(size=(8, 30, 30, channels)).astype(np.float32) for channels in (6, 7)}

    def program(key, inputs):
        return {n: dropout(jax.random.split(jax.random.clone(key), 8), x, 0.1) for n, x in inputs.items()}

    for channels, found in values(program, jax.random.key(0), inputs).items():
        x, kept, case = inputs[channels], found != 0, f"{channels} channels"
        np.testing.assert_allclose(kept.mean(axis=(1, 2, 3)), 0.9, atol=0.02, err_msg=case)
        np.testing.assert_allclose(kept.mean(axis=(0, 1, 2)), 0.9, atol=0.02, err_msg=case)
        np.testing.assert_allclose(found[kept], x[kept] / 0.9, rtol=2e-5, err_msg=case)
        # Neighbours share a random word; they must not share their fate.
        assert abs(np.corrcoef(kept[..., 0].ravel(), kept[..., 1].ravel())[0, 1]) < 0.05, case
    with pytest.raises(ValueError, match="rate"):
        dropout(keys(2), jnp.asarray(inputs[6][:2]), 1.0)


def test_a_label_moves_the_output_as_its_row_of_the_table_says():
    plain = SMALL.clone(multipliers=(1,), attention_resolutions=())
    net = plain.clone(num_classes=3)
    x, t, labels = images(2, 4, 4, 2), np.array([3, 700]), np.array([2, 0])
    p = random_params(net, x, t, labels)
    assert p["labels"]["embedding"].shape == (3, 32)
    without = {k: v for k, v in p.items() if k != "labels"}

    def moved(p, x, t, row):
        """The network without labels, with a row of the table added to a bias."""
        time_1 = {**p["time_1"], "bias": p["time_1"]["bias"] + row}
        return plain.apply({"params": {**p, "time_1": time_1}}, x[None], t[None])[0]

    rows = p["labels"]["embedding"][labels]
    program = lambda *args: (net.apply({"params": p}, x, t, labels), jax.vmap(partial(moved, without))(*args))
    found, expected = values(program, x, t, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_the_unet_refuses_what_does_not_fit():
    t = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="7 x 30 cannot be halved 3 times; the nearest size that can is 8 x 32"):
        shapes(diffusion.UNet(), images(2, 7, 30, 3), t)
    with pytest.raises(ValueError, match=r"\[B, H, W, 3\]"):
        shapes(diffusion.UNet(), images(2, 8, 8, 1), t)
    with pytest.raises(ValueError, match="one timestep for each example"):
        shapes(SMALL, images(2, 8, 8, 2), jnp.asarray(3))
    with pytest.raises(ValueError, match="without classes"):
        shapes(SMALL, images(2, 8, 8, 2), t, t)
    with pytest.raises(ValueError, match="needs labels"):
        shapes(SMALL.clone(num_classes=10), images(2, 8, 8, 2), t)
    with pytest.raises(ValueError, match="expected integers"):
        shapes(SMALL.clone(num_classes=10), images(2, 8, 8, 2), t, images(2, 10))
    with pytest.raises(ValueError, match="keys have shape"):
        shapes(SMALL, images(2, 8, 8, 2), t, None, jax.random.key(0))
    with pytest.raises(ValueError, match="floating point"):
        shapes(SMALL, np.zeros((2, 8, 8, 2), np.uint8), t)
    with pytest.raises(ValueError, match="do not divide into 32 groups"):
        shapes(SMALL.clone(num_groups=32), images(2, 8, 8, 2), t)
    with pytest.raises(ValueError, match="32, 256, not 64"):
        diffusion.ddpm_unet(64)
