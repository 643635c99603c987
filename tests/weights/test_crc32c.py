"""CRC-32C against the values of RFC 3720 and one byte at a time."""

import numpy as np
import pytest

from jaxgen.weights.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_the_values_of_the_rfc(data, crc):
    assert crc32c(data) == crc
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("size", [4096 * 8 - 1, 4096 * 8, 4096 * 11 + 5])
def test_lanes_are_joined_to_what_single_bytes_give(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    state = 0xFFFFFFFF
    for byte in data.tolist():
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF
