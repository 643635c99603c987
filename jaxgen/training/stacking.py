"""Several updates as one program: the constants in which they differ become arguments with a leading axis.

An update is a closure over its settings, so a learning rate or the weight of a penalty is a constant of the traced
program. Updates that trace to the same program with other constants are trained together: a loop over the settings
holds the loop over steps. Its body is that of a program for one setting, so a setting has the bits that it has alone.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# jax 0.12 exports ClosedJaxpr, but not to type checkers.
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun  # pyright: ignore[reportPrivateImportUsage]

from jaxgen.data.batches import DeviceBatches, HostBatches

from . import hosts
from .checkpoints import tree_digest
from .config import Settings
from .parallel import AXIS, ParallelUpdate, add_metrics, order_and_model, pick_devices
from .run import Run
from .state import TrainState
from .update import Update

Tree = Any
# XLA computes them alike with a constant and with an argument. It turns a division by a constant into a product.
EXACT = {"add", "add_any", "sub", "mul", "max", "min", "eq", "ne", "lt", "le", "gt", "ge", "select_n", "clamp", "neg"}


Callback = tuple[int, Callable[[int, TrainState], None]]
"""(every, function): `function(step, state)` each `every` steps and at the last, the state still on the devices."""


class Fit(NamedTuple):
    """A training that was asked for: the arguments of `fit`.

    Attributes:
        run: the open run directory.
        settings: how.
        update: of the state.
        state: the state before the first step, or a function that makes it.
        batches: where a step's batch comes from.
        key: the root key, a scalar.
        stage: name of this training among several of one run.
        callbacks: (every, function) pairs.
    """

    run: Run
    settings: Settings
    update: Update
    state: TrainState | Callable[[], TrainState]
    batches: DeviceBatches | HostBatches
    key: jax.Array
    stage: str
    callbacks: Sequence[Callback]


class Deferred(Exception):
    """Raised by `fit` in place of training, in a run with `defer`; holds what was asked for."""

    def __init__(self, fit: Fit):
        super().__init__(f"a training in {fit.run.workdir}")
        self.fit = fit


class StackedUpdate(ParallelUpdate):
    """The updates of several settings as one program, called with a tuple of each: states, sums and keys.

    Args:
        updates: one for each setting.
        batches: one for each setting, with the same arrays, made on the device.
        **options: as of `ParallelUpdate`, the same for all.

    Raises:
        ValueError: when called, the updates differ in more than constants (`same_program`).
    """

    def __init__(self, updates: Sequence[Update], batches: Sequence[DeviceBatches], **options: Any):
        super().__init__(updates[0], batches[0], **options)
        # Without jit, which later versions of JAX do not inline before the program is compared.
        by_itself = lambda update: lambda state, batch, keys: update(state, batch, keys, self._mean)
        self._settings = [(by_itself(update), made.make) for update, made in zip(updates, batches, strict=True)]

    def _steps(self, state, sums, key, arrays, positions, batch, num_steps):
        data = arrays, positions, batch
        traced = [self.trace(*setting, *one, *data) for setting, *one in zip(self._settings, state, key, strict=True)]
        program, values = constants_as_arguments([program for program, _ in traced])
        structure = jax.tree.structure(traced[0][1])

        def train(setting):
            values, state, sums, key_data = setting
            streams = order_and_model(jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key[0])))

            def one(_, carry):
                state, sums = carry
                made = jaxpr_as_fun(program)(*values, *jax.tree.leaves((state, streams, *data)))
                new_state, metrics = jax.tree.unflatten(structure, made)
                return new_state, add_metrics(sums, metrics, state.step)

            return lax.fori_loop(0, num_steps, one, (state, sums))

        stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
        # As plain integers, because a stack of typed keys counts as a use of them.
        trained = lax.map(train, (values, stack(state), stack(sums), stack(jax.random.key_data(k) for k in key)))
        return tuple(tuple(jax.tree.map(lambda x, i=i: x[i], part) for i in range(len(state))) for part in trained)

    def trace(self, update: Callable, make: Callable, state: Tree, key: Any, *data: Tree, **options: Any) -> Any:
        """(the program of one step of one setting, the shapes of its results); options are those of make_jaxpr."""
        step = lambda *arguments: self._step(update, make, *arguments)
        streams = jax.eval_shape(order_and_model, key)
        return jax.make_jaxpr(step, return_shape=True, **options)(state, streams, *data)

    def program_of_step(self, state: Tree, key: jax.Array) -> ClosedJaxpr:
        """The first setting's program of one step, as a device runs it."""
        rows = self._mesh.shape[AXIS]
        positions = jax.ShapeDtypeStruct((self.local_positions.size // rows,), jnp.int32)
        data = self._arrays, positions, None
        return self.trace(*self._settings[0], state, key, *data, axis_env=[(AXIS, rows)])[0]


def program_of(asked: Fit) -> Hashable:
    """What trainings must share to be made in one program; None: this one is made alone."""
    settings, batches, callbacks = asked.settings, asked.batches, asked.callbacks
    alone = hosts.is_multihost() or settings.model_parallel_size > 1 or settings.prefetch
    if alone or not isinstance(batches, DeviceBatches):
        return None
    parallel = StackedUpdate([asked.update], [batches], **parallel_options(settings))
    state = asked.state if isinstance(asked.state, TrainState) else jax.eval_shape(asked.state)
    form, _ = describe(parallel.program_of_step(state, asked.key))
    same = settings, asked.stage, tuple(every for every, _ in callbacks), batches.batch_size
    return same, form, tree_digest(batches.arrays)


def parallel_options(settings: Settings) -> dict[str, Any]:
    """The arguments of `ParallelUpdate` besides the update and the batches."""
    return {
        "batch_size": settings.batch_size,
        "devices": pick_devices(settings.devices),
        "backend": "shard_map" if settings.model_parallel_size > 1 else settings.backend,
        "accumulate": settings.accumulate,
        "exact_shards": settings.exact_shards,
        "model_parallel_size": settings.model_parallel_size,
    }


def constants_as_arguments(programs: Sequence[ClosedJaxpr]) -> tuple[ClosedJaxpr, list[jax.Array]]:
    """(one program for all, the values [N] of its new leading arguments for each of N programs).

    Raises:
        ValueError: the programs differ in more than scalar constants of additions, products and comparisons.
    """
    described = [describe(program) for program in programs]
    if len({form for form, _ in described}) > 1:
        raise ValueError("the updates differ in more than constants of their sums and products")
    closed, number, values, replaced, equations = programs[0], 0, [], [], []
    for equation in closed.jaxpr.eqns:
        inputs = list(equation.invars)
        for i, x in enumerate(inputs):
            if not _is_constant(equation, x):
                continue
            column = [constants[number] for _, constants in described]
            number += 1
            if any(value.tobytes() != column[0].tobytes() for value in column):
                inputs[i] = Var(x.aval)
                replaced.append(inputs[i])
                values.append(jnp.stack(column))
        equations.append(equation.replace(invars=inputs))
    jaxpr = closed.jaxpr
    program = jaxpr.replace(
        invars=[*replaced, *jaxpr.invars], eqns=equations, debug_info=jaxpr.debug_info.with_unknown_names()
    )
    return ClosedJaxpr(program, closed.consts), values


def describe(program: ClosedJaxpr) -> tuple[Hashable, list[np.ndarray]]:
    """(all that two programs must share to run as one, the constants in which they may differ)."""
    constants: list[np.ndarray] = []
    return (_form(program.jaxpr, constants), _plain(program.consts)), constants


def _is_constant(equation: Any, x: Any) -> bool:
    return isinstance(x, Literal) and equation.primitive.name in EXACT


def _is_derivative(equation: Any) -> bool:
    """Whether an operation has a rule for its derivative, which is of no use in a program that was traced."""
    return equation.primitive.name.startswith("custom_")


def _form(jaxpr: Jaxpr, constants: list[np.ndarray] | None) -> Hashable:
    """What a program computes; constants that may differ are left out and added to the list, if there is one."""
    numbers: dict[Any, int] = {}

    def name(equation: Any, x: Any) -> Hashable:
        if not isinstance(x, Literal):
            return numbers.setdefault(x, len(numbers)), str(x.aval)
        if constants is None or equation is None or not _is_constant(equation, x):
            return "constant", str(x.aval), _plain(np.asarray(x.val))
        constants.append(np.asarray(x.val))
        return "argument", str(x.aval)

    inputs = tuple(name(None, x) for x in (*jaxpr.constvars, *jaxpr.invars))
    equations = tuple(
        (
            equation.primitive.name,
            tuple(name(equation, x) for x in equation.invars),
            _plain({k: v for k, v in equation.params.items() if not (_is_derivative(equation) and callable(v))}),
            tuple(name(None, x) for x in equation.outvars),
        )
        for equation in jaxpr.eqns
    )
    return inputs, equations, tuple(name(None, x) for x in jaxpr.outvars)


def _plain(x: Any) -> Hashable:
    """A parameter of an operation as something that can be compared."""
    if isinstance(x, ClosedJaxpr):
        return _form(x.jaxpr, None), _plain(x.consts)
    if isinstance(x, Jaxpr):
        return _form(x, None)
    if isinstance(x, dict):
        return tuple((name, _plain(value)) for name, value in sorted(x.items()))
    if isinstance(x, (list, tuple)):
        return tuple(map(_plain, x))
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return x.dtype.name, x.shape, np.asarray(x).tobytes()
    # What is known by its address, such as a function that the host runs, equals nothing else.
    return object() if " at 0x" in repr(x) else repr(x)
