#!/usr/bin/env python3
"""Who may use what: between crates by the table below, between the files of a crate without circles.

    scripts/check-floors.py            # fails with the edges that break a rule
    scripts/check-floors.py --walk treex-core/src/transform/grad.rs   # what a file uses, directly

Tests (items under `#[cfg(test)]`, and `tests.rs`) do not count, nor do the re-exports of a `mod.rs` or `lib.rs`. A method call
names no file, so an `impl` that is spread over files is not seen.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A crate, its sources, and the crates of this workspace that it may depend on outside of tests.
CRATES = {
    "treex-kernels": ("treex-core/kernels/src", []),
    "treex-core-derive": ("treex-core/derive/src", []),
    "treex-core": ("treex-core/src", ["treex-kernels", "treex-core-derive"]),
    "treex-testing": ("treex-core/testing/src", ["treex-core"]),
    "treex-nn": ("treex-nn/src", ["treex-kernels", "treex-core"]),
    "treex-optim": ("treex-optim/src", ["treex-kernels", "treex-core"]),
    "candle-treex": ("src", ["treex-core", "treex-nn", "treex-optim"]),
}

# What a crate's front page says of unsafe code.
UNSAFE = {"treex-core": "deny", "treex-nn": "forbid", "treex-optim": "forbid"}

# Folders in which files may use each other in a circle, and how many files at most are in it.
CIRCLES = {"treex-core/src/autograd": 4}


def manifest_dependencies(folder):
    """The workspace's crates in `[dependencies]` of a manifest."""
    section, found = "", []
    for line in (folder / "Cargo.toml").read_text().splitlines():
        if header := re.match(r"\[(.*)\]", line):
            section = header[1]
        elif section.endswith("dependencies") and not re.search("dev-|workspace", section) and (name := re.match(r"([\w-]+)", line)) and name[1] in CRATES:
            found.append(name[1])
    return found


def without_tests(text):
    """The text without comments, and without items under `#[cfg(test)]`: a line, or a block in braces."""
    text = re.sub(r"//[^\n]*", "", text)
    while test := re.search(r"^[ \t]*#\[cfg\((?:all\()?test\b[^\n]*\n", text, re.M):
        end = re.search(r"[;{]", text[test.end():])
        if end is None:
            return text[: test.start()]
        at = test.end() + end.end()
        if end[0] == "{":
            depth = 1
            while depth and at < len(text):
                depth += (text[at] == "{") - (text[at] == "}")
                at += 1
        text = text[: test.start()] + text[at:]
    return text


def expand(tree):
    """The paths of a `use` tree: `a::{b, c::{d, self}}` gives `a::b`, `a::c::d`, `a::c`."""
    tree = tree.strip()
    if "{" not in tree:
        return [re.sub(r"\s+as\s+\w+$", "", tree)]
    prefix, inner = tree.split("{", 1)
    inner, depth, parts, start = inner.rstrip()[:-1], 0, [], 0
    for at, char in enumerate(inner):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    parts.append(inner[start:])
    paths = [path for part in parts if part.strip() for path in expand(part)]
    return [prefix.rstrip(":") if path == "self" else prefix + path for path in paths]


