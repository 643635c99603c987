"""Shared by the experiments: the command line, sweeps, checks, the choice of images, figures, run folders, the cache.

This file imports nothing, because the compilation cache is set up before jax is imported.
"""
