"""The benchmark's training steps in plain PyTorch, for comparison alone. Needs torch, which jaxgen does not install.

The layers, losses and optimizers are those of the benchmark's cases, written as PyTorch's users write them: channels
first, fused optimizers, no compilation. torch is imported inside the functions.
"""
