"""Convolutions against their definitions in NumPy and, in the slow tier, against lax's autodiff."""

import itertools
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxgen.nn import Conv, ConvTranspose, SubPixelConv, conv, conv_transpose, pixel_shuffle
from jaxgen.nn.conv import Backward
from tests.parameters import random_parameters
from tests.programs import compiled

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def arrays(x_shape, kernel_shape, dtype):
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape).astype(dtype) for shape in (x_shape, kernel_shape))


def assert_close(found, expected, dtype, case):
    """To the tolerance of the type, relative to the largest entry."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == dtype, case
        scale = float(np.max(np.abs(b)))
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=str(case))


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


# The trilinear form sum x[b, s i + u - p, s j + v - q, c] k[u, v, c, o] y[b, i, j, o] in NumPy


def lax_padding(padding):
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    return padding if padding == "SAME" else [(p, p) if isinstance(p, int) else p for p in padding]


def counts(padding, image, size, stride):
    """((top, bottom), (left, right)); "SAME" by the rule of lax."""
    if padding == "SAME":
        return lax.padtype_to_pads(image, (size, size), (stride, stride), "SAME")
    return lax_padding(padding)


def windows(x, size, stride, pads):
    """The patch of x under the kernel at each position: [B, H, W, C] -> [B, H', W', C, kh, kw]."""
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]


def scattered(x, weight, stride, pads, size):
    """PyTorch's ConvTranspose2d: every input pixel adds its multiple of the kernel. [B, C, h, w], [C, O, kh, kw]."""
    (b, _, h, w), (_, o, kh, kw) = x.shape, weight.shape
    (top, bottom), (left, right) = pads
    full = np.zeros((b, o, top + size[0] + bottom, left + size[1] + right))
    for i, j in itertools.product(range(h), range(w)):
        patch = np.einsum("bc,couv->bouv", x[:, :, i, j], weight)
        full[:, :, stride * i : stride * i + kh, stride * j : stride * j + kw] += patch
    return full[:, :, top : top + size[0], left : left + size[1]]


def trilinear(size, stride, pads, image):
    """The form's derivatives with respect to y, x and k, functions of the other two."""

    def of_y(x, k):
        return np.einsum("bijcuv,uvco->bijo", windows(x, size, stride, pads), k)

    def of_x(k, y):
        found = scattered(y.transpose(0, 3, 1, 2), k.transpose(3, 2, 0, 1), stride, pads, image)
        return found.transpose(0, 2, 3, 1)

    def of_k(x, y):
        return np.einsum("bijcuv,bijo->uvco", windows(x, size, stride, pads), y)

    return of_y, of_x, of_k


def convolution(size, stride, padding, shape):
    """(jaxgen's function, its value and its gradients in NumPy, shapes of x and the kernel)."""
    batch, *image, channels, features = shape
    value, of_x, of_k = trilinear(size, stride, counts(padding, image, size, stride), image)
    ours = partial(conv, backward="forward_form", stride=stride, padding=padding)
    return ours, (value, of_x, of_k), (batch, *image, channels), (size, size, channels, features)


def transposed(size, stride, padding, output_padding, image, result):
    pads = counts(padding, result[:2], size, stride)
    of_y, of_x, of_k = trilinear(size, stride, pads, result[:2])
    maps = (
        lambda x, k: of_x(k.swapaxes(2, 3), x),
        lambda k, g: of_y(g, k.swapaxes(2, 3)),
        lambda x, g: of_k(g, x).swapaxes(2, 3),
    )
    ours = partial(
        conv_transpose, backward="forward_form", stride=stride, padding=padding, output_padding=output_padding
    )
    return ours, maps, (2, *image), (size, size, image[2], result[2])


def first_derivatives(ours, x, kernel, g):
    """The value and the gradients of its product with g."""
    value, pull = jax.vjp(ours, x, kernel)
    return value, *pull(g)


def assert_gradients(cases, dtype, also=None):
    """Value and gradients of all cases in one program; and `also(ours, x, kernel)`, another form of the value."""
    inputs, expected = [], []
    for _, (value, of_x, of_k), *shapes in cases:
        x, kernel = (array.astype(np.float64) for array in arrays(shapes[0], shapes[1], dtype))
        y = value(x, kernel)
        g = np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype).astype(np.float64)
        inputs.append([array.astype(dtype) for array in (x, kernel, g)])
        expected.append((y, of_x(kernel, g), of_k(x, g), *((y,) if also else ())))

    def program(inputs):
        for (ours, *_), (x, kernel, g) in zip(cases, inputs, strict=True):
            yield *first_derivatives(ours, x, kernel, g), *((also(ours, x, kernel),) if also else ())

    with jax.enable_x64(dtype == "float64"):
        found = compiled(lambda inputs: list(program(inputs)))(inputs)
    for case, one, other in zip(cases, found, expected, strict=True):
        assert_close(one, other, dtype, case[0].keywords | {"shapes": case[2:]})


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_value_and_gradients(size):
    """The three maps of each geometry; all higher derivatives consist of them."""
    assert_gradients([convolution(*case) for case in CASES if case[0] == size], "float64")


