"""The layers of the published U-Nets in float64 NumPy, from the papers and the authors' code, for one example."""

import numpy as np


def swish(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def group_norm(x, p, groups, epsilon):
    """x [H, W, C]."""
    y = np.empty_like(x)
    size = x.shape[-1] // groups
    for g in range(groups):
        part = x[..., g * size : (g + 1) * size]
        y[..., g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return y * p["scale"] + p["bias"]


def conv3(x, p, stride=1, pad=((1, 1), (1, 1))):
    x = np.pad(x, (*pad, (0, 0)))
    rows, columns = (x.shape[0] - 3) // stride + 1, (x.shape[1] - 3) // stride + 1
    y = np.empty((rows, columns, p["kernel"].shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[i * stride : i * stride + 3, j * stride : j * stride + 3]
            y[i, j] = np.tensordot(window, p["kernel"], 3) + p["bias"]
    return y


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def halve(x):
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def double(x):
    return x.repeat(2, axis=0).repeat(2, axis=1)


def residual_block(x, embedding, p, groups, epsilon, scale_shift=False, resample=lambda x: x):
    """x [H, W, C], embedding [E] before its swish."""
    h = conv3(resample(swish(group_norm(x, p["norm1"], groups, epsilon))), p["conv1"])
    e = dense(swish(embedding), p["embedding"])
    if scale_shift:
        scale, shift = e[: len(e) // 2], e[len(e) // 2 :]
        h = group_norm(h, p["norm2"], groups, epsilon) * (1 + scale) + shift
    else:
        h = group_norm(h + e, p["norm2"], groups, epsilon)
    h = conv3(swish(h), p["conv2"])
    x = resample(x)
    return h + (dense(x, p["skip"]) if "skip" in p else x)


def attention(x, p, groups, epsilon, heads, qkv_first):
    """x [H, W, C]; the channels of qkv are (q k v, head, D) or (head, q k v, D)."""
    height, width, channels = x.shape
    size = channels // heads
    qkv = dense(group_norm(x, p["norm"], groups, epsilon).reshape(-1, channels), p["qkv"])
    out = np.empty((height * width, channels))
    for head in range(heads):
        first = [i * channels + head * size if qkv_first else (3 * head + i) * size for i in range(3)]
        q, k, v = (qkv[:, a : a + size] for a in first)
        out[:, head * size : (head + 1) * size] = softmax(q @ k.T / np.sqrt(size)) @ v
    return x + dense(out, p["project"]).reshape(x.shape)


def time_embedding(t, width):
    """Ho et al.'s: sines, then cosines."""
    half = width // 2
    angles = t / 10000 ** (np.arange(half) / (half - 1))
    return np.concatenate([np.sin(angles), np.cos(angles)])


def ddpm_unet(x, t, p, *, channels, levels, num_blocks, resolutions, groups, epsilon=1e-6):
    """Ho et al.'s network on one example: x [H, W, C]."""
    e = dense(swish(dense(time_embedding(t, channels), p["time_0"])), p["time_1"])

    def block(h, name):
        h = residual_block(h, e, p[name], groups, epsilon)
        name = name.replace("block", "attention")
        return attention(h, p[name], groups, epsilon, 1, True) if h.shape[0] in resolutions else h

    passed = [conv3(x, p["conv_in"])]
    for level in range(levels):
        for i in range(num_blocks):
            passed.append(block(passed[-1], f"down_{level}_block_{i}"))
        if level + 1 < levels:
            passed.append(conv3(passed[-1], p[f"down_{level}_resample"]["conv"], 2, ((0, 1), (0, 1))))
    h = residual_block(passed[-1], e, p["middle_block_0"], groups, epsilon)
    h = attention(h, p["middle_attention"], groups, epsilon, 1, True)
    h = residual_block(h, e, p["middle_block_1"], groups, epsilon)
    for level in reversed(range(levels)):
        for i in range(num_blocks + 1):
            h = block(np.concatenate([h, passed.pop()], axis=-1), f"up_{level}_block_{i}")
        if level:
            h = conv3(double(h), p[f"up_{level}_resample"]["conv"])
    return conv3(swish(group_norm(h, p["norm_out"], groups, epsilon)), p["conv_out"])
