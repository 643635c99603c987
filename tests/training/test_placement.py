"""A model shared by devices: where its arrays lie, and that the same update gives the same training to rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxgen import diffusion, training
from jaxgen.training import keys, placement
from tests.training.engine_toy import BATCH, BATCHES, OPTIMIZER, Config, compiled, run_steps, state, update

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize(
    "shape, devices, expected",
    [
        ((3, 3, 64, 128), 4, (None, None, None, "model")),
        ((3, 3, 128, 64), 4, (None, None, "model")),
        ((64, 64), 4, (None, "model")),
        ((1000, 30), 4, ("model",)),
        ((30, 1001), 4, ()),
        ((30, 1001), 3, ("model",)),
        ((0, 8), 4, (None, "model")),
        ((4096,), 4, ()),
        ((), 4, ()),
    ],
)
def test_the_largest_axis_that_divides_is_cut(shape, devices, expected):
    assert placement.array_spec(shape, devices) == PartitionSpec(*expected)


def test_bytes_of_a_device_by_hand():
    shapes = {"kernel": (3, 8), "bias": (8,), "step": (), "odd": (3, 5)}
    tree = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert training.bytes_per_device(tree, 4) == 3 * 8 * 4 // 4 + 8 * 4 + 4 + 3 * 5 * 4
    assert training.bytes_per_device(tree, 1) == 3 * 8 * 4 + 8 * 4 + 4 + 3 * 5 * 4


def shared(**options):
    return {"backend": "shard_map", "model_parallel_size": 2, "devices": 4, **options}


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(x.astype(np.float64) - y))) for x, y in pairs)


SGD = optax.sgd(1e-2)
ONE_ROW = shared(devices=2)


@pytest.mark.parametrize(
    "options, optimizer",
    [
        (shared(), OPTIMIZER),
        ({**ONE_ROW, "accumulate": 2}, OPTIMIZER),
        pytest.param(ONE_ROW, OPTIMIZER, marks=pytest.mark.slow),
        pytest.param(shared(), SGD, marks=pytest.mark.slow),
        pytest.param(shared(model_parallel_size=4), SGD, marks=pytest.mark.slow),
        pytest.param(shared(accumulate=2), SGD, marks=pytest.mark.slow),
    ],
)
def test_it_equals_the_whole_model_to_rounding(options, optimizer):
    """Adam hides a gradient that is too large by a number of devices; the metrics include its norm; SGD shows it."""
    whole, cut = (run_steps([4, 1], optimizer=optimizer, **chosen) for chosen in ({}, options))
    assert largest_difference(whole[0], cut[0]) < 1e-6
    assert largest_difference(whole[1].totals, cut[1].totals) < 1e-4
    assert cut[0].step == 5


def test_every_device_holds_its_piece_alone():
    parallel = compiled(devices=4, options=(("backend", "shard_map"), ("model_parallel_size", 2)))
    begin = state()
    first = parallel.place(begin)
    placed = parallel.place(first)
    made = parallel.create(state)
    assert training.tree_digest(placed) == training.tree_digest(begin)
    assert largest_difference(jax.device_get(made), jax.device_get(begin)) < 1e-6
    end, sums = parallel(placed, parallel.empty_sums(begin, keys.root(0)), keys.root(0), None, 3)
    assert jax.tree.leaves(placed.params)[0].is_deleted() and not jax.tree.leaves(first.params)[0].is_deleted()
    assert np.isfinite(begin.params["in"]).all()
    for tree in (made, end):
        adam = tree.opt_state[1][0]
        for group in (tree.params, tree.ema, adam.mu, adam.nu):
            assert {shard.data.shape for shard in group["in"].addressable_shards} == {(6, 4)}
            assert {shard.data.shape for shard in group["out"].addressable_shards} == {(4, 6)}
            # Two pieces, each of them twice, the same in both rows.
            copies = {str(shard.index): [] for shard in group["in"].addressable_shards}
            for shard in group["in"].addressable_shards:
                copies[str(shard.index)].append(np.asarray(shard.data))
            assert len(copies) == 2 and all(np.array_equal(*pair) for pair in copies.values())
    assert int(sums.count) == 3


def inner(jaxpr):
    """All equations of a program, those of its loops and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from inner(getattr(value, "jaxpr", value))


