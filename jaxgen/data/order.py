"""The order in which examples are visited: a pure function of (key, position), computed where it is needed.

A run visits positions 0, 1, 2, ...; position p is example number `p mod N` of epoch `p div N`, and each epoch has its
own permutation. The permutation is a Feistel network (Luby & Rackoff 1988) on the smallest 2**k >= N, walked along its
cycle until it lands below N (Black & Rogaway 2002), so no table of N indices is ever made and no iterator is saved.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

ROUNDS = 8


def shuffled_index(
    key: jax.Array, step: ArrayLike, positions: ArrayLike, batch_size: int, num_examples: int
) -> jax.Array:
    """The examples that a batch holds.

    Args:
        key: scalar typed key of the order.
        step: int scalar, 0 <= step < 2**31.
        positions: int [b], positions in the global batch, 0 <= position < batch_size.
        batch_size: size of the global batch.
        num_examples: N, 1 <= N < 2**31.

    Returns:
        int32 [b], indices in [0, N). Each epoch visits every example once; a batch may cross into the next epoch.
    """
    epoch, i = locate(step, positions, batch_size, num_examples)
    return jax.vmap(lambda e, i: permuted(jax.random.fold_in(key, e), i, num_examples))(epoch, i)


def locate(step: ArrayLike, positions: ArrayLike, batch_size: int, num_examples: int) -> tuple[jax.Array, jax.Array]:
    """(step * batch_size + position) divided by num_examples, exact beyond 2**32 without 64-bit integers.

    Args:
        step: int scalar, 0 <= step < 2**31.
        positions: int [b], 0 <= position < batch_size.
        batch_size: global batch, 1 <= batch_size < 2**31.
        num_examples: N, 1 <= N < 2**31.

    Returns:
        (epoch, i): uint32 [b] quotients (modulo 2**32) and uint32 [b] remainders.
    """
    step, positions = jnp.asarray(step), jnp.asarray(positions)
    for name, value in (("batch_size", batch_size), ("num_examples", num_examples)):
        if not 1 <= value < 2**31:
            raise ValueError(f"{name} is {value}; it must be from 1 to 2**31 - 1")
    n = jnp.uint32(num_examples)
    epoch, start = _divide(*_multiply(step.astype(jnp.uint32), batch_size), n)
    # start < N < 2**31 and position < 2**31: their sum fits in 32 bits.
    i = start + positions.astype(jnp.uint32)
    return epoch + i // n, i % n


def permuted(key: jax.Array, i: ArrayLike, num_examples: jax.Array | int, at_most: int | None = None) -> jax.Array:
    """Image of `i` under the key's permutation of {0, ..., num_examples - 1}; uint32 scalar -> int32 scalar.

    Args:
        key: scalar typed key.
        i: uint32 scalar below `num_examples`.
        num_examples: from 1 to 2**31 - 1; may be traced where `at_most` is given.
        at_most: a bound of `num_examples` that is known when the program is compiled.
    """
    i = jnp.asarray(i)
    bits = max((int(num_examples if at_most is None else at_most) - 1).bit_length(), 2)
    round_keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    walk = lambda x: _feistel(round_keys, x, bits)
    index = lax.while_loop(lambda x: x >= jnp.asarray(num_examples, jnp.uint32), walk, walk(i.astype(jnp.uint32)))
    return index.astype(jnp.int32)


def _feistel(round_keys: jax.Array, x: jax.Array, bits: int) -> jax.Array:
    """A permutation of bits-bit numbers: halves of unequal width take turns, each xored with a hash of the other."""
    low_width = bits // 2
    widths = (low_width, bits - low_width)
    low, high = x & jnp.uint32((1 << low_width) - 1), x >> low_width
    for r in range(ROUNDS):
        low, high = high, low ^ (_hash(high ^ round_keys[r]) & jnp.uint32((1 << widths[r % 2]) - 1))
    # ROUNDS is even, so each half is back at its own width.
    return (high << low_width) | low


def _hash(x: jax.Array) -> jax.Array:
    """Mixes 32 bits so that each output bit depends on each input bit (the finalizer of MurmurHash3, Appleby)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _multiply(a: jax.Array, b: int) -> tuple[jax.Array, jax.Array]:
    """a * b as (high, low) words of 32 bits, by halves of 16."""
    a1, a0 = a >> 16, a & jnp.uint32(0xFFFF)
    b1, b0 = jnp.uint32(b >> 16), jnp.uint32(b & 0xFFFF)
    low = a0 * b0
    middle = a1 * b0 + (low >> 16)  # < 2**32
    carry = a0 * b1 + (middle & jnp.uint32(0xFFFF))  # < 2**32
    high = a1 * b1 + (middle >> 16) + (carry >> 16)
    return high, (carry << 16) | (low & jnp.uint32(0xFFFF))


def _divide(high: jax.Array, low: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(high, low) divided by n < 2**31: quotient modulo 2**32 and remainder, a bit at a time."""

    def bring_down(k, carry):
        quotient, rest = carry
        word = jnp.where(k < 32, high, low)
        bit = (word >> (31 - k % 32).astype(jnp.uint32)) & jnp.uint32(1)
        rest = (rest << 1) | bit
        fits = rest >= n
        return (quotient << 1) | fits.astype(jnp.uint32), jnp.where(fits, rest - n, rest)

    zero = jnp.uint32(0)
    return lax.fori_loop(0, 64, bring_down, (zero, zero))
