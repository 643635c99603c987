"""What is wrong with a field that does not train."""

import numpy as np

from jaxgen import nerf

RGB = np.linspace(0, 1, 300, dtype=np.float32).reshape(100, 3)
FLAT = float(np.var(RGB, axis=0).mean())


def metrics(opacity, coarse, fine=None):
    found = {"opacity": np.full(100, opacity), "coarse_squared_error": np.full(100, coarse)}
    return found if fine is None else found | {"fine_squared_error": np.full(100, fine)}


def warned(*arguments):
    found = nerf.warning(*arguments)
    assert found is not None
    return found


def test_a_field_better_than_one_color_is_left_alone():
    assert nerf.warning(metrics(0.0, 0.97 * FLAT), RGB) is None
    assert nerf.warning(metrics(1.0, 0.97 * FLAT), RGB) is None


def test_an_empty_field_has_no_gradient():
    kind, text = warned(metrics(0.001, FLAT), RGB)
    assert kind == "empty" and "the field is empty: mean opacity 0.001 over 100 training rays" in text
    decibels = f"{-10 * np.log10(FLAT):.2f} dB"
    assert text.count(decibels) == 2 and "Its gradient is zero" in text


def test_a_fog_may_still_change():
    kind, text = warned(metrics(1.0, 2 * FLAT), RGB)
    assert kind == "fog" and "no better than one colour: mean opacity 1" in text
    assert f"PSNR {-10 * np.log10(2 * FLAT):.2f} dB" in text


def test_the_fine_network_decides_where_there_is_one():
    assert nerf.warning(metrics(1.0, FLAT, 0.5 * FLAT), RGB) is None
    assert nerf.warning(metrics(1.0, 0.5 * FLAT, FLAT), RGB) is not None


def test_a_good_image_of_nothing_is_no_collapse():
    rgb = np.ones((100, 3), np.float32)
    rgb[:2] = 0
    assert nerf.warning(metrics(0.001, 0.001), rgb) is None
    assert warned(metrics(0.001, 0.02), rgb)[0] == "empty"


def test_a_collapse_is_a_value_error():
    assert issubclass(nerf.Collapsed, ValueError)
