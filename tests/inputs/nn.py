"""Calls of `jaxgen.nn`."""

from tests.inputs import call, unit

EXEMPT = {
    "at_least_float32": "takes a dtype",
    "dense_dot": "takes the arguments of lax.dot_general, as Flax gives them; tests/nn/test_products.py",
}


def calls():
    x, kernel = unit(2, 4, 4, 3), unit(3, 3, 3, 2)
    return {
        "conv": call("x:1", "kernel:1", x=x, kernel=kernel),
        "conv_transpose": call("x:1", "kernel:1", x=x, kernel=kernel),
        "group_norm": call("x:1", x=unit(2, 3, 4), scale=unit(4), bias=unit(4), num_groups=2),
        "matmul": call("x:1", x=unit(2, 3), kernel=unit(3, 4)),
        "nearest": call(x=x),
        "pixel_shuffle": call(x=unit(2, 3, 3, 4)),
        "upsampled_conv": call("x:1", x=x, kernel=kernel),
    }
