"""Mutation testing: changes one place of the library at a time and reports which test fails.

    python -m tests.mutations --list                 # the mutations
    python -m tests.mutations --tier fast            # run them against the fast tier
    python -m tests.mutations --only 3 17 --all      # two of them, against the whole suite

A mutation replaces one expression inside a function of jaxgen: another sign, constant, axis, bound, comparison, min for
max, a dropped term or call, a negated condition. The choice is deterministic. Candidates are ranked by a hash of the
seed, file, function, kind and source line, so that a change elsewhere does not alter the choice. Each package gets a
share in proportion to its candidates and at least `FLOOR`; kinds take turns; a function gets at most one mutation.

Each mutation is applied to a copy of the source tree. The test files that fit the module run first, then the rest of
the package's test folder, then, with `--all`, the rest of the suite. The first failure ends the run: the mutation is
caught. A run that uses far more processor time than `durations.json` says, or none for long, counts as caught by a
hang. One JSON line is written for each mutation and tier; started again with the same `--results`, the program
continues. At the end it runs the tests that caught something on the unchanged tree, since a failure there proves
nothing, and prints a table.
"""

import argparse
import ast
import collections
import hashlib
import importlib.util
import inspect
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
TOTAL = 90
FLOOR = 4
MARKERS = {"fast": "not slow", "slow": "slow"}
SCOPES = ("files", "package", "all")
IDLE = 300
"""Seconds without any processor time after which a run counts as hanging."""
MEMORY = 12 << 30
"""Bytes of data that a test process may allocate: a mutation can make a loop endless."""

# Mutations that change nothing observable, by file, function and mutated line; the next in rank takes their place.
EQUIVALENT = {
    ("jaxgen/autoencoder/baselines.py", "pca", "components = components / np.sign(largest)"): (
        "the sign is 1 or -1: the largest entry of a unit vector is not 0"
    ),
    (
        "jaxgen/compiler.py",
        "_wrong_sums",
        "e = (np.arange(16 * 20 * 20) % 7 + 3.0).astype(np.float32).reshape(16, 20, 20)",
    ): "other values of an input whose expected sums are computed from it",
    (
        "jaxgen/diffusion/interpolation.py",
        "_great_circle",
        "jnp.where(turns, jnp.sin(part * safe) / jnp.sin(safe), part) for part in (1 - share, share)",
    ): "jnp.where broadcasts, so that adding 0 changes no shape and no value",
    (
        "jaxgen/nn/conv_forms.py",
        "image",
        "if geometry.stride == 2 and kernel.shape[3] >= _FEW_CHANNELS and min(geometry.kernel) > 1:",
    ): "the faster of two forms of one sum is chosen by another size; both are tested",
}


# Candidates


class Mutation(NamedTuple):
    """One change of the source: `text` replaces the bytes from `start` to `end` of `file`."""

    file: str
    function: str
    kind: str
    before: str
    after: str
    occurrence: int
    line: int
    start: int
    end: int
    text: str

    @property
    def id(self) -> str:
        return _digest(*self.identity)

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(str(getattr(self, name)) for name in _IDENTITY)

    @property
    def package(self) -> str:
        return Path(self.file).with_suffix("").parts[1]

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


_IDENTITY = ("file", "function", "kind", "before", "after", "occurrence")


class Change(NamedTuple):
    """`new` in place of `node`, an expression."""

    kind: str
    node: ast.expr
    new: ast.expr


SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
EXTREMES = {
    "min": "max", "minimum": "maximum", "fmin": "fmax", "argmin": "argmax", "nanmin": "nanmax", "pmin": "pmax",
}  # fmt: skip
EXTREMES |= {after: before for before, after in EXTREMES.items()}
DROPPED = {
    "abs", "arccos", "arctan", "ceil", "conj", "cos", "cumsum", "degrees", "exp", "expm1", "fabs", "flip", "floor",
    "log", "log1p", "log2", "log_sigmoid", "logit", "normalize", "radians", "reciprocal", "relu", "rint", "round",
    "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sorted", "sqrt", "square", "stop_gradient", "swish",
    "tan", "tanh",
}  # fmt: skip
# Calls whose arguments are text for people, and keywords that do not change what is computed.
MESSAGES = {"debug", "error", "format", "info", "join", "print", "warn", "warning", "write_text"}
IRRELEVANT = {"dpi", "indent", "maxsize", "stacklevel", "timeout"}
TEXT_FUNCTIONS = {"__repr__", "__str__"}
PATHS = re.compile(r"path|folder|dir|root|file|where|base", re.IGNORECASE)