def test_transposed_value_and_gradients():
    """Also the value of the form whose gradients are XLA's."""
    plain = lambda ours, x, kernel: conv_transpose(x, kernel, **ours.keywords | {"backward": "xla"})
    cases = [transposed(*case) for case in TRANSPOSED]
    for case, (_, (value, *_), x_shape, kernel_shape) in zip(TRANSPOSED, cases, strict=True):
        assert value(np.zeros(x_shape), np.zeros(kernel_shape)).shape == (2, *case[5])
    assert_gradients(cases, "float64", also=plain)


def test_value_and_gradients_in_float32():
    # Each kernel, stride and padding, and channels from 16 on.
    cases = [convolution(*CASES[i]) for i in (8, 11, 22, 29, 33, 40)]
    assert_gradients([*cases, transposed(*TRANSPOSED[0]), transposed(*TRANSPOSED[2])], "float32")


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


def expected_derivatives(value, of_x, of_k, x, kernel):
    """`derivatives` by hand: the form is linear in each of its arguments."""
    y = value(x, kernel)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    g, slope = weights * np.cos(y), -weights * np.sin(y)
    by_x, by_k = of_x(kernel, g), of_k(x, g)
    # |by_x|^2 depends on the kernel directly, and on both through g.
    v = slope * value(2 * by_x, kernel)
    of_first = of_x(kernel, v), of_k(2 * by_x, g) + of_k(x, v)
    v = slope * value(x, 2 * by_k)
    of_second = of_x(2 * by_k, g) + of_x(kernel, v), of_k(x, v)
    return y, (by_x, by_k), [of_first, of_second]


SECOND = {
    "strides": [convolution(4, 1, (2, 1), (2, 6, 5, 3, 2)), convolution(3, 2, ((0, 1), (2, 0)), (1, 5, 6, 2, 2))],
    "many channels": [convolution(*CASES[-1]), transposed(*TRANSPOSED[2])],
    "transposed": [transposed(*TRANSPOSED[6]), transposed(*TRANSPOSED[10])],
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name):
    cases = SECOND[name]
    inputs = [arrays(shapes[0], shapes[1], "float64") for _, _, *shapes in cases]
    program = lambda inputs: [derivatives(case[0], *pair) for case, pair in zip(cases, inputs, strict=True)]
    with jax.enable_x64(True):
        found = compiled(program)(inputs)
    for (ours, maps, *_), pair, one in zip(cases, inputs, found, strict=True):
        assert_close(one, expected_derivatives(*maps, *pair), "float64", ours.keywords)


# All of it against lax's autodiff


