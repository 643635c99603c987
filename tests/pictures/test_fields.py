"""A probability over the plane, pixel by pixel."""

import numpy as np

from jaxgen import pictures

BLUE, ORANGE = np.array([0x3F, 0x90, 0xDA]), np.array([0xE7, 0x63, 0x00])


def test_one_is_blue_zero_is_orange_and_one_half_white_with_y_upwards():
    asked = []

    def probability(x):
        asked.append(x)
        return np.select([x[:, 1] > 1, x[:, 1] < -1], [1.0, 0.0], 0.5)

    picture = pictures.probability_field(probability, 3.0, resolution=3, factor=2)
    assert picture.shape == (6, 6, 3) and picture.dtype == np.uint8
    assert asked[0].dtype == np.float32
    np.testing.assert_allclose(np.unique(asked[0][:, 0]), [-2, 0, 2])
    expected = [255 + 0.55 * (color - 255.0) for color in (BLUE, np.full(3, 255), ORANGE)]
    for row, color in enumerate(expected):
        np.testing.assert_array_equal(picture[2 * row : 2 * row + 2], np.broadcast_to(np.rint(color), (2, 6, 3)))


def test_x_points_right():
    picture = pictures.probability_field(lambda x: (x[:, 0] > 0).astype(float), 1.0, resolution=2, factor=1)
    np.testing.assert_array_equal(picture[:, 0], np.broadcast_to(np.rint(255 + 0.55 * (ORANGE - 255.0)), (2, 3)))
    np.testing.assert_array_equal(picture[:, 1], np.broadcast_to(np.rint(255 + 0.55 * (BLUE - 255.0)), (2, 3)))


def half(x):
    return np.full(len(x), 0.5)


def test_points_are_dots_and_those_outside_are_left_out():
    picture = pictures.probability_field(half, 1.0, [[0.5, 0.5], [3.0, 0.0], [0.0, -9.0]], resolution=10, factor=4)
    rows, columns = np.nonzero(np.any(picture != 255, axis=-1))
    # (0.5, 0.5) is in pixel 30 from the left and 10 from the top.
    assert sorted(zip(rows, columns, strict=True)) == [(r, c) for r in (9, 10, 11) for c in (29, 30, 31)]
    np.testing.assert_array_equal(picture[10, 30], (ORANGE * 0.75).astype(np.uint8))


def test_rings_are_circles_around_their_places():
    picture = pictures.probability_field(half, 1.0, (), [[0.0, 0.5]], resolution=20, factor=4)
    rows, columns = np.nonzero(np.all(picture == 30, axis=-1))
    radius = np.hypot(rows + 0.5 - 20, columns + 0.5 - 40)
    assert len(rows) > 60 and 8 < radius.min() and radius.max() < 10
    assert abs(rows.mean() + 0.5 - 20) < 0.1 and abs(columns.mean() + 0.5 - 40) < 0.1