class Crate:
    def __init__(self, name):
        self.name, self.folder = name, ROOT / CRATES[name][0]
        self.files = {}  # module path -> file
        for file in sorted(self.folder.rglob("*.rs")):
            parts = list(file.relative_to(self.folder).with_suffix("").parts)
            if parts[-1] == "tests" or "tests" in parts[:-1] or parts[0] == "bin":
                continue
            if parts[-1] in ("mod", "lib"):
                parts.pop()
            self.files[tuple(parts)] = file
        self.text = {module: without_tests(file.read_text()) for module, file in self.files.items()}
        self.exports = {module: dict(self.exports_of(module)) for module in self.files}

    def uses(self, module, visibility):
        for public, tree in re.findall(r"^[ \t]*(pub(?:\([\w ]+\))?[ \t]+)?use\s+([^;]+);", self.text[module], re.M):
            if bool(public) == visibility:
                yield from expand(re.sub(r"\s+", " ", tree))

    def exports_of(self, module):
        for path in self.uses(module, True):
            yield path.split("::")[-1], path

    def resolve(self, module, path, depth=0):
        """The module whose file defines what `path` in `module` names; None outside of this crate."""
        parts = [part for part in path.replace(" ", "").split("::") if part]
        own = self.name.replace("-", "_")
        if parts[0] in ("crate", own):
            at, parts = (), parts[1:]
        elif parts[0] in ("self", "super"):
            at = module
            while parts and parts[0] in ("self", "super"):
                at = at[:-1] if parts[0] == "super" else at
                parts = parts[1:]
        elif module + (parts[0],) in self.files:
            at = module
        else:
            return None
        while parts and at + (parts[0],) in self.files:
            at, parts = at + (parts[0],), parts[1:]
        if parts and depth < 8 and parts[0] in self.exports.get(at, {}):
            target = self.resolve(at, "::".join([self.exports[at][parts[0]], *parts[1:]]), depth + 1)
            return target if target is not None else at
        return at

    def edges(self, module):
        found = {}
        paths = list(self.uses(module, False))
        if self.files[module].name not in ("mod.rs", "lib.rs"):
            paths += self.uses(module, True)
        if globs := [path for path in paths if path.endswith("::*") and self.resolve(module, path) is not None]:
            sys.exit(f"check-floors: {self.files[module]}: a glob hides what is used: {globs}")
        # Paths in the code itself, also those that begin at a child or at an imported module.
        imported = {path.split("::")[-1]: path for path in paths}
        code = re.sub(r"^[ \t]*(pub\S*\s+)?use\s[^;]+;", "", self.text[module], flags=re.M)
        for path in re.findall(r"(?<![\w:])[a-z_]\w*(?:::\w+)+", code):
            head, rest = path.split("::", 1)
            if head in ("crate", "super", "self") or module + (head,) in self.files:
                paths.append(path)
            elif head in imported:
                paths.append(f"{imported[head]}::{rest}")
        for path in paths:
            target = self.resolve(module, path)
            if target is not None and target != module and target in self.files:
                found.setdefault(target, path)
        return found


def circles(graph):
    """The strongly connected components of more than one file (Tarjan, 1972)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in on_stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                on_stack.discard(component[-1])
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def main():
    sys.setrecursionlimit(10_000)
    broken = []
    for name, (sources, allowed) in CRATES.items():
        folder = ROOT / sources
        if not folder.exists():
            sys.exit(f"check-floors: `{sources}` does not exist: adapt the table")
        for dependency in manifest_dependencies(folder.parent):
            if dependency not in allowed:
                broken.append(f"{name} depends on {dependency}, which its row does not allow")
        if level := UNSAFE.get(name):
            if f"#![{level}(unsafe_code)]" not in (folder / "lib.rs").read_text():
                broken.append(f"{sources}/lib.rs lacks `#![{level}(unsafe_code)]`")
        crate = Crate(name)
        graph = {module: crate.edges(module) for module in crate.files}
        show = lambda module: str(crate.files[module].relative_to(ROOT))
        if len(sys.argv) == 3:
            for module, edges in graph.items():
                if show(module) == sys.argv[2]:
                    print("\n".join(sorted(f"{show(target)} ({path})" for target, path in edges.items())))
            continue
        for component in circles(graph):
            folders = {str(crate.files[module].parent.relative_to(ROOT)) for module in component}
            limit = CIRCLES.get(folders.pop(), 0) if len(folders) == 1 else 0
            if len(component) <= limit:
                continue
            broken.append(f"a circle of {len(component)} files in {name} (allowed here: {limit}):")
            for module in sorted(component):
                for target, path in graph[module].items():
                    if target in component:
                        broken.append(f"    {show(module)} -> {show(target)} by `{path}`")
    if broken:
        sys.exit("\n".join(["check-floors:", *broken]))


main()
