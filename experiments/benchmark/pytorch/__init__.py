"""The benchmark's training steps in plain PyTorch, for comparison. Needs torch, which jaxgen does not install.

The layers, losses and optimizers are those of the benchmark's cases, in PyTorch's usual style: channels first, fused
optimizers, no compilation. The modules import torch, so they are imported where a step is measured
(`experiments.benchmark.steps.in_torch`).
"""
