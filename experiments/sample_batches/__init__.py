"""Samples of released or own diffusion networks in the usual npz format, and their metrics.

A sample batch is an .npz with `arr_0`, uint8 images [N, H, W, C], and, where there are classes, `arr_1`, int64 labels
[N].
"""