def changes(node: ast.AST) -> Iterator[Change]:
    """The changes of `node` itself, without those of what it contains."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right) if _is_numeric(node):
            yield Change("sign", node, ast.BinOp(left, SWAPPED[type(node.op)](), right))
            yield Change("dropped term", node, left)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() | ast.FloorDiv(), right=right) if _is_numeric(node):
            yield Change("product", node, ast.BinOp(left, SWAPPED[type(node.op)](), right))
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield Change("sign", node, operand)
        case ast.Compare(left=left, ops=[op, *ops], comparators=right) if type(op) in SWAPPED:
            yield Change("comparison", node, ast.Compare(left, [SWAPPED[type(op)](), *ops], right))
        case ast.BoolOp(op=op, values=values):
            yield Change("condition", node, ast.BoolOp(SWAPPED[type(op)](), values))
        case ast.If(test=test, body=body) if not isinstance(body[-1], ast.Raise):
            yield Change("condition", test, ast.UnaryOp(ast.Not(), test))
        case ast.IfExp(test=test):
            yield Change("condition", test, ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[test, *_]):
            yield Change("condition", test, ast.UnaryOp(ast.Not(), test))
        case ast.Subscript(slice=index):
            for part in index.elts if isinstance(index, ast.Tuple) else [index]:
                yield from _index_changes(part)
        case ast.Call():
            yield from _call_changes(node)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            yield Change("constant", node, ast.Constant(_other(value)))


def _call_changes(node: ast.Call) -> Iterator[Change]:
    name = _name(node.func)
    if name == "range" and node.args:
        stop = node.args[0] if len(node.args) == 1 else node.args[1]
        yield Change("off by one", stop, ast.BinOp(stop, ast.Sub(), ast.Constant(1)))
    if name in EXTREMES:
        other = EXTREMES[name]
        function = ast.Attribute(node.func.value, other) if isinstance(node.func, ast.Attribute) else ast.Name(other)
        yield Change("extreme", node, ast.Call(function, node.args, node.keywords))
    if name in DROPPED and len(node.args) == 1 and not node.keywords:
        yield Change("dropped call", node, node.args[0])
    for keyword in node.keywords:
        if keyword.arg in ("axis", "axes"):
            match keyword.value:
                case ast.Constant(value=int() as axis):
                    yield Change("axis", keyword.value, ast.Constant(-1 if axis == 0 else axis - 1))
                case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as axis)):
                    new = ast.Constant(0) if axis == 1 else ast.UnaryOp(ast.USub(), ast.Constant(axis - 1))
                    yield Change("axis", keyword.value, new)
                case ast.Tuple(elts=[_, *rest]) if rest:
                    yield Change("axis", keyword.value, ast.Tuple(rest, ast.Load()))


def _index_changes(part: ast.expr) -> Iterator[Change]:
    match part:
        case ast.Slice(lower=lower, upper=upper):
            if lower:
                yield Change("off by one", lower, _moved(lower, ast.Add()))
            if upper:
                yield Change("off by one", upper, _moved(upper, ast.Sub()))
        case ast.Constant(value=int()) | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int())):
            yield Change("off by one", part, _moved(part, ast.Add()))


def _moved(bound: ast.expr, op: ast.operator) -> ast.expr:
    """The bound one further inside; a number becomes another number, and a negative one the next below."""
    match bound:
        case ast.Constant(value=int() as value):
            return ast.Constant(value + 1 if isinstance(op, ast.Add) or value == 0 else value - 1)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return ast.UnaryOp(ast.USub(), ast.Constant(value + 1))
    return ast.BinOp(bound, op, ast.Constant(1))


def _other(value: int | float) -> int | float:
    if isinstance(value, int) or value == 0:
        return value + 1
    return value * 100 if abs(value) < 1e-3 else value / 2


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_numeric(node: ast.BinOp) -> bool:
    """Whether both sides may be numbers: not text, sequences, shapes or paths, as far as their form shows it."""
    for side in (node.left, node.right):
        match side:
            case ast.Constant(value=str() | bytes()) | ast.JoinedStr() | ast.List() | ast.Tuple() | ast.ListComp():
                return False
            case ast.Call(func=ast.Name(id="list" | "tuple" | "sorted" | "str" | "Path")):
                return False
            case ast.Subscript(slice=ast.Slice()) | ast.Attribute(attr="shape" | "parent"):
                return False
            case ast.BinOp() if not _is_numeric(side):
                return False
        if isinstance(node.op, ast.Div) and PATHS.search(_name(side)):
            return False
    return True


def candidates(file: str, source: str) -> Iterator[Mutation]:
    """All mutations of the functions of a file, in the order of the source."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    seen = collections.Counter()
    for function, change in _walk(ast.parse(source), ()):
        node = change.node
        assert node.end_lineno is not None and node.end_col_offset is not None
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        text = ast.unparse(change.new)
        # A part of the expression in its place may bind less tightly.
        if change.new in list(ast.iter_child_nodes(node)) + getattr(node, "args", []):
            text = text if re.fullmatch(r"[\w.]+", text) else f"({text})"
        first, last = starts[node.lineno - 1], starts[node.end_lineno]
        raw = source.encode()
        before = " ".join(raw[first:last].decode().split())
        after = " ".join((raw[first:start] + text.encode() + raw[end:last]).decode().split())
        identity = (file, ".".join(function), change.kind, before, after)
        yield Mutation(*identity, seen[identity], node.lineno, start, end, text)
        seen[identity] += 1


