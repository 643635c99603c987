"""Pictures of cameras and of depth."""

import matplotlib
import numpy as np

from jaxgen import pictures


def test_depth_is_divided_by_the_opacity_and_faded_over_white():
    depth = np.array([[2.0, 6.0, 4.0, 1.0, 0.0, 9.0]])
    opacity = np.array([[1.0, 1.0, 1.0, 0.5, 0.0, 1.0]])
    picture = pictures.depth_map(depth, opacity, 2.0, 6.0)
    assert picture.shape == (1, 6, 3) and picture.dtype == np.uint8
    turbo = lambda nearness: np.array(matplotlib.colormaps["turbo"](nearness)[:3])
    warmest, coldest = turbo(1.0), turbo(0.0)
    # Beyond `far` is as cold as at it; half an opacity at the nearest depth is half faded.
    expected = [warmest, coldest, turbo(0.5), (warmest + 1) / 2, np.ones(3), coldest]
    np.testing.assert_allclose(picture[0], 255 * np.array(expected), atol=0.51)


def pose(position):
    """A camera that looks along -z."""
    matrix = np.eye(4)
    matrix[:3, 3] = position
    return matrix


def count(picture, color):
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int(np.all(np.abs(picture.astype(int) - rgb) <= 3, axis=-1).sum())


def test_every_set_of_cameras_has_its_color():
    two = np.stack([pose((0, 0, 2)), pose((1, 0, 2))])
    blue, red = "#3f90da", "#bd1f01"
    one = pictures.cameras({"training": two}, np.zeros(3), 0.5)
    both = pictures.cameras({"training": two, "held out": two + np.array([[0, 0, 0, 0.5]] * 4)}, np.zeros(3), 0.5)
    assert one.shape == both.shape == (672, 768, 3) and one.dtype == np.uint8
    assert count(one, blue) > 20 and not count(one, red)
    assert count(both, blue) > 20 and count(both, red) > 20


def test_the_axes_are_as_long_as_asked():
    cameras = {"training": np.stack([pose((0, 0, 2)), pose((4, 0, 2))])}
    short, long = (count(pictures.cameras(cameras, np.zeros(3), length), "#3f90da") for length in (0.2, 2.0))
    assert long > 1.5 * short