@pytest.mark.parametrize("devices", [4, 2])
def test_every_step_ends_with_a_cut_state(devices):
    """Where the loop's state were whole on each device, as XLA may choose, it would need the memory of the whole."""
    parallel = compiled(devices=devices, options=(("backend", "shard_map"), ("model_parallel_size", 2)))
    begin, sums = state(), parallel.empty_sums(state(), keys.root(0))
    steps = parallel._program_for(begin)
    arguments = begin, sums, keys.root(0), parallel._arrays, parallel._positions, None, np.int32(1)
    loops = [e for e in inner(jax.make_jaxpr(steps)(*arguments).jaxpr) if e.primitive.name == "while"]
    body = loops[0].params["body_jaxpr"].jaxpr
    cuts = [e.params["sharding"].spec for e in inner(body) if e.primitive.name == "sharding_constraint"]
    assert len(loops) == 1 and cuts == jax.tree.leaves(placement.tree_specs(begin, 2))


def test_a_run_goes_on_where_devices_share_otherwise(tmp_path):
    def go_on(num_steps, **options):
        config = Config()
        train = dataclasses.replace(config.train, num_steps=num_steps, save_every=2, log_every=2, **options)
        config = dataclasses.replace(config, train=train)
        grows = ("train.num_steps",)
        with training.Run(tmp_path / "run", config, experiment="toy", quiet=True, extendable_fields=grows) as run:
            end = training.fit(run, train, update=update(), state=state, batches=BATCHES, key=keys.root(0))
            return jax.device_get(end)

    go_on(4, devices=4, model_parallel_size=2)
    go_on(6, devices=2)
    end = go_on(8, devices=2, model_parallel_size=2)
    straight, _ = run_steps([8])
    assert largest_difference(end, straight) < 1e-6


@pytest.mark.slow
def test_a_unet_is_cut_and_trains_alike():
    """Convolutions, normalisation, attention and dropout, whose arithmetic XLA divides."""
    network = diffusion.UNet(1, 1, 32, (1, 2), 1, (4,), num_classes=3, scale_shift=True)
    shapes = diffusion.parameter_shapes(network, 8)
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda s: generator.normal(size=s.shape, scale=0.1).astype(np.float32), shapes)
    images = generator.normal(size=(8, 8, 8, 1)).astype(np.float32)

    def loss(params, batch, keys_per_example, context):
        given = batch["x"], jnp.full(len(batch["x"]), 3), jnp.zeros(len(batch["x"]), jnp.int32), keys_per_example
        return jnp.mean(jnp.square(jnp.asarray(network.apply({"params": params}, *given)) - 1.0), axis=(1, 2, 3)), {}

    def trained(**options):
        parallel = training.ParallelUpdate(
            training.update_from_objective(loss, SGD),
            training.DeviceBatches(lambda key, arrays, step, positions: {"x": arrays[positions]}, images),
            batch_size=8, backend="shard_map", **options,
        )  # fmt: skip
        begin = training.create_state(params, SGD)
        sums = parallel.empty_sums(begin, keys.root(0))
        end, _ = parallel(parallel.place(begin), sums, keys.root(0), None, 2)
        return end

    cut = trained(devices=jax.devices()[:4], model_parallel_size=2)
    kernel = cut.params["up_1_block_0"]["conv1"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(3, 3, 64, 64)}
    whole = jax.device_get(trained(devices=jax.devices()[:1]))
    assert largest_difference(jax.device_get(cut).params, whole.params) < 1e-5
    assert largest_difference(whole.params, params) > 1e-3


def test_what_cannot_go_together():
    make = lambda devices, **options: training.ParallelUpdate(
        update(), BATCHES, batch_size=BATCH, devices=jax.devices()[:devices], **options
    )
    with pytest.raises(ValueError, match="4 devices do not form rows of model_parallel_size = 3; 6 would"):
        make(4, model_parallel_size=3, backend="shard_map")
    with pytest.raises(ValueError, match="devices that share a model need 'shard_map'"):
        make(4, model_parallel_size=2)
    with pytest.raises(ValueError, match="leave model_parallel_size at 1"):
        make(4, model_parallel_size=2, backend="shard_map", exact_shards=4)
    with pytest.raises(ValueError, match="16 does not divide into 3 devices x accumulate 1"):
        make(6, model_parallel_size=2, backend="shard_map")
    with pytest.raises(ValueError, match="model_parallel_size is 0; it must be at least 1"):
        training.Settings(1, 1, model_parallel_size=0)
