import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan
from tests.parameters import apply

RNG = np.random.default_rng(0)


def compiled(f, *arguments):
    """The values of f as NumPy arrays, from one program."""
    return jax.device_get(jax.jit(f)(*arguments))


def init_shapes(module, *inputs):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))


def random_params(module, *inputs):
    """Normal float32 parameters without compiling initializers."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: (0.3 * rng.normal(size=s.shape)).astype(np.float32), init_shapes(module, *inputs)["params"]
    )


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def test_maxout_takes_the_largest_of_neighbours():
    x = RNG.normal(size=(2, 3, 12)).astype(np.float32)
    expected = np.stack([x[..., 4 * u : 4 * u + 4].max(axis=-1) for u in range(3)], axis=-1)
    np.testing.assert_array_equal(compiled(lambda x: gan.maxout(x, 4), x), expected)
    with pytest.raises(ValueError, match="12 does not divide into units of 5"):
        gan.maxout(x, 5)


def test_dropout_keeps_and_scales_by_each_examples_own_key():
    x = RNG.normal(size=(8, 2000)).astype(np.float32)
    found, part, all_kept = compiled(
        lambda x: (
            gan.dropout(keys(8), x, 0.8), gan.dropout(keys(8)[2:4], x[2:4], 0.8), gan.dropout(keys(8), x, 1.0)
        ),
        x,
    )  # fmt: skip
    kept = found != 0
    np.testing.assert_allclose(found[kept], x[kept] / np.float32(0.8), rtol=1e-6)
    np.testing.assert_allclose(kept.mean(axis=1), 0.8, atol=0.04)
    assert not np.array_equal(kept[0], kept[1])
    np.testing.assert_array_equal(part, found[2:4])
    np.testing.assert_array_equal(all_kept, x)
    for keep in (0.0, 1.1):
        with pytest.raises(ValueError, match="keep"):
            gan.dropout(keys(8), x, keep)


def test_the_mlp_generator_is_numpys():
    module = gan.MLPGenerator(5, (6, 7))
    z = RNG.normal(size=(3, 4)).astype(np.float32)
    p = random_params(module, z)
    h = z
    for layer in (p["hidden"]["layers_0"], p["hidden"]["layers_1"]):
        h = np.maximum(0, h @ layer["kernel"] + layer["bias"])
    expected = 1 / (1 + np.exp(-(h @ p["last"]["kernel"] + p["last"]["bias"])))
    np.testing.assert_allclose(compiled(lambda p: apply(module, p, z), p), expected, rtol=1e-5)


def test_the_maxout_discriminator_is_numpys_with_and_without_dropout():
    module = gan.MaxoutDiscriminator((6, 4), pieces=3)
    x = RNG.normal(size=(5, 8)).astype(np.float32)
    p = random_params(module, x)
    layers = [p["layers_0"], p["layers_1"], p["last"]]

    def by_hand(masks):
        h = x
        for i, (layer, mask) in enumerate(zip(layers, masks, strict=True)):
            h = h * mask @ layer["kernel"] + layer["bias"]
            if i < 2:
                h = h.reshape(5, -1, 3).max(axis=-1)
        return h[:, 0]

    @jax.jit
    def f(p, x):
        masks = [
            gan.dropout(jax.vmap(jax.random.fold_in, (0, None))(keys(5, 3), i), jnp.ones((5, n)), keep)
            for i, (n, keep) in enumerate([(8, 0.8), (6, 0.5), (4, 0.5)])
        ]
        return apply(module, p, x), apply(module, p, x, None, keys(5, 3)), masks

    # Masks of the paper's rates, from the keys, by what dropout makes of ones.
    without, with_dropout, masks = jax.device_get(f(p, x))
    np.testing.assert_allclose(without, by_hand([1, 1, 1]), rtol=1e-4, atol=1e-5)
    assert {round(float(v), 4) for m in masks for v in np.unique(m)} == {0.0, 1.25, 2.0}
    np.testing.assert_allclose(with_dropout, by_hand(masks), rtol=1e-4, atol=1e-5)


def test_the_papers_networks_start_as_in_their_code():
    players = gan.Players(gan.MLPGenerator(), gan.MaxoutDiscriminator(), gan.uniform_noise(100))
    params = compiled(lambda: players.init(jax.random.key(0), {"x": np.zeros((1, 784), np.float32)}))
    for name, edge in (("generator", 0.05), ("discriminator", 0.005)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(params[name])[0]:
            leaf = np.asarray(leaf)
            if path[-1].key == "kernel":
                assert edge * 0.95 < np.abs(leaf).max() <= edge and abs(leaf.mean()) < edge / 10
            else:
                assert not leaf.any()
    sizes = lambda tree: sum(p.size for p in jax.tree.leaves(tree))
    assert sizes(params["generator"]) == 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784
    assert sizes(params["discriminator"]) == 784 * 1200 + 1200 + 240 * 1200 + 1200 + 240 + 1


def test_the_output_bias_can_start_at_the_marginals():
    x = np.array([[0.0, 0.2, 1.0], [0.0, 0.6, 1.0]])
    logits = gan.marginal_logits(x)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [1e-3, 0.4, 1 - 1e-3], rtol=1e-5)
    module = gan.MLPGenerator(3, (4,), output_bias_init=gan.constant_bias(logits))
    z = np.zeros((1, 2), np.float32)
    params = compiled(lambda: module.init(jax.random.key(0), z)["params"])
    np.testing.assert_allclose(params["last"]["bias"], logits, rtol=1e-6)
    with pytest.raises(ValueError, match="3 values"):
        init_shapes(gan.MLPGenerator(4, (4,), output_bias_init=gan.constant_bias(logits)), z)
    hash(module)


def test_noise_has_unit_variance_and_its_own_key():
    uniform, normal, own = compiled(
        lambda: (
            gan.uniform_noise(1000)(keys(50)), gan.normal_noise(1000)(keys(50)), gan.normal_noise(1000)(keys(50)[7:8])
        )
    )  # fmt: skip
    assert np.abs(uniform).max() <= 3**0.5 and np.abs(uniform).max() > 1.73
    assert np.abs(normal).max() > 3
    for z in (uniform, normal):
        assert z.var() == pytest.approx(1, abs=0.02) and abs(z.mean()) < 0.02
    np.testing.assert_array_equal(own[0], normal[7])


@pytest.mark.parametrize(
    "size, smallest",
    [(28, (2, 7)), (32, (3, 4)), (8, (1, 4)), (64, (4, 4)), (20, (2, 5)), (30, (3, 4)), (48, (3, 6)), (128, (5, 4))],
)
def test_halvings(size, smallest):
    assert gan.halvings(size) == smallest


@pytest.mark.parametrize("size", [3, 4, 7, 0])
def test_image_sizes_that_do_not_halve_are_refused(size):
    with pytest.raises(ValueError, match=f"image size of {size}"):
        gan.halvings(size)


@pytest.mark.parametrize("size", [*range(8, 129), (8, 128), (96, 30), (17, 9), (1, 8)])
def test_the_dcgan_players_take_any_size(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    players = gan.dcgan_players((height, width, 3), gan.normal_noise(4), channels=2, groups=1)
    shapes = jax.eval_shape(lambda key: players.generator.init_with_output(key, jnp.zeros((2, 4))), jax.random.key(0))
    assert shapes[0].shape == (2, height, width, 3)
    logits = jax.eval_shape(
        lambda key: players.discriminator.init_with_output(key, jnp.zeros((2, height, width, 3)))[0], jax.random.key(0)
    )
    assert logits.shape == (2,)


@pytest.mark.parametrize("size, channels", [(28, 1), (32, 3), ((13, 10), 1)])
def test_dcgan_shapes_range_and_examples_are_independent(size, channels):
    height, width = size if isinstance(size, tuple) else (size, size)
    generator = gan.DCGANGenerator(size, channels, channels=8, groups=4)
    discriminator = gan.DCGANDiscriminator(size, channels=8, groups=4)
    z = RNG.normal(size=(3, 5)).astype(np.float32)
    p, q = random_params(generator, z), random_params(discriminator, np.zeros((1, height, width, channels), np.float32))

    @jax.jit
    def f(p, q, z):
        images = apply(generator, p, z)
        of_one = apply(generator, p, z[1:2]), apply(discriminator, q, images[1:2])
        return images, apply(discriminator, q, images), *of_one

    images, logits, image, logit = jax.device_get(f(p, q, z))
    assert images.shape == (3, height, width, channels) and np.abs(images).max() <= 1 and np.std(images) > 0.05
    assert logits.shape == (3,)
    # A batch statistic would show here.
    np.testing.assert_allclose(image, images[1:2], atol=1e-5)
    np.testing.assert_allclose(logit, logits[1:2], rtol=1e-3, atol=1e-5)


@functools.cache
def dcgan_discriminator_at_its_start():
    """Parameters, logits [8, 10] of images with each label, and logits [8] without the label's part."""
    module = gan.DCGANDiscriminator(10, channels=64, num_classes=10)
    x = np.repeat(RNG.normal(size=(8, 10, 10, 1)), 10, axis=0).astype(np.float32)

    @jax.jit
    def f(x, labels):
        params = module.init(jax.random.key(0), x[:1], labels[:1])["params"]
        without = {k: v for k, v in params.items() if k != "label"}
        plain = apply(gan.DCGANDiscriminator(10, channels=64), without, x[::10])
        return params, jnp.reshape(apply(module, params, x, labels), (8, 10)), plain

    return jax.device_get(f(x, np.tile(np.arange(10), 8)))


