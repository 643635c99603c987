"""The stack and the containers of the interpreter of pickles; `jaxgen.files.pickles` has its opcodes."""

import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxgen.files.limits import Budget

_TEXT = 4096
_NUMBER = 64
"""Bytes of the longest integer: random generators have states of this size."""


class RefusedNameError(ValueError):
    """The pickle names something that is not needed to hold arrays.

    Attributes:
        name: module and name, joined by a dot.
    """

    def __init__(self, name: str):
        super().__init__(f"it asks for {name}, which is refused; nothing of it was run")
        self.name = name


@runtime_checkable
class HasState(Protocol):
    """An object of the caller that takes the state which the pickle gives it."""

    def set_state(self, state: Any) -> None:
        """Takes the state, plain data."""
        ...


class Name(NamedTuple):
    """What a pickle named: inert until it is called.

    Attributes:
        name: module and name, joined by a dot.
        call: the caller's function, or None where it may only be an argument.
    """

    name: str
    call: Callable[..., Any] | None


class Mark:
    """The place on the stack where an open container begins."""


class Machine:
    """The state of one pickle that is read; the arguments are those of `read_pickle`."""

    def __init__(
        self,
        file: BinaryIO,
        names: Mapping[str, Callable[..., Any] | None],
        budget: Budget,
        size: int,
        persistent: Callable[[Any], Any] | None,
    ):
        self.file, self.names, self.budget, self.size, self.persistent = file, names, budget, size, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is Mark:
            raise ValueError("the pickle ends within a container")
        return self.stack[0]

    # Bytes.

    def take(self, size: int) -> bytes:
        if size > self.size:
            raise ValueError(f"the pickle declares {size:,} bytes; the file has {self.size:,}")
        data = self.file.read(size)
        if len(data) != size:
            raise ValueError("the pickle ends early")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def line(self) -> str:
        data = self.file.readline(_TEXT)
        if not data.endswith(b"\n"):
            raise ValueError("the pickle has a line without an end")
        return data[:-1].decode("latin1")

    # The stack.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is Mark:
            raise ValueError("the pickle takes more from its stack than there is")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not Mark:
            at -= 1
        if at < 0:
            raise ValueError("the pickle closes a container that it has not opened")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    # Values.

    def text(self, data: bytes) -> None:
        # Beyond Latin 1 a text takes four bytes a character, so long ones must be Latin 1, as packed bytes are.
        if len(data) > _TEXT and np.frombuffer(data, np.uint8).max() > 0xC3:
            raise ValueError(f"the pickle has a text of {len(data):,} bytes")
        self.push(data.decode("utf-8"))

    def old_text(self, data: bytes) -> None:
        self.push(data.decode("latin1") if len(data) <= _TEXT else data)

    def quoted(self) -> None:
        line = self.line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
            raise ValueError("the pickle has a text without quotes")
        self.push(self.unescaped(line[1:-1]))

    def unescaped(self, text: str) -> str:
        if "\\" in text:
            raise ValueError(
                "the pickle has a text with escapes, of protocol 0; write it anew with protocol 2 or later"
            )
        return text

    def integer(self, text: str) -> None:
        if len(text) > 2 * _NUMBER:
            raise ValueError(f"the pickle has an integer of {len(text)} digits")
        self.push({"00": False, "01": True}[text] if text in ("00", "01") else int(text))

    def long(self, size: int) -> None:
        if size > _NUMBER:
            raise ValueError(f"the pickle has an integer of {size:,} bytes; expected at most {_NUMBER}")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    # Containers.

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise ValueError(f"the pickle appends to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"the pickle sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[dict_key(key)] = value

    def dict_of(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    # Names.

    def name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("the pickle names something by what is no text")
        full = f"{module.replace('numpy._core', 'numpy.core').replace('__builtin__', 'builtins')}.{name}"
        if full not in self.names:
            text = f"{module}.{name}"[:200]
            raise RefusedNameError("".join(letter if letter.isprintable() else "?" for letter in text))
        self.push(Name(full, self.names[full]))

    def named_by_stack(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or function.call is None or type(arguments) is not tuple:
            called = function.name if isinstance(function, Name) else f"a {type(function).__name__}"
            raise ValueError(f"the pickle calls {called}")
        if len(arguments) > 16:
            raise ValueError(f"the pickle calls {function.name} with {len(arguments)} arguments")
        try:
            self.push(function.call(*arguments))
        except TypeError as error:
            raise ValueError(f"the pickle calls {function.name} with wrong arguments ({error})") from error

    def new_with_keywords(self) -> None:
        if self.pop():
            raise ValueError("the pickle makes an object with keywords")
        self.call()

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, HasState):
            target.set_state(state)
        elif type(target) is not dict:  # PyTorch notes versions on its state dictionaries, which hold no arrays.
            raise ValueError(f"the pickle sets attributes of a {type(target).__name__}")

    def load_persistent(self, identifier: Any) -> None:
        if self.persistent is None:
            raise ValueError("the pickle refers to data outside of it")
        self.push(self.persistent(identifier))

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("the pickle refers to an object that it has not made")
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.top()


def dict_key(key: Any) -> Any:
    """A key of a dict that is cheap to hash: text, bytes, numbers, None; a tuple of them as its text.

    Raises:
        ValueError: another one.
    """
    if type(key) is tuple and len(key) <= 8:
        return str(tuple(_plain_key(part) for part in key))
    return _plain_key(key)


def _plain_key(key: Any) -> Any:
    if type(key) not in (str, bytes, int, float, bool, type(None)):
        raise ValueError(f"the pickle has a key that is a {type(key).__name__}")
    if type(key) in (str, bytes) and len(key) > 1000:
        raise ValueError(f"the pickle has a key of {len(key):,} characters")
    if type(key) is int and abs(key) >= 1 << 60:  # Larger ones may all have one hash.
        raise ValueError("the pickle has a key that is an integer of more than 60 bits")
    return key