def _walk(node: ast.AST, function: tuple[str, ...], inside: bool = False) -> Iterator[tuple[tuple[str, ...], Change]]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            if name not in TEXT_FUNCTIONS:
                for statement in node.body:
                    yield from _walk(statement, (*function, name), True)
            return
        case ast.ClassDef(name=name):
            for statement in node.body:
                yield from _walk(statement, (*function, name), False)
            return
        case ast.Lambda(body=body):
            yield from _walk(body, function, inside)
            return
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Expr(value=ast.Constant()) | ast.arguments():
            return
        case ast.AnnAssign(value=value):
            if value:
                yield from _walk(value, function, inside)
            return
        case ast.Call(func=func) if _name(func) in MESSAGES:
            return
        case ast.keyword(arg=name) if name in IRRELEVANT:
            return
    if inside:
        for change in changes(node):
            yield function, change
    for child in ast.iter_child_nodes(node):
        # These have kinds of their own.
        if isinstance(child, ast.Constant | ast.UnaryOp) and isinstance(node, ast.Slice | ast.Subscript):
            continue
        if isinstance(node, ast.keyword) and node.arg in ("axis", "axes"):
            continue
        if isinstance(node, ast.Subscript) and isinstance(child, ast.Tuple):
            for part in child.elts:
                if not isinstance(part, ast.Constant | ast.UnaryOp):
                    yield from _walk(part, function, inside)
            continue
        yield from _walk(child, function, inside)


# Choice


def chosen(root: Path = ROOT, seed: int = SEED, total: int = TOTAL, floor: int = FLOOR) -> list[Mutation]:
    """The mutations, by package, in the order of files and lines."""
    packages: dict[str, list[Mutation]] = collections.defaultdict(list)
    for path in sorted((root / "jaxgen").rglob("*.py")):
        if path.name != "__init__.py":
            file = path.relative_to(root).as_posix()
            for mutation in candidates(file, path.read_text()):
                if (mutation.file, mutation.function, mutation.after) not in EQUIVALENT:
                    packages[mutation.package].append(mutation)
    everything = sum(len(group) for group in packages.values())
    picked = []
    for group in packages.values():
        number = max(floor, round(total * len(group) / everything))
        picked += sorted(_spread(group, seed)[:number], key=lambda m: (m.file, m.line, m.start))
    return picked


def _spread(group: list[Mutation], seed: int) -> list[Mutation]:
    """The group by rank: kinds take turns, and a function comes once."""
    kinds: dict[str, list[Mutation]] = collections.defaultdict(list)
    for mutation in sorted(group, key=lambda m: _digest(str(seed), *m.identity)):
        kinds[mutation.kind].append(mutation)
    turns = sorted(kinds, key=lambda kind: _digest(str(seed), kind, group[0].package))
    spread, functions = [], set()
    while any(kinds.values()):
        for kind in turns:
            while kinds[kind]:
                mutation = kinds[kind].pop(0)
                if (mutation.file, mutation.function) not in functions:
                    functions.add((mutation.file, mutation.function))
                    spread.append(mutation)
                    break
    return spread


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


# Runs


class Result(NamedTuple):
    """What one tier says of one mutation; `by` is the test that failed, or how the run ended."""

    id: str
    tier: str
    scope: str
    caught: bool
    by: str
    seconds: float


def public_names(source: str) -> list[str]:
    """The public functions and classes of a module."""
    return [name for name in _definitions(source) if not name.startswith("_")]


