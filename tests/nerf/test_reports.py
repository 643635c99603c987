"""What is said of cameras, how many rays fit into memory, and how the rate falls."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nerf import (
    NeRF,
    Rays,
    decayed_rate,
    describe_poses,
    network_field,
    rays_at_once,
    render_rays,
)
from tests.nerf import numpy_cameras
from tests.programs import in_float32


def ring(number=12, radius=4.0, target=(0.0, 0.0, 0.0)):
    """Poses all around and above a target, at equal steps of height and irrational ones of azimuth."""
    height, azimuth = (np.arange(number) + 0.5) / number, 2.4 * np.arange(number)
    flat = np.sqrt(1 - height**2)
    away = np.stack([flat * np.sin(azimuth), flat * np.cos(azimuth), height], -1)
    return np.stack([numpy_cameras.look_at(target + radius * a, target) for a in away]).astype(np.float32)


def test_the_focus_is_where_the_cameras_look():
    report = describe_poses(ring(target=(0.3, -0.2, 0.1)), 2.0, 6.0)
    np.testing.assert_allclose(report.focus, [0.3, -0.2, 0.1], atol=1e-5)
    assert abs(report.distance - 4) < 1e-5 and report.surrounding and not report.problems
    assert "12 cameras" in report.text and "nearest to +z" in report.text and "what looks wrong: nothing" in report.text


def test_cameras_that_face_one_way_have_a_focus_ahead():
    positions = np.array([[x, y, 0.0] for x in (-0.2, 0, 0.2) for y in (-0.1, 0.1)], np.float32)
    poses = np.stack([numpy_cameras.look_at(p, p + [0, 0, -1.0], [0.0, 1.0, 0.0]) for p in positions])
    report = describe_poses(poses.astype(np.float32), 1.0, 3.0)
    assert not report.surrounding and "facing" in report.text and "+y" in report.text
    np.testing.assert_allclose(report.focus, [0, 0, -2], atol=1e-6)


@pytest.mark.parametrize(
    "poses, near, far, said",
    [
        (ring() * np.array([1, -1, -1, 1], np.float32), 2.0, 6.0, "12 of 12 cameras look away .* opencv_to_opengl"),
        (ring(radius=40.0), 2.0, 6.0, "a point 40 ahead, .* not between near 2 and far 6"),
        (ring(radius=40.0), 20.0, 60.0, "coordinates of .* beyond pi .* Scale the poses, near and far by 0.1"),
        (ring(1), 2.0, 6.0, "There is one camera"),
        (np.concatenate([ring(), ring()[3:4]]), 2.0, 6.0, "Cameras 3 and 12 have the same pose"),
        (ring() * np.array([1, 1, 1, 0.0]) + np.diag([0, 0, 0, 1.0]), 2.0, 6.0, "All cameras stand at one point"),
    ],
)
def test_what_looks_wrong_is_said(poses, near, far, said):
    report = describe_poses(poses, near, far)
    assert any(re.search(said, problem) for problem in report.problems), report.problems
    assert all(problem in report.text for problem in report.problems)


def test_the_memory_of_a_chunk_is_what_was_promised():
    """The compiled program of rays_at_once rays keeps to the memory asked for."""
    network = NeRF(depth=4, width=64, skips=(2,), view_width=32)
    params = {"params": jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 2, 3)), jnp.zeros((1, 3)))}

    class Device:
        platform = "gpu"

        @staticmethod
        def memory_stats():
            return {"bytes_limit": 200 << 20, "bytes_in_use": 40 << 20}

    number = rays_at_once(24, 64, Device(), share=0.25)
    assert number == 1024  # 40 MiB / (4 x 4 x 24 x 64) = 1,706

    def render(params, rays):
        field = network_field(network, params["params"]["params"])
        return render_rays(None, rays, 2.0, 6.0, field, field, num_coarse=16, num_fine=8).best.color

    vectors: Any = jax.ShapeDtypeStruct((number, 3), jnp.float32)
    compiled = jax.jit(render).lower(params, jax.tree.map(lambda _: vectors, Rays(*np.zeros((3, 1, 3))))).compile()
    analysis: Any = compiled.memory_analysis()
    used = analysis.temp_size_in_bytes
    assert used < 40 << 20
    assert rays_at_once(24, 64, Device(), most=100) == 64 and rays_at_once(10**6, 256, Device()) == 64
    assert rays_at_once(64, 64) >= 64  # this machine
    with pytest.raises(ValueError, match="share 0"):
        rays_at_once(24, 64, share=0)


def test_the_rate_falls_as_the_authors_and_rises_as_jaxnerf():
    paper = decayed_rate(5e-4, 5e-5, 500_000)
    delayed = decayed_rate(5e-4, 5e-6, 1_000_000, 2500, 0.01)
    cosine = decayed_rate(4e-3, 1e-4, 100, cosine=True)
    rates, first, rising, falling = in_float32(
        lambda step: (
            [paper(step) for step in (0, 250_000, 500_000)],
            delayed(0),
            delayed(step),
            [cosine(step) for step in (0, 50, 100, 900)],
        ),
        np.int32(1250),
    )
    np.testing.assert_allclose(rates, [5e-4, 5e-4 * 0.1**0.5, 5e-5], rtol=1e-5)
    np.testing.assert_allclose(first, 5e-6, rtol=1e-5)
    expected = 5e-4 * 0.01 ** (1250 / 1e6) * (0.01 + 0.99 * np.sin(np.pi / 4))
    np.testing.assert_allclose(rising, expected, rtol=1e-5)
    np.testing.assert_allclose(falling, [4e-3, 2.05e-3, 1e-4, 1e-4], rtol=1e-5)
    with pytest.raises(ValueError, match="must be positive"):
        decayed_rate(0.0, 1e-4, 10)
