"""One process of several, for test_hosts: trains the toy and prints its end.

python one_host.py WORKDIR ADDRESS,PROCESSES,INDEX [fed] [SIGTERM | SIGKILL] [first] [rows of M]

The signal hits process 1, or with "first" process 0. With "rows of M", each M devices share the model.
"""

import dataclasses
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import training
from jaxgen.training import hosts, keys
from tests.training.engine_toy import BATCHES, FEATURES, Config, order, state, take_on_host, update


def main(workdir, address, *events):
    hosts.join(address)
    config = Config()
    settings = dataclasses.replace(config.train, exact_shards=4, steps_per_call=0, num_steps=20)
    if rows := [int(event.split()[-1]) for event in events if event.startswith("rows of")]:
        settings = dataclasses.replace(settings, exact_shards=0, model_parallel_size=rows[0])
    batches = training.HostBatches(fed) if "fed" in events else BATCHES
    number = signal.SIGTERM if "SIGTERM" in events else signal.SIGKILL if "SIGKILL" in events else None
    hit = jax.process_index() == (0 if "first" in events else 1)

    def look(step, state):
        """What a preview does: a program of this process alone, on the trained parameters and arrays of its own."""
        assert state.params["in"].shape == (FEATURES, 8)
        assert np.isfinite(jnp.ones((1, FEATURES)) @ state.params["in"]).all()
        if number is not None and hit and step == 6:
            signal.raise_signal(number)

    # Every process has the same calls.
    also = [(1, look)]
    config = dataclasses.replace(config, train=settings)
    try:
        with training.Run(workdir, config, experiment="toy", quiet=True) as run:
            measured = run.cached("where", lambda: {"process": float(jax.process_index())})
            # Where devices share the model, each array is made in place.
            begin = state if rows else state()
            end = training.fit(
                run, settings, update=update(), state=begin, batches=batches, key=keys.root(0), callbacks=also
            )
            print("end", training.tree_digest(end), "measured by", measured["process"], flush=True)
    except training.Interrupted as stopped:
        print(stopped.message, flush=True)
        sys.exit(stopped.code)
    except (ValueError, training.HostLost) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        hosts.leave(1)


def fed(key, step, positions):
    """Says which examples this host reads."""
    chosen = order(np.asarray(jax.random.key_data(key)), step, positions)
    print("reads", step, chosen.tolist(), flush=True)
    return take_on_host(key, step, positions)


if __name__ == "__main__":
    main(*sys.argv[1:])