def public_users(source: str, function: str) -> list[str]:
    """The public functions and classes of a module that use the function, directly or not, or are it."""
    definitions = _definitions(source)
    used = {
        name: {
            n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(d) if isinstance(n, ast.Name | ast.Attribute)
        }
        for name, d in definitions.items()
    }
    users = {function.split(".")[0]}
    while more := {name for name in used if used[name] & users} - users:
        users |= more
    return [name for name in definitions if name in users and not name.startswith("_")]


def _definitions(source: str) -> dict[str, ast.stmt]:
    return {d.name: d for d in ast.parse(source).body if isinstance(d, ast.FunctionDef | ast.ClassDef)}


def fitting_files(root: Path, mutation: Mutation) -> list[str]:
    """At most three test files of the package: named after the module, or with the names that it defines."""
    module = Path(mutation.file).stem
    folder = root / "tests" / mutation.package
    if not folder.is_dir():
        return [f"tests/test_{module}.py"]
    # Tests mirror the tree: those of jaxgen/vae/bounds.py are in tests/vae/test_bounds.py.
    mirrored = root / "tests" / Path(mutation.file).relative_to("jaxgen").with_name(f"test_{module}.py")
    words = {part.rstrip("s") for part in module.split("_")}
    source = (root / mutation.file).read_text()
    users = public_users(source, mutation.function)
    scores = {}
    for path in sorted(folder.rglob("test_*.py")):
        stem = path.stem.removeprefix("test_")
        text = path.read_text()
        mentions = {name: len(re.findall(rf"\b{name}\b", text)) for name in public_names(source)}
        score = (
            path == mirrored,
            stem == module,
            len(words & {part.rstrip("s") for part in stem.split("_")}),
            sum(mentions[name] for name in users),
            sum(mentions.values()),
        )
        if any(score):
            scores[path.relative_to(root).as_posix()] = score
    return sorted(scores, key=lambda file: scores[file], reverse=True)[:3]


def files_by_scope(root: Path, mutation: Mutation, scope: str, passed: str | None = None) -> list[list[str]]:
    """The test files of each step after `passed`, each file once; within a later step the quickest come first."""
    seconds = json.loads((root / "tests" / "durations.json").read_text())
    every = sorted(p.relative_to(root).as_posix() for p in (root / "tests").rglob("test_*.py"))
    every.sort(key=lambda file: seconds.get(file, 0.0))
    steps = [fitting_files(root, mutation)]
    steps.append([file for file in every if file.startswith(f"tests/{mutation.package}/") and file not in steps[0]])
    steps.append([file for file in every if file not in steps[0] + steps[1]])
    first = SCOPES.index(passed) + 1 if passed else 0
    return [step for step in steps[first : SCOPES.index(scope) + 1] if step]


