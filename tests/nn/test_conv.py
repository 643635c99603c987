"""Convolutions against lax's autodiff, and against PyTorch's definitions in NumPy. Every case is a compilation: few."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxgen.nn import Conv, ConvTranspose, SubPixelConv, conv, conv_transpose, pixel_shuffle

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def lax_padding(padding):
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    return padding if padding == "SAME" else [(p, p) if isinstance(p, int) else p for p in padding]


def lax_conv(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), lax_padding(padding), dimension_numbers=DIMENSIONS
    )


def lax_transpose(x, kernel, *, stride, padding, size):
    """The transpose of lax's convolution of an image of `size`."""
    image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[3]), x.dtype)
    forward = partial(lax_conv, kernel=kernel.swapaxes(2, 3), stride=stride, padding=padding)
    return jax.linear_transpose(forward, image)(x)[0]


def derivatives(f, x, kernel):
    """The value, the gradients, and the gradients of the gradients' squared norms."""

    def loss(x, kernel):
        y = f(x, kernel)
        weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return jnp.sum(weights * jnp.sin(y))

    first = jax.grad(loss, (0, 1))
    norm = lambda part: lambda x, kernel: jnp.sum(jnp.square(first(x, kernel)[part]))
    second = [jax.grad(norm(part), (0, 1))(x, kernel) for part in (0, 1)]
    return f(x, kernel), first(x, kernel), second


def arrays(x_shape, kernel_shape, dtype):
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape).astype(dtype) for shape in (x_shape, kernel_shape))


# Compiling, not computing, is what these tests wait for.
compiled = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


def assert_same_derivatives(f, reference, x, kernel):
    """To the tolerance of the type, relative to the largest entry."""
    with jax.enable_x64(x.dtype == np.float64):
        both = compiled(lambda x, kernel: (derivatives(f, x, kernel), derivatives(reference, x, kernel)))(x, kernel)
    found, expected = map(jax.tree.leaves, both)
    assert len(found) == 7
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == x.dtype
        scale = float(np.max(np.abs(b)))
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[x.dtype.name] * scale)


PADDINGS = ("SAME", 0, 1, (2, 1), ((0, 1), (2, 0)))
SHAPES = (
    *((2, 6, 5, 3, 2), (1, 5, 7, 1, 4), (3, 7, 6, 2, 1), (1, 6, 6, 4, 5)),
    *((2, 7, 7, 5, 3), (1, 5, 6, 2, 2), (2, 6, 7, 1, 1)),
)
"""(B, H, W, C, O): odd and even sizes, one example, one channel; of a number prime to the paddings'."""
COMBINATIONS = list(itertools.product((1, 3, 4, 5), (1, 2), PADDINGS))
CASES = [(*combination, shape) for combination, shape in zip(COMBINATIONS, itertools.cycle(SHAPES))]
# From 16 channels on, the transposed convolution takes another path.
CASES += [(3, 2, "SAME", (2, 6, 5, 17, 2)), (4, 2, 1, (1, 5, 6, 16, 3)), (5, 2, ((2, 1), (0, 3)), (1, 7, 8, 16, 1))]


def assert_equals_lax(size, stride, padding, shape, dtype):
    batch, height, width, channels, features = shape
    options = {"stride": stride, "padding": padding}
    x, kernel = arrays((batch, height, width, channels), (size, size, channels, features), dtype)
    ours = partial(conv, backward="forward_form", **options)
    assert_same_derivatives(ours, partial(lax_conv, **options), x, kernel)


@pytest.mark.parametrize("size, stride, padding, shape", CASES)
def test_value_gradients_and_second_derivatives(size, stride, padding, shape):
    assert_equals_lax(size, stride, padding, shape, "float64")


@settings(derandomize=True, max_examples=8, deadline=None, database=None)
@given(
    st.sampled_from((1, 3, 4, 5)),
    st.sampled_from((1, 2)),
    st.sampled_from(PADDINGS),
    st.tuples(*[st.integers(*bounds) for bounds in ((1, 3), (5, 9), (5, 9), (1, 5), (1, 5))]),
)
def test_float32(size, stride, padding, shape):
    assert_equals_lax(size, stride, padding, shape, "float32")


# (kernel, stride, padding, output_padding, image [H, W, C], result [H, W, O])
TRANSPOSED = [
    (4, 2, 1, 0, (3, 4, 3), (6, 8, 2)),
    (4, 2, 1, 0, (3, 2, 2), (6, 4, 16)),
    (5, 2, 2, 1, (3, 4, 1), (6, 8, 16)),
    (3, 2, 1, 1, (2, 3, 2), (4, 6, 17)),
    (3, 2, (0, 1), 0, (3, 4, 2), (7, 7, 16)),
    (4, 1, 0, 0, (1, 1, 5), (4, 4, 2)),
    (3, 1, ((1, 0), (0, 1)), 0, (4, 3, 2), (5, 4, 3)),
    (1, 2, 0, 1, (3, 2, 2), (6, 4, 3)),
    (3, 2, "SAME", 0, (3, 4, 2), (6, 8, 16)),
    (5, 2, "SAME", 0, (3, 2, 1), (6, 4, 2)),
    (4, 2, "SAME", 0, (2, 3, 2), (4, 6, 1)),
]


@pytest.mark.parametrize("size, stride, padding, output_padding, image, result", TRANSPOSED)
def test_transposed_derivatives(size, stride, padding, output_padding, image, result):
    x, kernel = arrays((2, *image), (size, size, image[2], result[2]), "float64")
    options = {"stride": stride, "padding": padding}
    ours = partial(conv_transpose, backward="forward_form", output_padding=output_padding, **options)
    assert_same_derivatives(ours, partial(lax_transpose, size=result[:2], **options), x, kernel)


def scattered(x, weight, stride, padding, output_padding):
    """PyTorch's ConvTranspose2d: every input pixel adds its multiple of the kernel. [B, C, H, W], [C, O, kh, kw]."""
    (b, _, h, w), (_, o, kh, kw) = x.shape, weight.shape
    (top, bottom), (left, right) = lax_padding(padding)
    full = np.zeros((b, o, stride * (h - 1) + kh + output_padding, stride * (w - 1) + kw + output_padding))
    for i, j in itertools.product(range(h), range(w)):
        patch = np.einsum("bc,couv->bouv", x[:, :, i, j], weight)
        full[:, :, stride * i : stride * i + kh, stride * j : stride * j + kw] += patch
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


