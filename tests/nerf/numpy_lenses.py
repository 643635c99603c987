"""COLMAP's camera models in NumPy float64, written out model by model: from a direction to a pixel."""

import numpy as np


def project(model, values, directions):
    """Pixels [N, 2], from the top left corner, of directions [N, 3] with OpenCV axes (looking along +z)."""
    u, v, w = np.asarray(directions, np.float64).T
    fisheye = model.endswith("FISHEYE")
    if model.startswith("SIMPLE") or model.startswith("RADIAL"):
        f, cx, cy, *k = values
        fx = fy = f
        k1, k2 = [*k, 0, 0][:2]
        rest = {"k1": k1, "k2": k2}
    else:
        fx, fy, cx, cy, *k = values
        names = {
            "PINHOLE": (),
            "OPENCV": ("k1", "k2", "p1", "p2"),
            "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
            "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
        }[model]
        rest = dict(zip(names, k, strict=True))
    k = lambda name: rest.get(name, 0.0)
    if fisheye:
        r = np.hypot(u, v)
        theta = np.arctan2(r, w)
        bent = theta * (1 + k("k1") * theta**2 + k("k2") * theta**4 + k("k3") * theta**6 + k("k4") * theta**8)
        safe = np.where(r > 0, r, 1)
        x, y = bent * u / safe, bent * v / safe
    else:
        x, y = u / w, v / w
        r2 = x**2 + y**2
        up = 1 + k("k1") * r2 + k("k2") * r2**2 + k("k3") * r2**3
        radial = up / (1 + k("k4") * r2 + k("k5") * r2**2 + k("k6") * r2**3)
        p1, p2 = k("p1"), k("p2")
        x, y = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y**2)
    return np.stack([fx * x + cx, fy * y + cy], axis=-1)