class Copy:
    """A copy of the source tree, in which one file at a time is mutated."""

    def __init__(self, folder: Path, patience: float):
        self.folder, self.patience = folder, patience
        self._process: subprocess.Popen | None = None
        self._stopped = False
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # All copies share the suite's compile cache, which the tests look for in their own tree.
        show = "from experiments.command import compilation_cache; print(compilation_cache.name())"
        name = subprocess.run([sys.executable, "-c", show], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        cache = f".jax_cache-{name.strip()}"
        (ROOT / cache).mkdir(exist_ok=True)
        (folder / cache).symlink_to(ROOT / cache)

    def test(self, mutation: Mutation, tier: str, scope: str, passed: str | None) -> Result:
        """Runs the tests of a tier against the mutation, which survived those of the scope `passed`."""
        path, start = self.folder / mutation.file, time.monotonic()
        source = path.read_bytes()
        by = None
        try:
            self._write(path, mutation.apply(source))
            users = public_users(source.decode(), mutation.function)
            for files in files_by_scope(self.folder, mutation, scope, passed):
                if failed := self.failures(files, MARKERS[tier], "-x", "--first", ",".join(users)):
                    by = failed[0]
                    break
        finally:
            self._write(path, source)
        return Result(mutation.id, tier, scope, bool(by), by or "", round(time.monotonic() - start, 1))

    def failures(self, tests: list[str], marker: str, *options: str) -> list[str]:
        report, output = (self.folder.with_name(f"{self.folder.name}.{end}") for end in ("failures", "output"))
        report.write_text("")
        command = [
            sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--no-summary",
            "-p", "tests.mutations", "--failures", str(report), "-m", marker, *options, *tests,
        ]  # fmt: skip
        seconds = json.loads((self.folder / "tests" / "durations.json").read_text())
        limit = self.patience * (60 + sum(seconds.get(file, 60) for file in {test.split("::")[0] for test in tests}))
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        with open(output, "wb") as file:
            if self._stopped:
                raise KeyboardInterrupt
            process = self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            try:
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
                if hang := _wait(process, limit):
                    return [hang]
            finally:
                self._kill()
        if self._stopped:
            raise KeyboardInterrupt
        code = process.returncode
        failed = report.read_text().splitlines()
        if not failed and code not in (0, 5):
            last = (output.read_text(errors="replace").split("\n\n")[-1].strip().splitlines() or [""])[-1]
            return [f"exit code {code}: {last[:100]}"]
        return failed

    def stop(self) -> None:
        """Ends the run that is under way, without a result."""
        self._stopped = True
        self._kill()

    def _kill(self) -> None:
        """Ends pytest and what its tests started."""
        if self._process:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # Bytecode of the same second and size would count as current.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def _wait(process: subprocess.Popen, limit: float) -> str:
    """Waits for the end; returns the kind of hang if the group uses more processor time than `limit`, or none for long.

    Wall time is no measure: the machine may be busy with something else.
    """
    used, idle_since = 0.0, time.monotonic()
    while True:
        try:
            process.wait(2)
            return ""
        except subprocess.TimeoutExpired:
            before, (used, waits) = used, _processor_time(process.pid)
        if used > limit:
            return f"hang: no end after {limit:.0f} s of processor time"
        if used != before or not waits:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > IDLE:
            return f"hang: idle for {IDLE} s"


def _processor_time(group: int) -> tuple[float, bool]:
    """Seconds that the processes of a group and their ended children have used, and whether all threads wait."""
    ticks, waits = 0, True
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the name, which may contain anything.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
                threads = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in (process / "task").iterdir()]
                # Runnable, reading a disk, or stopped from outside.
                waits = waits and not {"R", "D", "T"} & set(threads)
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK"), waits


# As a plugin of the copies' pytest: files in the order given, and failures written to a file.


def pytest_addoption(parser):
    parser.addoption("--failures", metavar="FILE", help="write the names of tests that fail, one on a line")
    parser.addoption("--first", metavar="NAMES", default="", help="in each file, tests that mention these come first")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--failures"):
        return
    rank = {file: i for i, file in enumerate(dict.fromkeys(arg.split("::")[0] for arg in config.args))}
    names = [name for name in config.getoption("--first").split(",") if name]
    mention = re.compile(rf"\b({'|'.join(names)})\b") if names else None
    items.sort(
        key=lambda item: (rank.get(item.location[0], len(rank)), not (mention and mention.search(_source(item))))
    )


def _source(item):
    try:
        return inspect.getsource(item.function)
    except (AttributeError, OSError):
        return ""


def pytest_configure(config):
    if config.getoption("--failures"):
        config.pluginmanager.register(_Failures(Path(config.getoption("--failures"))), "mutation-failures")


class _Failures:
    def __init__(self, path):
        self._path = path

    def pytest_runtest_logreport(self, report):
        self._add(report, report.nodeid if report.when == "call" else f"{report.nodeid} ({report.when})")

    def pytest_collectreport(self, report):
        self._add(report, f"{report.nodeid} (collection)")

    def _add(self, report, name):
        if report.failed:
            with open(self._path, "a") as file:
                file.write(f"{name}\n")


# The program