@pytest.mark.parametrize("backward", ["forward_form", "xla"])
@pytest.mark.parametrize(
    "size, stride, padding, output_padding, image, result", [case for case in TRANSPOSED if case[2] != "SAME"]
)
def test_transposed_equals_pytorchs_definition(size, stride, padding, output_padding, image, result, backward):
    (x, weight) = arrays((2, image[2], *image[:2]), (image[2], result[2], size, size), "float64")
    with jax.enable_x64(True):
        options = {"stride": stride, "padding": padding, "output_padding": output_padding, "backward": backward}
        y = conv_transpose(jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(weight.transpose(2, 3, 0, 1)), **options)
    assert y.shape == (2, *result)
    expected = scattered(x, weight, stride, padding, output_padding)
    np.testing.assert_allclose(y, expected.transpose(0, 2, 3, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride, padding", [(1, 1), (2, (2, 1)), (2, "SAME")])
def test_convolution_equals_its_definition(stride, padding):
    """Cross-correlation: the kernel is not flipped."""
    x, kernel = arrays((2, 6, 7, 3), (4, 4, 3, 2), "float64")
    # TensorFlow's SAME at stride 2: two zeros for six rows, three for seven columns, the odd one at the right.
    pads = ((1, 1), (1, 2)) if padding == "SAME" else lax_padding(padding)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (1, 2))[:, ::stride, ::stride]
    with jax.enable_x64(True):
        y = conv(jnp.asarray(x), jnp.asarray(kernel), stride=stride, padding=padding)
    np.testing.assert_allclose(y, np.einsum("bijcuv,uvco->bijo", windows, kernel), rtol=0, atol=1e-12)


def test_pixel_shuffle_equals_pytorchs_definition():
    r, (b, h, w, c) = 3, (2, 2, 3, 2)
    x = np.arange(b * h * w * c * r * r).reshape(b, h, w, c * r * r)
    y = np.asarray(pixel_shuffle(jnp.asarray(x), r))
    assert y.shape == (b, h * r, w * r, c)
    for n, i, j, k in itertools.product(range(b), range(h * r), range(w * r), range(c)):
        assert y[n, i, j, k] == x[n, i // r, j // r, k * r**2 + r * (i % r) + j % r]


def test_inside_a_loop():
    """Training steps inside a scan equal the same steps, one at a time, of lax's."""
    x, kernel = map(jnp.asarray, arrays((2, 6, 6, 2), (3, 3, 2, 2), "float32"))
    step = lambda conv: lambda k: k - 0.01 * jax.grad(lambda k: jnp.mean(jnp.square(conv(x, k))))(k)
    ours = step(partial(conv, backward="forward_form", stride=2))
    found = jax.jit(lambda k: lax.scan(lambda k, _: (ours(k), None), k, length=3)[0])(kernel)
    expected, plain = kernel, jax.jit(step(partial(lax_conv, stride=2, padding="SAME")))
    for _ in range(3):
        expected = plain(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.max(np.abs(found - kernel)) > 1e-3


def test_mapped_over_a_leading_axis():
    x, kernel = map(jnp.asarray, arrays((3, 2, 5, 5, 2), (3, 3, 3, 2, 2), "float32"))
    gradient = jax.grad(lambda k, x: jnp.sum(jnp.square(conv(x, k, stride=2, backward="forward_form"))))
    found = jax.jit(jax.vmap(gradient))(kernel, x)
    expected = [jax.jit(gradient)(k, one) for k, one in zip(kernel, x, strict=True)]
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=0, atol=1e-4)


def operations(jaxpr):
    """The convolutions of a program, those of its inner programs too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params["dimension_numbers"]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from operations(inner)


def test_backward_passes_are_forward_convolutions():
    """The reason for the custom derivatives; on CPU also the default."""
    x, kernel = map(jnp.asarray, arrays((2, 6, 6, 2), (3, 3, 2, 3), "float32"))
    plain = lax.conv_dimension_numbers(x.shape, kernel.shape, DIMENSIONS)
    forms = {}
    for backward in ("forward_form", "auto", "xla"):
        loss = lambda x, k, backward=backward: jnp.sum(jnp.square(conv(x, k, stride=2, backward=backward)))
        forms[backward] = list(operations(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel).jaxpr))
    assert len(forms["forward_form"]) == 3 and set(forms["forward_form"]) == {plain}
    assert set(forms["xla"]) != {plain}
    assert forms["auto"] == forms["forward_form" if jax.default_backend() == "cpu" else "xla"]


def test_forward_mode_where_xla_differentiates():
    x, kernel = map(jnp.asarray, arrays((1, 5, 5, 2), (3, 3, 2, 3), "float32"))
    f = lambda backward: partial(conv, kernel=kernel, backward=backward)
    _, tangent = jax.jvp(f("xla"), (x,), (x,))
    np.testing.assert_allclose(tangent, f("xla")(x), rtol=0, atol=1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(f("forward_form"), (x,), (x,))


@pytest.mark.parametrize(
    "layer, plain, size, features",
    [
        (Conv(5, (3, 4), stride=2, padding=(2, 1)), partial(conv, stride=2, padding=(2, 1)), (3, 4), 5),
        (
            ConvTranspose(5, 3, padding=1, output_padding=1),
            partial(conv_transpose, padding=1, output_padding=1),
            (3, 3),
            5,
        ),
        (SubPixelConv(2, 3), conv, (3, 3), 8),
    ],
)
def test_layers(layer, plain, size, features):
    x = jnp.asarray(arrays((2, 5, 4, 3), (1, 1, 1, 1), "float32")[0])
    parameters = layer.init(jax.random.key(0), x)["params"]
    leaf = parameters.get("conv", parameters)
    assert leaf["kernel"].shape == (*size, 3, features) and leaf["bias"].shape == (features,)
    leaf["bias"] = jnp.arange(1.0, features + 1)
    expected = plain(x, leaf["kernel"]) + leaf["bias"].reshape(1, 1, 1, -1)
    if isinstance(layer, SubPixelConv):
        expected = pixel_shuffle(expected)
    np.testing.assert_allclose(layer.apply({"params": parameters}, x), expected, rtol=1e-6)
    without = layer.clone(use_bias=False).init(jax.random.key(0), x)["params"]
    assert set(without.get("conv", without)) == {"kernel"}


@pytest.mark.parametrize(
    "f, x_shape, kernel_shape, options, message",
    [
        (conv, (4, 4, 2), (3, 3, 2, 2), {}, r"\(4, 4, 2\).*expected \[B, H, W, C\]"),
        (conv, (1, 4, 4, 2), (3, 3, 3, 2), {}, r"2 channels, the kernel \(3, 3, 3, 2\) expects 3"),
        (conv, (1, 4, 4, 2), (3, 3, 2, 2), {"stride": 3}, "stride is 3; expected 1 or 2"),
        (conv, (1, 4, 4, 2), (3, 3, 2, 2), {"padding": "VALID"}, "padding is 'VALID'; expected \"SAME\" or counts"),
        (conv, (1, 4, 4, 2), (3, 3, 2, 2), {"padding": (1, -1)}, r"padding is \(1, -1\)"),
        (conv, (1, 4, 4, 2), (3, 3, 2, 2), {"padding": (1, (1, 1))}, r"padding is \(1, \(1, 1\)\)"),
        (conv, (1, 4, 2, 2), (4, 4, 2, 2), {"padding": 0}, r"kernel \(4, 4\) is larger than the image \(4, 2\)"),
        (conv, (1, 4, 4, 2), (3, 3, 2, 2), {"backward": "fast"}, "backward is 'fast'"),
        (conv_transpose, (1, 4, 4, 2), (3, 3, 3, 2), {}, "2 channels"),
        (conv_transpose, (1, 1, 4, 2), (2, 2, 2, 2), {"padding": 1}, "takes away the whole image"),
        (conv_transpose, (1, 4, 4, 2), (3, 3, 2, 2), {"output_padding": 2, "padding": 1}, "output_padding is 2"),
        (conv_transpose, (1, 4, 4, 2), (3, 3, 2, 2), {"output_padding": 1}, "leave output_padding at 0"),
    ],
)
def test_wrong_inputs(f, x_shape, kernel_shape, options, message):
    with pytest.raises(ValueError, match=message):
        f(*map(jnp.asarray, arrays(x_shape, kernel_shape, "float32")), **options)


def test_wrong_types_and_sub_pixels():
    x, kernel = arrays((1, 4, 4, 2), (3, 3, 2, 2), "float32")
    with pytest.raises(ValueError, match="x is float32, the kernel bfloat16"):
        conv(jnp.asarray(x), jnp.asarray(kernel, jnp.bfloat16))
    with pytest.raises(ValueError, match="6 channels do not divide into 2 x 2"):
        pixel_shuffle(jnp.zeros((1, 2, 2, 6)))
    with pytest.raises(ValueError, match="expected"):
        pixel_shuffle(jnp.zeros((2, 2, 4)))
