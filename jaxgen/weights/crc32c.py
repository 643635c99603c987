"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, with NumPy over many lanes at once.

Source: RFC 3720, appendix B.4. A CRC is linear: those of the lanes are joined by the map that a run of zeros applies.
"""

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANES = 4096


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


_BYTES = _byte_table()
_ROWS = _BYTES.tolist()


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """The checksum of bytes (an array: uint8 [N])."""
    data = np.frombuffer(data, np.uint8)
    steps = len(data) // _LANES
    state, rest = 0xFFFFFFFF, data
    if steps >= 8:
        lanes = data[: steps * _LANES].reshape(_LANES, steps).T
        lane = np.zeros(_LANES, np.uint32)
        lane[0] = state
        for column in np.ascontiguousarray(lanes):
            lane = _BYTES[(lane ^ column) & 0xFF] ^ (lane >> 8)
        zeros = _after_zeros(steps)
        while len(lane) > 1:
            lane = _apply(zeros, lane[::2]) ^ lane[1::2]
            zeros = _apply(zeros, zeros)
        state, rest = int(lane[0]), data[steps * _LANES :]
    for byte in rest.tolist():
        state = _ROWS[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """The checksum of bytes as TensorFlow and LevelDB store it (an array: uint8 [N])."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _after_zeros(count: int) -> np.ndarray:
    """The map of a state over `count` zero bytes: uint32 [32], what each bit becomes."""
    one = np.uint32(1) << np.arange(32, dtype=np.uint32)
    step = _BYTES[one & 0xFF] ^ (one >> 8)
    found = one
    while count:
        if count & 1:
            found = _apply(step, found)
        step = _apply(step, step)
        count >>= 1
    return found


def _apply(columns: np.ndarray, states: np.ndarray) -> np.ndarray:
    found = np.zeros_like(states)
    for bit in range(32):
        found ^= np.where(states >> np.uint32(bit) & np.uint32(1), columns[bit], np.uint32(0))
    return found