def load_results(path: Path) -> dict[tuple[str, str], Result]:
    """The last result of each mutation and tier."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row["id"], row["tier"]): Result(**{name: row[name] for name in Result._fields}) for row in rows}


def is_done(
    results: dict[tuple[str, str], Result], mutation: Mutation, tier: str, tiers: list[str], scope: str
) -> bool:
    """Whether the tier has nothing to add: it has caught the mutation, or an earlier tier of `tiers` has, or it ran."""
    earlier = [results.get((mutation.id, name)) for name in tiers[: tiers.index(tier)]]
    if any(result and result.caught for result in earlier):
        return True
    result = results.get((mutation.id, tier))
    return bool(result and (result.caught or SCOPES.index(result.scope) >= SCOPES.index(scope)))


def run_all(mutations: list[Mutation], args: argparse.Namespace) -> None:
    """Runs what is not done and appends the results to the file."""
    tiers = list(MARKERS) if args.tier == "all" else [args.tier]
    results = load_results(args.results)
    with tempfile.TemporaryDirectory(prefix="mutations-") as base:
        every = [Copy(Path(base) / str(job), args.patience) for job in range(args.jobs)]
        copies: queue.Queue[Copy] = queue.Queue()
        for copy in every:
            copies.put(copy)

        def run(mutation: Mutation) -> None:
            copy = copies.get()
            try:
                for tier in tiers:
                    if not is_done(results, mutation, tier, tiers, args.scope):
                        before = results.get((mutation.id, tier))
                        result = copy.test(mutation, tier, args.scope, before and before.scope)
                        results[mutation.id, tier] = result
                        with open(args.results, "a") as file:
                            row = {**result._asdict(), **dict(zip(_IDENTITY, mutation.identity, strict=True))}
                            file.write(json.dumps(row) + "\n")
                        verdict = result.by if result.caught else f"survives ({args.scope})"
                        name = f"{mutation.file} {mutation.function} [{mutation.kind}]"
                        print(f"{result.seconds:7.1f} s  {tier}  {mutation.id}  {name}: {verdict}", flush=True)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(args.jobs) as pool:
            try:
                list(pool.map(run, mutations))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for copy in every:
                    copy.stop()
                raise
        check_catching_tests(copies.get(), [r for m in mutations for t in tiers if (r := results.get((m.id, t)))])


def check_catching_tests(copy: Copy, results: list[Result]) -> None:
    """Runs the catching tests without a mutation, where a failure would mean that they catch nothing."""
    tests = sorted({re.sub(r" \(\w+\)$", "", result.by) for result in results if result.by.startswith("tests/")})
    failed = copy.failures(tests, "") if tests else []
    for test in failed:
        print(f"WITHOUT A MUTATION ALSO FAILS: {test}")


def table(mutations: list[tuple[int, Mutation]], results: dict[tuple[str, str], Result]) -> str:
    lines = ["| # | mutation | fast tier | slow tier |", "|---|---|---|---|"]
    for number, mutation in mutations:
        cells = []
        for tier in MARKERS:
            result = results.get((mutation.id, tier))
            text = "" if result is None else f"`{result.by}`" if result.caught else f"survives ({result.scope})"
            cells.append(text.replace("|", "\\|"))
        name = f"{mutation.file} `{mutation.function}` {mutation.kind}: {_shown(mutation)}".replace("|", "\\|")
        lines.append(f"| {number} | {name} | {' | '.join(cells)} |")
    rows = [[results.get((m.id, tier)) for tier in MARKERS] for _, m in mutations]
    caught = sum(any(r and r.caught for r in row) for row in rows)
    survivors = sum(not any(r and r.caught for r in row) and any(row) for row in rows)
    return "\n".join([*lines, "", f"{len(mutations)} mutations: {caught} caught, {survivors} survive."])


def _shown(mutation: Mutation) -> str:
    return f"`{mutation.before}` → `{mutation.after}`"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutations", description="Change the library one place at a time; report what fails."
    )
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    parser.add_argument("--table", action="store_true", help="print the table of the results so far and stop")
    parser.add_argument(
        "--tier", choices=[*MARKERS, "all"], default="fast", help="all: the slow tier for what the fast tier misses"
    )
    parser.add_argument("--all", action="store_true", help="continue with the whole suite after the package's tests")
    parser.add_argument("--files", action="store_true", help="stop after the test files that fit the module")
    parser.add_argument("--only", nargs="+", metavar="N", help="numbers or ids of the list")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutations.jsonl", help="JSON lines file")
    parser.add_argument("--jobs", type=int, default=1, help="copies tested at the same time")
    parser.add_argument(
        "--patience",
        type=float,
        default=6.0,
        help="a hang takes this many times the recorded processor time, plus a minute",
    )
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    args.scope = "all" if args.all else "files" if args.files else "package"
    # As Ctrl-C does, this ends the tests that are under way and removes the copies.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    mutations = chosen(seed=args.seed)
    if args.list:
        for number, m in enumerate(mutations, 1):
            print(f"{number:3} {m.id} {m.file}:{m.line} {m.function} [{m.kind}]\n    {m.before}\n    {m.after}")
        return
    wanted = [m for i, m in enumerate(mutations, 1) if not args.only or {str(i), m.id} & set(args.only)]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    if not args.table:
        run_all(wanted, args)
    print(table([(i, m) for i, m in enumerate(mutations, 1) if m in wanted], load_results(args.results)))


if __name__ == "__main__":
    main()