def lax_conv(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(x, kernel, (stride, stride), lax_padding(padding), dimension_numbers=DIMENSIONS)


def lax_transpose(x, kernel, *, stride, padding, size):
    """The transpose of lax's convolution of an image of `size`."""
    image = jax.ShapeDtypeStruct((x.shape[0], *size, kernel.shape[3]), x.dtype)
    forward = partial(lax_conv, kernel=kernel.swapaxes(2, 3), stride=stride, padding=padding)
    return jax.linear_transpose(forward, image)(x)[0]


def assert_same_derivatives(f, reference, x, kernel):
    with jax.enable_x64(x.dtype == np.float64):
        found, expected = compiled(lambda x, kernel: [derivatives(g, x, kernel) for g in (f, reference)])(x, kernel)
    assert len(jax.tree.leaves(found)) == 7
    assert_close(found, expected, x.dtype.name, f)


def assert_equals_lax(size, stride, padding, shape, dtype):
    batch, height, width, channels, features = shape
    options = {"stride": stride, "padding": padding}
    x, kernel = arrays((batch, height, width, channels), (size, size, channels, features), dtype)
    ours = partial(conv, backward="forward_form", **options)
    assert_same_derivatives(ours, partial(lax_conv, **options), x, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("size, stride, padding, shape", CASES)
def test_value_gradients_and_second_derivatives_equal_lax(size, stride, padding, shape):
    assert_equals_lax(size, stride, padding, shape, "float64")


@pytest.mark.slow
@settings(derandomize=True, max_examples=8, deadline=None, database=None)
@given(
    st.sampled_from((1, 3, 4, 5)),
    st.sampled_from((1, 2)),
    st.sampled_from(PADDINGS),
    st.tuples(*[st.integers(*bounds) for bounds in ((1, 3), (5, 9), (5, 9), (1, 5), (1, 5))]),
)
def test_float32_equals_lax(size, stride, padding, shape):
    assert_equals_lax(size, stride, padding, shape, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("size, stride, padding, output_padding, image, result", TRANSPOSED)
def test_transposed_derivatives_equal_lax(size, stride, padding, output_padding, image, result):
    x, kernel = arrays((2, *image), (size, size, image[2], result[2]), "float64")
    options = {"stride": stride, "padding": padding}
    ours = partial(conv_transpose, backward="forward_form", output_padding=output_padding, **options)
    assert_same_derivatives(ours, partial(lax_transpose, size=result[:2], **options), x, kernel)


def test_same_is_tensorflows():
    """Two zeros for six rows at stride 2, three for seven columns, the odd one at the right; nothing is flipped."""
    x, kernel = arrays((2, 6, 7, 3), (4, 4, 3, 2), "float64")
    with jax.enable_x64(True):
        y = compiled(partial(conv, stride=2))(x, kernel)
    expected = np.einsum("bijcuv,uvco->bijo", windows(x, 4, 2, ((1, 1), (1, 2))), kernel)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_pixel_shuffle_equals_pytorchs_definition():
    r, (b, h, w, c) = 3, (2, 2, 3, 2)
    x = np.arange(b * h * w * c * r * r).reshape(b, h, w, c * r * r)
    y = np.asarray(jax.jit(lambda x: pixel_shuffle(x, r))(x))
    assert y.shape == (b, h * r, w * r, c)
    for n, i, j, k in itertools.product(range(b), range(h * r), range(w * r), range(c)):
        assert y[n, i, j, k] == x[n, i // r, j // r, k * r**2 + r * (i % r) + j % r]


def test_inside_a_loop_and_mapped():
    """Training steps inside a scan equal the same steps, one at a time, of lax's; and so do gradients under vmap."""
    x, kernels = arrays((3, 2, 6, 6, 2), (3, 3, 3, 2, 2), "float32")
    gradient = lambda conv: jax.grad(lambda k, x: jnp.mean(jnp.square(conv(x, k))))
    ours = gradient(partial(conv, backward="forward_form", stride=2))
    loop = lambda k, x: lax.scan(lambda k, _: (k - 0.01 * ours(k, x), None), k, length=3)[0]
    found, mapped = compiled(lambda k, x: (loop(k[0], x[0]), jax.vmap(ours)(k, x)))(kernels, x)
    plain = compiled(gradient(partial(lax_conv, stride=2, padding="SAME")))
    expected = kernels[0]
    for _ in range(3):
        expected = expected - np.float32(0.01) * np.asarray(plain(expected, x[0]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.max(np.abs(found - kernels[0])) > 1e-3
    np.testing.assert_allclose(mapped, [plain(*pair) for pair in zip(kernels, x, strict=True)], rtol=0, atol=1e-6)


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
    x, kernel = arrays((2, 6, 6, 2), (3, 3, 2, 3), "float32")
    plain = lax.conv_dimension_numbers(x.shape, kernel.shape, DIMENSIONS)
    forms = {}
    for backward in get_args(Backward):
        loss = lambda x, k, backward=backward: jnp.sum(jnp.square(conv(x, k, stride=2, backward=backward)))
        forms[backward] = list(operations(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel).jaxpr))
    assert len(forms["forward_form"]) == 3 and set(forms["forward_form"]) == {plain}
    assert set(forms["xla"]) != {plain}
    assert forms["auto"] == forms["forward_form" if jax.default_backend() == "cpu" else "xla"]


def test_forward_mode_where_xla_differentiates():
    x, kernel = arrays((1, 5, 5, 2), (3, 3, 2, 3), "float32")
    f = lambda backward: partial(conv, kernel=kernel, backward=backward)
    value, tangent = compiled(lambda x: jax.jvp(f("xla"), (x,), (x,)))(x)
    np.testing.assert_allclose(tangent, value, rtol=0, atol=1e-5)
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
    x, _ = arrays((2, 5, 4, 3), (1, 1, 1, 1), "float32")
    parameters = random_parameters(layer, x)
    leaf = parameters.get("conv", parameters)
    assert leaf["kernel"].shape == (*size, 3, features) and leaf["bias"].shape == (features,)
    leaf["bias"] = np.arange(1.0, features + 1, dtype=np.float32)

    def by_hand(x, kernel, bias):
        y = plain(x, kernel) + bias.reshape(1, 1, 1, -1)
        return pixel_shuffle(y) if isinstance(layer, SubPixelConv) else y

    both = lambda p, x: (layer.apply({"params": p}, x), by_hand(x, leaf["kernel"], leaf["bias"]))
    found, expected = compiled(both)(parameters, x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    without = random_parameters(layer.clone(use_bias=False), x)
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
        f(*arrays(x_shape, kernel_shape, "float32"), **options)


def test_wrong_types_and_sub_pixels():
    x, kernel = arrays((1, 4, 4, 2), (3, 3, 2, 2), "float32")
    with pytest.raises(ValueError, match="x is float32, the kernel bfloat16"):
        conv(x, kernel.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="6 channels do not divide into 2 x 2"):
        pixel_shuffle(np.zeros((1, 2, 2, 6)))
    with pytest.raises(ValueError, match="expected"):
        pixel_shuffle(np.zeros((2, 2, 4)))
