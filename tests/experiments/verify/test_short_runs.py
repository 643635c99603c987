"""Every preset is reduced to a training of seconds by one rule."""

import dataclasses

import pytest

from experiments import contractive_autoencoder, deep_autoencoder, guided_diffusion, sparse_autoencoder, vae
from experiments.verify import short_runs


@pytest.mark.parametrize("script", [deep_autoencoder, sparse_autoencoder, contractive_autoencoder, vae])
def test_every_preset_is_made_small(script):
    for config in script.PRESETS.values():
        small = short_runs.reduce_config(config)
        assert small.train.num_steps == 12 and small.train.batch_size <= 16
        numbers = [v for value in vars(small.model).values() for v in (value if isinstance(value, tuple) else (value,))]
        assert all(v <= 32 for v in numbers if isinstance(v, int))
        assert dataclasses.replace(small.data) == config.data and small.seed == config.seed
    assert deep_autoencoder.PRESETS["paper"].pretraining.batch_size == 100
    assert short_runs.reduce_config(deep_autoencoder.PRESETS["paper"]).pretraining.batch_size == 16
    assert short_runs.reduce_config(vae.PRESETS["mnist"]).optimizer.warmup_steps == 6


@pytest.mark.parametrize("preset", guided_diffusion.PRESETS)
def test_timesteps_are_drawn_by_losses_that_a_few_steps_have_seen(preset):
    small = short_runs.reduce_config(guided_diffusion.PRESETS[preset])
    number = small.timesteps.history * small.process.steps
    assert small.timesteps.sampler == "loss_second_moment" and 4 * number < 12 * small.train.batch_size
    schedule = small.process.make_schedule()
    for sampler in (small.preview, small.evaluation.sampler, small.evaluation.second):
        assert sampler.schedule(schedule).num_steps == 5
