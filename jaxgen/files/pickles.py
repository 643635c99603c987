"""Pickles of plain data, read by an interpreter of our own that has no way to run code.

A pickle is a program. Python's own unpickler looks up what the program names, calls it, and sets attributes on the
result. This one knows the opcodes that make numbers, texts and containers, and a table of names that the caller gives:
a name is an inert `Name`, to call it calls the caller's function with plain data, and state is set only on objects that
the caller's functions made. Neither a module nor a type of this process can be reached.

The opcodes are those of Python's pickletools, protocols 0 to 5.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from jaxgen.files.limits import Budget
from jaxgen.files.pickle_machine import Machine, Mark


def read_pickle(
    file: BinaryIO,
    names: Mapping[str, Callable[..., Any] | None],
    budget: Budget,
    size: int,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the next pickle in a file; `file` then stands after it.

    Args:
        file: opened for reading bytes.
        names: "module.name" -> what a call of it gives, or None where it may only be named.
        budget: every opcode takes one object, copies take bytes.
        size: bytes of the whole file, beyond which nothing can be read.
        persistent: data outside of the pickle, by its identifier.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, and what the functions of `names` return. Sets are lists.
        Texts of 8 bits, as Python 2 wrote them, are str up to 4,096 bytes and bytes beyond.

    Raises:
        RefusedNameError: a name that is not in `names`.
        ValueError: it is damaged, or of a kind that holds more than plain data.
    """
    machine = Machine(file, names, budget, size, persistent)
    while True:
        code = file.read(1)
        if not code:
            raise ValueError("the pickle ends early")
        if code == b".":
            return machine.result()
        budget.spend(objects=1)
        step = _STEPS.get(code[0])
        if step is None:
            raise ValueError(f"the pickle has the opcode {code!r}, which plain data does not need")
        step(machine)


_STEPS: dict[int, Callable[[Machine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": lambda m: m.take(1),
        "\x95": lambda m: m.take(8),
        "(": lambda m: m.push(Mark),
        "0": lambda m: m.stack.pop() if m.stack else m.pop(),
        "1": lambda m: m.pop_mark(),
        "2": lambda m: m.push(m.top()),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": lambda m: m.integer(m.line()),
        "L": lambda m: m.integer(m.line().removesuffix("L")),
        "J": lambda m: m.push(m.number("i")),
        "K": lambda m: m.push(m.number("B")),
        "M": lambda m: m.push(m.number("H")),
        "\x8a": lambda m: m.long(m.number("B")),
        "\x8b": lambda m: m.long(m.number("I")),
        "F": lambda m: m.push(float(m.line())),
        "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        "S": lambda m: m.quoted(),
        "T": lambda m: m.old_text(m.take(m.number("I"))),
        "U": lambda m: m.old_text(m.take(m.number("B"))),
        "V": lambda m: m.push(m.unescaped(m.line())),
        "X": lambda m: m.text(m.take(m.number("I"))),
        "\x8c": lambda m: m.text(m.take(m.number("B"))),
        "\x8d": lambda m: m.text(m.take(m.number("Q"))),
        "B": lambda m: m.push(m.take(m.number("I"))),
        "C": lambda m: m.push(m.take(m.number("B"))),
        "\x8e": lambda m: m.push(m.take(m.number("Q"))),
        "\x96": lambda m: m.push(m.take(m.number("Q"))),
        ")": lambda m: m.push(()),
        "t": lambda m: m.push(tuple(m.pop_mark())),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "]": lambda m: m.push([]),
        "l": lambda m: m.push(m.pop_mark()),
        "a": lambda m: m.append([m.pop()]),
        "e": lambda m: m.append(m.pop_mark()),
        "\x8f": lambda m: m.push([]),
        "\x90": lambda m: m.append(m.pop_mark()),
        "\x91": lambda m: m.push(m.pop_mark()),
        "}": lambda m: m.push({}),
        "d": lambda m: m.dict_of(m.pop_mark()),
        "s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        "u": lambda m: m.set_items(m.pop_mark()),
        "c": lambda m: m.name(m.line(), m.line()),
        "\x93": lambda m: m.named_by_stack(),
        "R": lambda m: m.call(),
        "\x81": lambda m: m.call(),
        "\x92": lambda m: m.new_with_keywords(),
        "b": lambda m: m.build(),
        "P": lambda m: m.load_persistent(m.line()),
        "Q": lambda m: m.load_persistent(m.pop()),
        "p": lambda m: m.put(int(m.line())),
        "q": lambda m: m.put(m.number("B")),
        "r": lambda m: m.put(m.number("I")),
        "\x94": lambda m: m.put(len(m.memo)),
        "g": lambda m: m.get(int(m.line())),
        "h": lambda m: m.get(m.number("B")),
        "j": lambda m: m.get(m.number("I")),
    }.items()
}