def test_the_dcgan_discriminator_starts_with_features_of_unit_size():
    """He et al. 2015, equation 15: a variance of 2 / (1 + 0.2^2) / fan-in."""
    params, *_ = dcgan_discriminator_at_its_start()
    for name, fan_in in (("conv_0", 16), ("conv_1", 16 * 64)):
        assert np.var(params[name]["kernel"]) == pytest.approx(2 / 1.04 / fan_in, rel=0.15)


def test_the_label_starts_as_loud_as_the_dense_layer_of_the_dcgan_discriminator():
    _, logits, plain = dcgan_discriminator_at_its_start()
    assert 0.2 < np.std(logits - plain[:, None]) < 2 and 0.2 < np.std(plain) < 2


def test_the_label_starts_shorter_than_the_noise_of_the_dcgan_generator():
    module, inputs = gan.DCGANGenerator(8, num_classes=200), (np.zeros((1, 64), np.float32), np.zeros(1, np.int32))
    # The program draws no other parameter than the label's.
    embedding = compiled(lambda: module.init(jax.random.key(0), *inputs)["params"]["label"]["embedding"])
    length = np.linalg.norm(embedding, axis=1)
    assert length.mean() == pytest.approx(1, abs=0.02) and 0.6 < length.min() and length.max() < 1.4


