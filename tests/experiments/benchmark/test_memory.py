"""Bytes and FLOPs against a count by hand, and the table that is made of them."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import memory
from jaxgen import diffusion
from jaxgen.training.memory import MemoryEstimate, StepCost, estimate_step

WEIGHTS = (jax.ShapeDtypeStruct((5, 7), jnp.float32), jax.ShapeDtypeStruct((7, 3), jnp.float32))
INPUTS = jax.ShapeDtypeStruct((1, 5), jnp.float32)


def layer(w, x):
    return jnp.sin(x @ w)


def objective(loss):
    """The objective whose loss of an example is loss(weights, x)."""
    return lambda params, batch, keys, context: (jnp.sum(loss(params, batch), axis=-1), {})


def test_saved_arrays_by_hand():
    """The cosine for the sine's derivative and the sine for the second weight's: two arrays [B, 7]."""
    found = estimate_step(objective(lambda w, x: layer(w[0], x) @ w[1]), WEIGHTS, INPUTS)
    assert (found.saved, found.fixed) == (2 * 7 * 4, 0)
    # Forward two products; backward one for each weight, and one for the sine.
    products = 2 * (5 * 7 + 7 * 3) + 2 * (5 * 7 + 2 * 7 * 3)
    assert products <= found.flops < 1.15 * products


def test_a_layer_computed_again_saves_its_result_alone_and_costs_its_product_again():
    plain = estimate_step(objective(lambda w, x: layer(w[0], x) @ w[1]), WEIGHTS, INPUTS)
    again = estimate_step(objective(lambda w, x: jax.checkpoint(layer)(w[0], x) @ w[1]), WEIGHTS, INPUTS)
    assert (again.saved, again.fixed) == (7 * 4, 0)
    assert again.flops - plain.flops == pytest.approx(2 * 5 * 7, abs=8)


def test_parameters_in_another_dtype_are_saved_once_whatever_the_batch():
    half = lambda x: x.astype(jnp.bfloat16)
    found = estimate_step(objective(lambda w, x: layer(half(w[0]), half(x)) @ half(w[1])), WEIGHTS, INPUTS)
    # x in bfloat16, the cosine and the sine; and the second weight.
    assert (found.saved, found.fixed) == ((5 + 7 + 7) * 2, 7 * 3 * 2)


NEEDS = tuple(MemoryEstimate(4000, 8004, 4000, StepCost(*cost)) for cost in ((100.0, 12, 5e9), (30.0, 12, 6e9)))


def test_a_row_by_hand():
    found = memory.row("toy", NEEDS, 4, 32)
    assert found["examples"] == 8 and found["saved"] == 812 and found["saved_remat"] == 252
    assert found["total"] == 3 * 4000 + 8004 + 812 and found["total_remat"] == 3 * 4000 + 8004 + 252
    assert (found["flops"], found["flops_remat"]) == (4e10, 4.8e10)
    shared = memory.row("toy", NEEDS, 4, 32, 2)
    assert (shared["examples"], shared["saved"], shared["total"] - shared["saved"]) == (16, 1612, 3 * 4000 + 8004)
    with pytest.raises(ValueError, match="a batch of 30 does not divide into 4 devices x accumulate 1; 32 would"):
        memory.row("toy", NEEDS, 4, 30)


def test_a_network_of_the_papers_kind(monkeypatch, tmp_path, capsys):
    network = diffusion.adm_unet(
        64, 10, channels=32, multipliers=(1,), num_blocks=1, attention_resolutions=(8,), head_channels=16
    )
    params = diffusion.parameter_shapes(network, 8)
    meaning = diffusion.DiffusionModel(network, diffusion.make_schedule(diffusion.cosine_betas(10)), shape=(8, 8, 3))
    model = diffusion.Released(meaning, sum(x.size for x in jax.tree.leaves(params)))
    monkeypatch.setattr(diffusion, "released", lambda: {"tiny.pt": model})
    rows = memory.run(memory.Options(("tiny",), (1, 2), batch_size=4, json=str(tmp_path / "plan.json"), markdown=True))
    assert [row["devices"] for row in rows] == [1, 2] and rows[0]["parameters"] == 4 * model.num_parameters
    assert rows[0]["optimizer"] == 8 * model.num_parameters + 4
    assert rows[0]["saved_remat"] < rows[0]["saved"] and rows[0]["flops_remat"] > rows[0]["flops"]
    halves = memory.estimate(model, "bfloat16", 2)[0][:2]
    kernels = sum(x.size for x in jax.tree.leaves(params) if x.ndim > 1)
    assert halves == (4 * model.num_parameters - 2 * kernels, 8 * model.num_parameters - 4 * kernels + 4)
    assert rows[0]["flops"] == 2 * rows[1]["flops"] and rows[1]["saved"] < rows[0]["saved"]
    assert json.loads((tmp_path / "plan.json").read_text())["rows"] == rows
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[0].startswith("| network | devices | examples | parameters GiB")
    with pytest.raises(ValueError, match="no network 'tinny'; the nearest is 'tiny'"):
        memory.run(memory.Options(("tinny",)))
    with pytest.raises(ValueError, match="devices are"):
        memory.run(memory.Options(("tiny",), ()))


def test_the_command_takes_its_options(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "run", seen.append)
    monkeypatch.setattr(sys, "argv", ["memory", "--only", "256x256_diffusion", "--devices", "8", "64", "--json", "x"])
    memory.main()
    assert seen == [memory.Options(("256x256_diffusion",), (8, 64), json="x")]
    assert set(memory.NETWORKS) <= {name.removesuffix(".pt") for name in diffusion.released()}
