"""Schedules against long doubles and against the numbers of the published chains."""

import re
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion

PUBLISHED = {
    "linear 1000": lambda: diffusion.linear_betas(1000),
    "linear 4000": lambda: diffusion.linear_betas(4000),
    "cosine 1000": lambda: diffusion.cosine_betas(1000),
    "cosine 4000": lambda: diffusion.cosine_betas(4000),
}


def equal_digits(value, printed):
    """Whether the value rounds to what is printed.

    The printed ones come from cumulative products in float64, which at the first steps know 1 - alpha-bar to 11 digits.
    """
    unit = 10.0 ** int(Decimal(printed).as_tuple().exponent)
    return abs(float(value) - float(printed)) <= 0.5001 * unit + 1e-11 * abs(float(value))


def double_schedule(betas):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, diffusion.make_schedule(betas, jnp.float64))


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_equal_long_doubles(name):
    betas = PUBLISHED[name]()
    found = double_schedule(betas)
    beta = betas.astype(np.longdouble)
    alpha_bar = np.cumprod(1 - beta)
    before = np.append(np.longdouble(1), alpha_bar[:-1])
    variance = beta * (1 - before) / (1 - alpha_bar)
    expected = {
        "betas": beta,
        "log_betas": np.log(beta),
        "alphas": 1 - beta,
        "alphas_bar": alpha_bar,
        "alphas_bar_prev": before,
        "one_minus_alphas_bar": 1 - alpha_bar,
        "one_minus_alphas_bar_prev": 1 - before,
        "log_snr": np.log(alpha_bar / (1 - alpha_bar)),
        "posterior_variance": variance,
        "posterior_log_variance": np.log(np.append(variance[1], variance[1:])),
        "posterior_x0_coefficient": beta * np.sqrt(before) / (1 - alpha_bar),
        "posterior_xt_coefficient": (1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
    }
    single = diffusion.make_schedule(betas)
    for table, values in expected.items():
        assert getattr(found, table).dtype == np.float64
        np.testing.assert_allclose(getattr(found, table), values.astype(float), rtol=1e-9, err_msg=table)
        # Rounded once: half a unit in the last place.
        np.testing.assert_array_equal(getattr(single, table), getattr(found, table).astype(np.float32), table)
    np.testing.assert_array_equal(found.timesteps, np.arange(len(betas)))


@pytest.mark.parametrize(
    "name, numbers",
    [
        ("linear 1000", "1e-4 0.02 0.9999 4.03582976538e-05 5.4531876613e-05 .545291499510 .454708498991 "
         "1.28351487172e-4 .989948678268 157.4104573 9.210240 -10.117673"),
        ("linear 4000", "2.5e-5 0.005 0.999975 4.2466522758e-05 1.2803628613e-05 .512138742665 .487861257252 "
         "3.26663e-5 .997496654 153.4534473 10.596610 -10.066752"),
        ("cosine 1000", "4.128422482e-05 0.999 0.999958715775 2.42876690703e-09 2.17894961457e-05 .527781409334 "
         ".472218590427 .00155689171549 .0316226998741 20291.16963 10.094989 -19.835882"),
        ("cosine 4000", "9.865818814e-06 0.999 0.999990134181 1.51798046885e-10 5.00768339522e-06 .5075765922 "
         ".492423407789 3.89223e-4 .03162277 81164.64774 11.526425 -22.608470"),
    ],
)  # fmt: skip
def test_tables_of_the_published_chains(name, numbers):
    s = double_schedule(PUBLISHED[name]())
    found = [
        s.betas[0], s.betas[-1], s.alphas_bar[0], s.alphas_bar[-1], s.posterior_variance[1],
        s.posterior_x0_coefficient[1], s.posterior_xt_coefficient[1], s.posterior_x0_coefficient[-1],
        s.posterior_xt_coefficient[-1], s.alphas_bar[-1] ** -0.5, s.log_snr[0], s.log_snr[-1],
    ]  # fmt: skip
    assert [n for v, n in zip(found, numbers.split(), strict=True) if not equal_digits(v, n)] == []
    np.testing.assert_allclose(np.exp(s.posterior_log_variance[0]), s.posterior_variance[1], rtol=1e-12)
    assert s.posterior_variance[0] == 0 and s.alphas_bar_prev[0] == 1


def test_betas_of_every_shape():
    np.testing.assert_allclose(diffusion.linear_betas(5, 0.1, 0.5), [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-12)
    np.testing.assert_allclose(diffusion.quadratic_betas(3, 0.01, 0.25), [0.01, 0.09, 0.25], rtol=1e-12)
    np.testing.assert_allclose(diffusion.constant_betas(3, 0.2), [0.2] * 3, rtol=1e-12)
    np.testing.assert_allclose(diffusion.warmup_betas(6, 0.5, 0.1, 0.3), [0.1, 0.2, 0.3, 0.3, 0.3, 0.3], rtol=1e-12)
    np.testing.assert_allclose(diffusion.warmup_betas(1000, 0.1)[[0, 99, 999]], [1e-4, 0.02, 0.02], rtol=1e-12)
    np.testing.assert_allclose(diffusion.quadratic_betas(500)[[0, -1]], [2e-4, 0.04], rtol=1e-12)
    np.testing.assert_allclose(diffusion.constant_betas(1000), 0.02, rtol=1e-12)
    cosine = diffusion.cosine_betas(1000)
    assert np.flatnonzero(cosine == 0.999).tolist() == [999]
    # 1 - f(t + 1) / f(t) in 50 digits.
    exact = [4.128422482177780e-05, 9.86581881359163e-06]
    np.testing.assert_allclose([cosine[0], diffusion.cosine_betas(4000)[0]], exact, rtol=1e-14)
    f = lambda t: np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.cumprod(1 - cosine)[[10, 500, 998]], f(np.array([11, 501, 999])) / f(0), rtol=1e-9)


def test_a_schedule_is_a_frozen_tree_that_may_be_an_argument():
    schedule = diffusion.make_schedule(diffusion.linear_betas(30))
    other = diffusion.make_schedule(diffusion.cosine_betas(30))
    first_beta = jax.jit(lambda s: s.betas[0] + 0 * diffusion.respace(s, 5).betas[0])
    assert float(first_beta(schedule)) == float(schedule.betas[0])
    assert float(first_beta(other)) == float(other.betas[0])
    with pytest.raises(AttributeError):
        schedule.betas = 1  # type: ignore[misc]


def test_schedules_and_models_are_equal_where_their_parts_are():
    betas = diffusion.linear_betas(30)
    make = lambda betas=betas, **options: diffusion.make_schedule(betas, **options)
    schedule, network = make(), diffusion.UNet(in_channels=1, out_channels=1)
    assert schedule == make() and hash(schedule) == hash(make())
    others = [make(diffusion.cosine_betas(30)), make(dtype="float16"), diffusion.respace(schedule, 5), None]
    assert all(schedule != other for other in others)
    # The same betas, of other original steps.
    assert diffusion.make_schedule(np.frombuffer(others[2].exact_betas)) != others[2]
    model = diffusion.DiffusionModel(network, schedule, shape=(8, 8, 1))
    assert model == diffusion.DiffusionModel(network.clone(), make(), shape=(8, 8, 1))
    assert model != diffusion.DiffusionModel(network, others[0], shape=(8, 8, 1))
    assert model != diffusion.DiffusionModel(network.clone(dropout=0.5), schedule, shape=(8, 8, 1))
    assert model != diffusion.DiffusionModel(network, schedule, "x0", shape=(8, 8, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_respacing_keeps_alpha_bar_and_names_the_original_steps(dtype):
    with jax.enable_x64(dtype == "float64"):
        # The last cosine beta is 0.999: 1 - 0.999 is off by 1e-5 in float32, if the tables were where it starts from.
        schedule = diffusion.make_schedule(diffusion.cosine_betas(1000), jnp.dtype(dtype))
        spaced = jax.tree.map(np.asarray, diffusion.respace(schedule, 50))
        twice = jax.tree.map(np.asarray, diffusion.respace(diffusion.respace(schedule, "ddim500"), "ddim50"))
    kept = spaced.timesteps
    assert spaced.num_steps == 50 and spaced.num_original_steps == 1000 and spaced.betas.dtype == np.dtype(dtype)
    assert kept[0] == 0 and kept[-1] == 999
    alpha_bar = np.cumprod(1 - diffusion.cosine_betas(1000).astype(np.longdouble)).astype(float)[kept]
    tolerance = 1e-9 if dtype == "float64" else 1.2e-7
    np.testing.assert_allclose(spaced.alphas_bar, alpha_bar, rtol=tolerance)
    np.testing.assert_allclose(spaced.betas, 1 - alpha_bar / np.append(1, alpha_bar[:-1]), rtol=tolerance)
    np.testing.assert_array_equal(twice.timesteps, np.arange(0, 1000, 20))


def test_respacing_takes_the_steps_that_the_authors_take():
    schedule = diffusion.make_schedule(diffusion.linear_betas(1000))
    steps = lambda spec, s=schedule: np.asarray(diffusion.respace(s, spec).timesteps)
    assert steps("250")[-1] == 999 and steps("ddim250")[-1] == 996
    np.testing.assert_array_equal(steps(250), steps("250"))
    np.testing.assert_array_equal(steps("ddim25"), np.arange(0, 1000, 40))
    np.testing.assert_array_equal(steps(1000), np.arange(1000))
    # Their docstring's example: 300 steps in three sections.
    short = diffusion.make_schedule(diffusion.linear_betas(300))
    sections = steps("10,15,20", short)
    np.testing.assert_array_equal(sections, steps((10, 15, 20), short))
    assert [int(np.sum(sections // 100 == i)) for i in range(3)] == [10, 15, 20]
    np.testing.assert_array_equal(sections[[0, 9, 10, 24, 25, 44]], [0, 99, 100, 199, 200, 299])
    np.testing.assert_array_equal(sections[:10], np.arange(0, 100, 11))
    np.testing.assert_array_equal(sections[10:14], [100, 107, 114, 121])
    # 1000 in three: the first section has the spare step.
    np.testing.assert_array_equal(steps("2,0,2"), [0, 333, 667, 999])
    possible = [n for n in range(2, 1001) if len({*range(0, 1000, -(-1000 // n))}) == n]
    assert len(possible) == 62
    with pytest.raises(ValueError) as error:
        diffusion.respace(schedule, "ddim37")
    listed = [list(map(int, part.split("-"))) for part in str(error.value).split("can are ")[1].split(", ")]
    assert [n for ends in listed for n in range(ends[0], ends[-1] + 1)] == possible
    for count in (2, 36, 39, 334, 500, 1000):
        assert diffusion.respace(schedule, f"ddim{count}").num_steps == count


def test_ddim_takes_the_smallest_stride_below_t_or_refuses():
    """Every count on short chains: the first i in 1, ..., T - 1 with N = ceil(T / i), as the authors' code searches."""
    for total in (1, 2, 3, 7, 12, 30):
        schedule = diffusion.make_schedule(np.full(total, 0.1))
        for count in range(-1, total + 2):
            strides = [i for i in range(1, total) if -(-total // i) == count]
            if strides:
                kept = diffusion.respace(schedule, f"ddim{count}").timesteps
                np.testing.assert_array_equal(kept, np.arange(count) * strides[0])
            else:
                with pytest.raises(ValueError, match=f"'ddim{count}' cannot be made of {total} steps"):
                    diffusion.respace(schedule, f"ddim{count}")


@pytest.mark.parametrize("name", ["linear 1000", "cosine 1000"])
def test_steps_equal_in_log_snr(name):
    betas = PUBLISHED[name]()
    schedule = diffusion.make_schedule(betas)
    log_snr = np.log(np.cumprod(1 - betas) / -np.expm1(np.cumsum(np.log1p(-betas))))
    for count in (2, 10, 20):
        kept = np.asarray(diffusion.respace(schedule, f"logsnr{count}").timesteps)
        wanted = np.linspace(log_snr[0], log_snr[-1], count)
        # As near as whole steps come: half the gap to a neighbour. Below -9 the cosine has too few to choose from.
        down, up = log_snr[np.minimum(kept + 1, 999)], log_snr[np.maximum(kept - 1, 0)]
        gaps = np.maximum(up - log_snr[kept], log_snr[kept] - down)
        assert len(kept) == count and kept[0] == 0 and kept[-1] == 999
        near = np.abs(log_snr[kept] - wanted) <= gaps / 2 + 1e-6
        assert np.all(near[wanted > -9])
    # Where there are no steps left to choose from, they are still distinct.
    for count in (100, 999, 1000):
        kept = np.asarray(diffusion.respace(schedule, f"logsnr{count}").timesteps)
        assert len(kept) == count and kept[0] == 0 and kept[-1] == 999 and np.all(np.diff(kept) > 0)
    for steps in ("logsnr1", "logsnr1001", "logsnr"):
        with pytest.raises(ValueError, match=f"'{steps}'.*the counts that can are 2-1000"):
            diffusion.respace(schedule, steps)


def test_wrong_betas():
    with pytest.raises(ValueError, match=r"betas\[1\] is 1 \(T = 3, 2 such values\)"):
        diffusion.make_schedule(np.array([0.5, 1.0, 0.0]))
    with pytest.raises(ValueError, match=r"betas\[0\] is nan"):
        diffusion.make_schedule(np.array([np.nan]))
    with pytest.raises(ValueError, match=r"shape \(0,\).*at least 1"):
        diffusion.make_schedule(np.zeros(0))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        diffusion.make_schedule(np.full((2, 2), 0.1))
    for make in (diffusion.linear_betas, diffusion.cosine_betas, diffusion.constant_betas, diffusion.warmup_betas):
        with pytest.raises(ValueError, match="num_steps is 0"):
            make(0)
    with pytest.raises(ValueError, match="20 / T.*T = 20.*cosine_betas"):
        diffusion.linear_betas(20)
    with pytest.raises(ValueError, match=r"betas\[2\] is 1\.5"):
        diffusion.linear_betas(3, 0.1, 1.5)
    with pytest.raises(ValueError, match="fraction is 2"):
        diffusion.warmup_betas(100, 2)


def test_wrong_respacing():
    schedule = diffusion.make_schedule(diffusion.linear_betas(1000))
    with pytest.raises(ValueError, match=r"'ddim37'.*1000 steps.*can are 2-36, 38-40, 42, 44.* 334, 500, 1000"):
        diffusion.respace(schedule, "ddim37")
    with pytest.raises(ValueError, match=r"'ddim1'.*below 1000; the counts that can are 2-36.*, and '1' keeps one"):
        diffusion.respace(schedule, "ddim1")
    with pytest.raises(ValueError, match="'ddim1'.*no count can, and '1' keeps one step"):
        diffusion.respace(diffusion.respace(schedule, 1), "ddim1")
    for steps in ("ddim", "ddim0", "ddim-5", "ddim2.5", "ddim25,25", "ddim1001", "ddim" + "9" * 5000):
        with pytest.raises(ValueError, match=f"'{steps}' cannot be made of 1000 steps"):
            diffusion.respace(schedule, steps)
    with pytest.raises(ValueError, match="section 1 of 3 has 333 of the 1000 steps and cannot give 334; it can give 0"):
        diffusion.respace(schedule, "10,334,20")
    with pytest.raises(ValueError, match="section 0 of 1 has 1000.*cannot give 1001"):
        diffusion.respace(schedule, 1001)
    for steps in (0, "0,0", (), (5, -1)):
        with pytest.raises(ValueError, match="not all 0"):
            diffusion.respace(schedule, steps)
    for steps in ("fast", "", "10,,20", "10.5", 10.5, (10.5, 15), ("10", "15"), None):
        with pytest.raises(ValueError, match=re.escape(f"steps is {steps!r}; expected a count")):
            diffusion.respace(schedule, steps)  # type: ignore[arg-type]


def test_one_step_is_a_chain():
    schedule = diffusion.respace(diffusion.make_schedule(diffusion.linear_betas(1000)), 1)
    assert schedule.num_steps == 1 and schedule.timesteps.tolist() == [0]
    np.testing.assert_allclose(schedule.posterior_log_variance, [np.log(1e-4)], rtol=1e-6)