@pytest.mark.parametrize("size, sides", [(8, [4]), (10, [5, 3])])
def test_dcgan_discriminator_is_its_definition(size, sides):
    """Windows of 4 with stride 2 until 4 or fewer places are left, leaky ReLU, and a dense layer, as sums in NumPy.

    One zero is above and to the left, and below and to the right as many as the last window needs.
    """
    module = gan.DCGANDiscriminator(size, channels=2, num_classes=3)
    x, labels = RNG.normal(size=(2, size, size, 1)).astype(np.float32), np.array([2, 0])
    p = random_params(module, x, labels)
    h = x
    for layer, side in enumerate(sides):
        around = (1, 2 * side + 1 - h.shape[1])
        padded = np.pad(h, ((0, 0), around, around, (0, 0)))
        windows = [[padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] for j in range(side)] for i in range(side)]
        conv = p[f"conv_{layer}"]
        h = np.einsum("ijbuvc,uvco->bijo", np.stack(windows), conv["kernel"]) + conv["bias"]
        h = np.where(h > 0, h, 0.2 * h)
    assert len(p) == len(sides) + 2
    expected = (h.reshape(2, -1) @ p["dense"]["kernel"])[:, 0] + p["dense"]["bias"]
    expected += np.sum(p["label"]["embedding"][labels] * h.sum(axis=(1, 2)), axis=-1)
    np.testing.assert_allclose(compiled(lambda p: apply(module, p, x, labels), p), expected, rtol=1e-4)


