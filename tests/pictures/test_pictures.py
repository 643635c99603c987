import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageSequence

from jaxgen import pictures

ROOT = Path(__file__).resolve().parents[1]


def rgb(hex_color):
    return np.array([int(hex_color[i : i + 2], 16) for i in (1, 3, 5)])


def near(picture, color, tolerance=3):
    """Where the picture has a colour: bool [H, W]."""
    return np.all(np.abs(picture.astype(int) - color) <= tolerance, axis=-1)


class TestGrid:
    def test_places_every_pixel(self):
        images = np.linspace(0, 1, 5 * 2 * 3).reshape(5, 2, 3)
        picture = pictures.grid(images, columns=2, padding=1, background=(1.0, 0.0, 0.2))
        assert picture.shape == (3 * 3 + 1, 2 * 4 + 1, 3) and picture.dtype == np.uint8
        expected = np.empty_like(picture)
        expected[:] = (255, 0, 51)
        for i in range(5):
            for y, x in itertools.product(range(2), range(3)):
                level = round(255 * images[i, y, x])
                expected[1 + 3 * (i // 2) + y, 1 + 4 * (i % 2) + x] = level
        np.testing.assert_array_equal(picture, expected)

    def test_is_about_square_by_default(self):
        assert pictures.grid(np.zeros((10, 1, 1)), padding=0).shape == (3, 4, 3)

    @pytest.mark.parametrize("shape", [(4, 2, 3), (4, 2, 3, 1)])
    def test_grey_images_have_three_equal_channels(self, shape):
        images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
        picture = pictures.grid(images, columns=4, padding=0)
        expected = np.concatenate(np.rint(255 * images.reshape(4, 2, 3)), axis=1)
        np.testing.assert_array_equal(picture, np.stack([expected] * 3, axis=-1))

    def test_keeps_colours_and_bytes(self):
        images = np.random.default_rng(0).integers(0, 256, size=(1, 4, 5, 3), dtype=np.uint8)
        np.testing.assert_array_equal(pictures.grid(images, padding=0), images[0])
        np.testing.assert_array_equal(pictures.grid(images / 255, padding=0), images[0])

    def test_takes_what_rounding_hides_and_no_more(self):
        picture = pictures.grid(np.array([[[-0.0019, 1.0019]]]), padding=0)
        np.testing.assert_array_equal(picture[0, :, 0], [0, 255])
        for value in (-0.003, 1.003):
            with pytest.raises(ValueError, match="rescale=True"):
                pictures.grid(np.full((1, 1, 1), value))

    def test_rescale_stretches_each_image_alone(self):
        images = np.array([[[-3.0, 1.0, 5.0]], [[0.1, 0.2, 0.2]], [[7.0, 7.0, 7.0]]])
        picture = pictures.grid(images, columns=1, padding=0, rescale=True)
        np.testing.assert_array_equal(picture[..., 0], [[0, 128, 255], [0, 255, 255], [128, 128, 128]])

    @pytest.mark.parametrize("rescale", [False, True])
    def test_refuses_what_is_not_finite(self, rescale):
        with pytest.raises(ValueError, match="1 values of the images are not finite"):
            pictures.grid(np.array([[[0.5, np.nan]]]), rescale=rescale)

    @pytest.mark.parametrize("shape", [(0, 2, 2), (2, 2), (1, 2, 2, 2), (1, 0, 2, 3)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match="images have shape"):
            pictures.grid(np.zeros(shape))

    def test_refuses_impossible_layouts(self):
        with pytest.raises(ValueError, match="columns is 0"):
            pictures.grid(np.zeros((1, 1, 1)), columns=0)
        with pytest.raises(ValueError, match="padding -1"):
            pictures.grid(np.zeros((1, 1, 1)), padding=-1)
        with pytest.raises(ValueError, match="background is 255"):
            pictures.grid(np.zeros((1, 1, 1)), background=255)


class TestStrip:
    rows = np.random.default_rng(0).uniform(size=(2, 3, 4, 5))

    def test_is_one_row_of_images_for_each_array(self):
        picture = pictures.strip(self.rows, factor=2, background=0.0)
        expected = pictures.grid(self.rows.reshape(6, 4, 5), columns=3, background=0.0)
        np.testing.assert_array_equal(picture, pictures.upscale(expected, 2))
        np.testing.assert_array_equal(pictures.strip(self.rows[:1]), pictures.grid(self.rows[0], columns=3))

    def test_grey_and_coloured_rows_go_together(self):
        coloured = np.stack([self.rows[1], 0 * self.rows[1], self.rows[1]], axis=-1)
        picture = pictures.strip([self.rows[0], coloured], padding=0)
        assert picture.shape == (8, 15, 3)
        assert not picture[4:, :, 1].any() and picture[:4, :, 1].any()

    def test_names_are_left_of_the_images_each_in_its_row(self):
        plain = pictures.strip(self.rows, factor=5)
        named = pictures.strip(self.rows, ["original", ""], factor=5)
        width = named.shape[1] - plain.shape[1]
        np.testing.assert_array_equal(named[:, width:], plain)
        ink = np.any(named[:, :width] < 128, axis=(1, 2))
        assert 5 < ink[:25].sum() < 20 and not ink[25:].any()
        # At half the height of its row.
        assert abs(np.flatnonzero(ink).mean() - 12.5) < 3
        # Whole letters: nothing touches the edges of the column.
        assert (named[:, [0, 1, width - 2, width - 1]] == 255).all()

    def test_names_are_light_on_dark(self):
        named = pictures.strip(self.rows, ["a", "b"], factor=5, background=0.0)
        assert (named[:, :10] > 200).any() and (named[:, :3] == 0).all()

    def test_refusals(self):
        with pytest.raises(ValueError, match="1 labels for 2 rows"):
            pictures.strip(self.rows, ["a"], factor=5)
        with pytest.raises(ValueError, match="use factor=3"):
            pictures.strip(self.rows, ["a", "b"], factor=2)
        pictures.strip(self.rows, ["a", "b"], factor=3)
        with pytest.raises(ValueError, match="the rows' shapes"):
            pictures.strip([self.rows[0], self.rows[1, :2]])
        with pytest.raises(ValueError, match="at least one row"):
            pictures.strip([])


def test_upscale_is_a_kronecker_product():
    image = np.random.default_rng(0).integers(0, 256, size=(3, 4), dtype=np.uint8)
    expected = np.kron(image, np.ones((3, 3), np.uint8))
    np.testing.assert_array_equal(pictures.upscale(image, 3), expected)
    coloured = pictures.upscale(np.stack([image, image + 1], axis=-1), 3)
    np.testing.assert_array_equal(coloured, np.stack([expected, expected + 1], axis=-1))
    with pytest.raises(ValueError, match="factor is 0"):
        pictures.upscale(image, 0)


class TestFiles:
    def test_png_holds_the_same_bytes(self, tmp_path):
        rng = np.random.default_rng(0)
        for shape in [(5, 7), (5, 7, 3)]:
            image = rng.integers(0, 256, size=shape, dtype=np.uint8)
            pictures.save_png(tmp_path / "a.png", image)
            with Image.open(tmp_path / "a.png") as read:
                np.testing.assert_array_equal(read, image)
            colour = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image
            np.testing.assert_array_equal(pictures.read_png(tmp_path / "a.png"), colour)
        (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
        with pytest.raises(ValueError, match=r"a\.png: cannot be decoded \(it is a PostScript file"):
            pictures.read_png(tmp_path / "a.png")

    def test_gif_holds_grey_frames_exactly_and_repeats_for_ever(self, tmp_path):
        rng = np.random.default_rng(0)
        frames = np.array([rng.permutation(256).reshape(16, 16) for _ in range(4)], np.uint8)
        for shown in (frames, np.repeat(frames[..., None], 3, axis=-1)):
            pictures.save_gif(str(tmp_path / "a.gif"), shown, 0.25)
            with Image.open(tmp_path / "a.gif") as read:
                assert isinstance(read, GifImagePlugin.GifImageFile)
                assert (read.n_frames, read.info["loop"], read.info["duration"]) == (4, 0, 250)
                for frame, expected in zip(ImageSequence.Iterator(read), frames, strict=True):
                    np.testing.assert_array_equal(frame.convert("L"), expected)

    def test_gif_keeps_up_to_256_colours(self, tmp_path):
        colors = np.array([rgb(c) for c in pictures.COLORS], np.uint8)
        frames = [np.roll(colors, i, axis=0).reshape(2, 5, 3) for i in range(3)]
        pictures.save_gif(tmp_path / "a.gif", frames, 0.1)
        with Image.open(tmp_path / "a.gif") as read:
            for frame, expected in zip(ImageSequence.Iterator(read), frames, strict=True):
                np.testing.assert_array_equal(frame.convert("RGB"), expected)

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        pictures.save_png(path, np.zeros((2, 2), np.uint8))
        before = path.read_bytes()

        def full_disk(self, file, *args, **kwargs):
            with open(file, "wb") as out:
                out.write(b"half")
            raise OSError("no space left")

        monkeypatch.setattr(Image.Image, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            pictures.save_png(path, np.ones((2, 2), np.uint8))
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("image", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8)])
    def test_png_refuses_what_is_not_a_picture(self, tmp_path, image):
        with pytest.raises(ValueError, match="need uint8"):
            pictures.save_png(tmp_path / "a.png", image)
        assert not list(tmp_path.iterdir())

    def test_gif_refusals(self, tmp_path):
        black = np.zeros((2, 2), np.uint8)
        with pytest.raises(ValueError, match="0 frames"):
            pictures.save_gif(tmp_path / "a.gif", [])
        with pytest.raises(ValueError, match="all alike"):
            pictures.save_gif(tmp_path / "a.gif", [black, black[:1]])
        with pytest.raises(ValueError, match="0.02"):
            pictures.save_gif(tmp_path / "a.gif", [black], 0.01)


# Linear-RGB matrices of full protanopia, deuteranopia and tritanopia:
# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(srgb, blindness):
    """sRGB in [0, 1] -> CIELAB (D65) as seen with a colour blindness."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(blindness), 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    t = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_any_two_of_the_ten_colours_differ_for_every_eye(kind):
    colors = lab(np.array([rgb(c) for c in pictures.COLORS]) / 255, BLINDNESS[kind])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)]
    # A difference of 2.3 is just noticeable (Mahy, Van Eycken & Oosterlinck 1994).
    assert len(pictures.COLORS) == 10 and min(distances) > 3 * 2.3, min(distances)


class TestScatter:
    def test_shows_each_class_in_its_colour_where_it_is(self):
        angle = 2 * np.pi * np.arange(10) / 10
        centres = 10 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        points = np.repeat(centres, 200, axis=0)
        points += 0.8 * np.random.default_rng(0).normal(size=points.shape)
        labels = np.repeat(np.arange(10), 200)
        picture = pictures.scatter(points, labels, "ten classes")
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        legend_from = int(0.9 * picture.shape[1])
        found = []
        for color in pictures.COLORS:
            here = near(picture, rgb(color))
            assert here[:, legend_from:].sum() > 20, "no legend entry"
            y, x = np.nonzero(here[:, :legend_from])
            found.append((np.median(x), -np.median(y)))
        # An affine map with one scale for both axes takes the centres to the picture.
        found = np.array(found) - np.mean(found, axis=0)
        scale = np.sum(found * centres) / np.sum(centres**2)
        assert scale > 0
        np.testing.assert_allclose(found, scale * centres, atol=1.2 * scale)

    def test_without_labels_there_is_one_colour_and_no_legend(self):
        picture = pictures.scatter(np.random.default_rng(0).normal(size=(50, 2)))
        assert near(picture, rgb(pictures.COLORS[0]), 60).sum() > 100
        assert not any(near(picture, rgb(c)).any() for c in pictures.COLORS[1:3])

    def test_refusals(self):
        points = np.zeros((3, 2))
        with pytest.raises(ValueError, match=r"need \[N, 2\]"):
            pictures.scatter(points.T)
        with pytest.raises(ValueError, match=r"labels \(2,\)"):
            pictures.scatter(points, [0, 1])
        with pytest.raises(ValueError, match="1 coordinates of points are not finite"):
            pictures.scatter(points + [[0, np.inf], [0, 0], [0, 0]])
        for labels, names in [([0, 1, 10], None), ([-1, 0, 1], None), ([0, 1, 2], ["a", "b"])]:
            with pytest.raises(ValueError, match="need integers from 0 to"):
                pictures.scatter(points, labels, names=names)
        with pytest.raises(ValueError, match="labels are float64"):
            pictures.scatter(points, [0.0, 1.0, 0.5])


def middle_of_line(picture, color):
    """(columns, rows) of a line's middle, left of the legend."""
    here = near(picture, rgb(color), 2)[:, : int(0.75 * picture.shape[1])]
    columns = np.nonzero(here.any(axis=0))[0]
    return columns, np.array([np.nonzero(here[:, c])[0].mean() for c in columns])


class TestCurves:
    x = np.arange(1.0, 200.0)

    @pytest.mark.parametrize(
        "log, straight, bent",
        [
            ("", lambda x: 3 - 2 * x, lambda x: 1 / x),
            ("y", lambda x: np.exp(-x / 20), lambda x: 1 / x),
            ("xy", lambda x: x**-2, lambda x: np.exp(-x / 20)),
            ("x", lambda x: np.log(x), lambda x: x),
        ],
    )
    def test_axes_are_linear_or_logarithmic_as_asked(self, log, straight, bent):
        def departure(y):
            picture = pictures.curves({"y": (self.x, y(self.x))}, "x", "y", log)
            columns, rows = middle_of_line(picture, pictures.COLORS[0])
            assert len(columns) > 200
            line = np.polynomial.Polynomial.fit(columns, rows, 1)
            return np.abs(rows - line(columns)).max()

        assert departure(straight) < 2 < 15 < departure(bent)

    def test_each_name_has_a_colour_and_an_entry(self):
        series = {f"run {i}": (self.x, i + 0 * self.x) for i in range(10)}
        picture = pictures.curves(series, "step", "loss", title="ten runs")
        heights = []
        for color in pictures.COLORS:
            here = near(picture, rgb(color), 2)
            columns = np.nonzero(here.any(axis=0))[0]
            assert np.diff(columns).max() > 5, "no legend entry beside the line"
            heights.append(-middle_of_line(picture, color)[1].mean())
        steps = np.diff(heights)
        np.testing.assert_allclose(steps, steps[0], atol=1.5)
        assert steps[0] > 10

    def test_a_value_that_is_not_finite_is_a_gap(self):
        y = np.zeros_like(self.x)
        y[80:120] = np.nan
        columns, _ = middle_of_line(pictures.curves({"y": (self.x, y)}), pictures.COLORS[0])
        assert np.diff(columns).max() > 50

    def test_refusals(self):
        with pytest.raises(ValueError, match="0 series"):
            pictures.curves({})
        with pytest.raises(ValueError, match="11 series"):
            pictures.curves({str(i): ([1], [1]) for i in range(11)})
        with pytest.raises(ValueError, match="log is True"):
            pictures.curves({"a": ([1], [1])}, log=True)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="test loss: y has 1 values <= 0, the least -2"):
            pictures.curves({"test loss": ([1, 2], [-2, 1])}, log="y")
        with pytest.raises(ValueError, match=r"b: x has shape \(2,\)"):
            pictures.curves({"b": ([1, 2], [1])})


def test_drawing_touches_no_global_state():
    # Another process, because other tests may have imported pyplot.
    program = """
import sys
import matplotlib
from jaxgen import pictures
before = matplotlib.rcParams.copy()
pictures.curves({"a": ([1, 2], [1, 2])})
pictures.scatter([[0, 0], [1, 1]], [0, 1])
# Not ==: it looks rcParams["backend"] up, which imports pyplot.
assert dict.__eq__(matplotlib.rcParams, before)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT)