def test_group_normalisation_is_numpys():
    module = gan.DCGANGenerator(8, 1, channels=8, groups=2)
    z = RNG.normal(size=(2, 3)).astype(np.float32)
    p = random_params(module, z)
    h = (z @ p["dense"]["kernel"] + p["dense"]["bias"]).reshape(2, 16, 2, 4)
    h = (h - h.mean(axis=(1, 3), keepdims=True)) / np.sqrt(h.var(axis=(1, 3), keepdims=True) + 1e-5)
    h = np.maximum(0, h.reshape(2, 4, 4, 8) * p["norm_0"]["scale"] + p["norm_0"]["bias"])
    # The transposed convolution: each pixel adds its window, and the outermost ring is cut.
    full = np.zeros((2, 10, 10, 1))
    for i in range(4):
        for j in range(4):
            window = np.einsum("bc,uvco->buvo", h[:, i, j], p["conv_0"]["kernel"])
            full[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += window
    expected = np.tanh(full[:, 1:-1, 1:-1] + p["conv_0"]["bias"])
    np.testing.assert_allclose(compiled(lambda p: apply(module, p, z), p), expected, rtol=1e-3, atol=1e-5)


def test_the_class_changes_what_is_made():
    module = gan.DCGANGenerator(8, 1, channels=8, groups=2, num_classes=4)
    z = RNG.normal(size=(2, 3)).astype(np.float32)
    p = random_params(module, z, np.array([0, 0]))

    @jax.jit
    def f(p):
        # The label's vector is appended to z.
        embedded = jnp.concatenate([z, p["label"]["embedding"][np.array([1, 3])]], axis=1)
        without = {name: leaf for name, leaf in p.items() if name != "label"}
        same = apply(gan.DCGANGenerator(8, 1, channels=8, groups=2), without, embedded)
        return [apply(module, p, z, jnp.array([1, k])) for k in (1, 3)], same

    found, same = jax.device_get(f(p))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert np.abs(found[0][1] - found[1][1]).max() > 0.05
    np.testing.assert_allclose(found[1], same, rtol=1e-5, atol=1e-6)


def test_labels_out_of_range_are_refused_or_not_a_number():
    module = gan.DCGANDiscriminator(8, channels=2, num_classes=3)
    x = np.ones((2, 8, 8, 1), np.float32)
    p = random_params(module, x, np.array([0, 1]))
    # The labels of `shapes` are known while it traces, those of `f` are not.
    shapes = lambda module, *inputs: jax.eval_shape(lambda: apply(module, p, *inputs))
    f = jax.jit(lambda labels: apply(module, p, x, labels))
    for bad in (3, -1):
        with pytest.raises(ValueError, match=rf"labels \[{bad}\] are outside of 0 .. 2"):
            shapes(module, x, np.array([0, bad]))
        logits = np.asarray(f(np.array([0, bad])))
        assert np.isfinite(logits[0]) and np.isnan(logits[1])
    with pytest.raises(ValueError, match="expected integers"):
        gan.check_labels(np.zeros(3), 3)
    gan.check_labels(np.array([0, 2]), 3)
    with pytest.raises(ValueError, match="labels are missing"):
        shapes(module, x)
    with pytest.raises(ValueError, match="no labels"):
        shapes(gan.DCGANDiscriminator(8, channels=2), x, np.array([0, 1]))
    with pytest.raises(ValueError, match="MLPGenerator takes no labels"):
        init_shapes(gan.MLPGenerator(3), x[:, 0, 0], np.array([0, 1]))


def test_networks_that_do_not_fit_the_data_are_refused():
    dcgan = gan.Players(gan.DCGANGenerator(28, 1, 4, 2), gan.DCGANDiscriminator(28, 4), gan.normal_noise(3))
    x = np.zeros((1, 32, 32, 1), np.float32)
    with pytest.raises(ValueError, match=r"\(28, 28, 1\), the data's are \(32, 32, 1\)"):
        jax.eval_shape(lambda: dcgan.init(jax.random.key(0), {"x": x}))
    with pytest.raises(ValueError, match="takes .B, 28, 28, C."):
        init_shapes(gan.DCGANDiscriminator(28, 4), x)


def test_samples_depend_on_their_number_alone():
    players = gan.Players(gan.MLPGenerator(2, (4,)), gan.MLPDiscriminator((4,)), gan.normal_noise(3))
    params = random_params(players.generator, np.zeros((1, 3), np.float32))
    key = jax.random.key(1)
    whole = gan.sample(key, players, params, 11, batch_size=4)
    assert whole.shape == (11, 2) and len(np.unique(whole[:, 0])) == 11
    few = gan.sample(key, players, params, 4, batch_size=100)
    np.testing.assert_allclose(few, whole[:4], rtol=1e-6)
    # Number 9 is in the last batch, which is moved back.
    own = lambda params: apply(players.generator, params, players.noise(jax.random.fold_in(jax.random.key(1), 9)[None]))
    np.testing.assert_allclose(compiled(own, params)[0], whole[9], rtol=1e-6)
    with pytest.raises(ValueError, match="num is 0"):
        gan.sample(key, players, params, 0)
    with pytest.raises(ValueError, match="no labels"):
        gan.sample(key, players, params, 2, labels=np.array([0, 1]))


def test_samples_of_given_noise():
    players = gan.Players(gan.MLPGenerator(2, (4,)), gan.MLPDiscriminator((4,)), gan.uniform_noise(3))
    params = random_params(players.generator, np.zeros((1, 3), np.float32))
    noise = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

    @jax.jit
    def f(params, noise):
        given = players.generate(params, None, noise=players.noise(keys(4)))
        return given, players.generate(params, keys(4)), apply(players.generator, params, noise)

    given, drawn, expected = jax.device_get(f(params, noise))
    np.testing.assert_array_equal(given, drawn)
    found = gan.sample(None, players, params, 7, batch_size=4, noise=noise)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"noise has shape \(7, 3\); expected \(6, Z\)"):
        gan.sample(None, players, params, 6, noise=noise)
    with pytest.raises(ValueError, match=r"noise has shape \(7, 2\); expected \(7, 3\)"):
        players.generate(params, None, noise=noise[:, :2])
    with pytest.raises(ValueError, match="no keys and no noise"):
        gan.sample(None, players, params, 4)


def test_conditional_samples_take_their_labels():
    players = gan.Players(
        gan.DCGANGenerator(8, 1, 4, 2, num_classes=3), gan.DCGANDiscriminator(8, 4, num_classes=3),
        gan.normal_noise(3), condition="label",
    )  # fmt: skip
    params = random_params(players.generator, np.zeros((1, 3), np.float32), np.array([0]))
    labels = np.array([0, 1, 2, 2, 1])
    found = gan.sample(jax.random.key(1), players, params, 5, labels=labels, batch_size=2)

    @jax.jit
    def expected(params):
        z = players.noise(jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(5)))
        return apply(players.generator, params, z, labels)

    np.testing.assert_allclose(found, expected(params), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"labels of shape \(4,\)"):
        gan.sample(jax.random.key(1), players, params, 4, labels=labels)
