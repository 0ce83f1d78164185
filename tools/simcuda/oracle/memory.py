"""Loads, stores, addresses and atomics (chapters 9.7.9 and 9.7.13 of the manual)."""

from itertools import product

import ieee
from book import generator, rows, signed, value, width, wrap
from floats import finish

TYPES = ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64")
SPACES = {".global": "$g", ".shared": "$s", ".local": "$l"}


def slot(space):
    return SPACES.get(space, "$g")


def registers(kind):
    return f"b{max(width(kind), 16)}"


def loads_and_stores(book):
    for kind, count, space in product(TYPES, (1, 2, 4), (".global", ".shared", ".local", "", ".global.nc")):
        if count * width(kind) > 128:
            continue
        vector = f".v{count}" if count > 1 else ""
        register = registers(kind)
        names = [f"$d{i}" for i in range(count)]
        group = f"{{{', '.join(names)}}}" if count > 1 else names[0]
        at, plain = slot(space), space.removesuffix(".nc")
        stores = "".join(f"st{plain}.b64 [{at}+{8 * i}], $a{i};\n" for i in range(2))
        name = f"ld{space}{vector}.{kind}"

        def loaded(low, high):
            whole = high << 64 | low
            found = [wrap(whole >> width(kind) * i, width(kind)) for i in range(count)]
            return [signed(f, width(kind)) if kind[0] == "s" else f for f in found]

        # The read-only path (.nc) is for memory that stays as it is while the kernel runs: it reads the kernel's inputs.
        if space == ".global.nc":
            stores, at = "", "$i"
        book.form(name, ["b64"] * 2, [register] * count, rows(name, ["b64"] * 2, 6), loaded, body=f"{stores}{name} {group}, [{at}];")
        if space == ".global.nc":
            continue
        group = f"{{{', '.join(f'$a{i}' for i in range(count))}}}" if count > 1 else "$a0"
        words = "".join(f"ld{plain}.b64 $d{i}, [{at}+{8 * i + 8}];\n" for i in range(4))
        name = f"st{space}{vector}.{kind}"

        def stored(*parts):
            whole = sum(wrap(p, width(kind)) << width(kind) * i for i, p in enumerate(parts))
            mask = (1 << count * width(kind)) - 1
            whole = (1 << 256) - 1 & ~(mask << 64) | whole << 64
            return [whole >> 64 * i for i in range(4)]

        fill = "".join(f"st{plain}.b64 [{at}+{8 * i + 8}], -1;\n" for i in range(4))
        book.form(
            name, [register] * count, ["b64"] * 4, rows(name, [register] * count, 6), stored,
            body=f"{fill}{name} [{at}+16], {group};\n{words}",
        )  # fmt: skip


def wide_registers(book):
    """A loaded value is extended to its register; of a stored one, the low part is taken."""
    for kind, register in product(("u8", "s8", "u16", "s16", "b16"), ("b32", "b64")):
        name = f"ld.global.{kind} to {register}"
        book.form(
            name, ["b64"], [register], rows(name, ["b64"], 6),
            lambda a: signed(wrap(a, width(kind)), width(kind)) if kind[0] == "s" else wrap(a, width(kind)),
            body=f"st.global.b64 [$g], $a0;\nld.global.{kind} $d0, [$g];",
        )  # fmt: skip
        name = f"st.global.{kind} from {register}"
        book.form(
            name, [register], ["b64"], rows(name, [register], 6), lambda a: wrap(a, width(kind)),
            body=f"st.global.{kind} [$g], $a0;\nld.global.b64 $d0, [$g];",
        )  # fmt: skip


def qualified(book):
    """Qualifiers that change nothing where there is one thread."""
    for op in ("volatile.global", "relaxed.gpu.global", "acquire.gpu.global", "global.ca", "global.cg", "global.cs", "global.lu", "global.cv"):
        book.form(f"ld.{op}.u32", ["b32"], ["b32"], rows(op, ["b32"], 4), lambda a: a, body=f"st.global.b32 [$g], $a0;\nld.{op}.u32 $d0, [$g];")
    for op in ("volatile.global", "relaxed.gpu.global", "release.gpu.global", "global.wb", "global.cg", "global.cs", "global.wt"):
        book.form(f"st.{op}.u32", ["b32"], ["b32"], rows(op, ["b32"], 4), lambda a: a, body=f"st.{op}.u32 [$g], $a0;\nld.global.u32 $d0, [$g];")
    for hint in ("L1::no_allocate", "L1::evict_last", "L2::128B", "nc.L1::no_allocate.L2::256B"):
        name = f"ld.global.{hint}.u32"
        book.form(name, ["b32"], ["b32"], rows(hint, ["b32"], 4), lambda a: a, body=f"{name} $d0, [$i];")
    book.form("st.global.L1::no_allocate.u32", ["b32"], ["b32"], rows("hinted", ["b32"], 4), lambda a: a, body="st.global.L1::no_allocate.u32 [$g], $a0;\nld.global.u32 $d0, [$g];")
    for kind, space in product(TYPES, (".global", "")):
        name = f"ldu{space}.{kind}"
        extend = (lambda a: signed(wrap(a, width(kind)), width(kind))) if kind[0] == "s" else (lambda a: wrap(a, width(kind)))
        book.form(name, ["b64"], [registers(kind)], rows(name, ["b64"], 4), extend, body=f"{name} $d0, [$i];")
    for name in ("prefetch.global.L2 [$i]", "prefetch.global.L1 [$i]", "prefetch.L2 [$i]", "prefetch.L1 [$i]", "prefetch.local.L1 [$l]", "prefetch.local.L2 [$l]", "prefetchu.L1 [$i]", "nanosleep.u32 5"):
        book.form(name.split()[0], ["b32"], ["b32"], rows(name, ["b32"], 4), lambda a: a, body=f"{name};\nmov.b32 $d0, $a0;")
    for fence in ("membar.cta", "membar.gl", "membar.sys", "fence.acq_rel.cta", "fence.sc.gpu", "bar.warp.sync", "bar.sync", "barrier.sync"):
        operand = {"bar.warp.sync": " 0xffffffff", "bar.sync": " 0", "barrier.sync": " 0"}.get(fence, "")
        given = rows(fence, ["b32"], 64)
        book.form(fence, ["b32"], ["b32"], given, lambda a: a, body=f"st.global.b32 [$g], $a0;\n{fence}{operand};\nld.global.b32 $d0, [$g];")


def parameters(book):
    for kind in TYPES:
        register = registers(kind)
        bits = value("b" + str(width(kind)), generator(f"ld.param {kind}")) | 1 << (width(kind) - 1)
        found = signed(bits, width(kind)) if kind[0] == "s" else bits
        book.form(f"ld.param.{kind}", [], [register], [[]], lambda: found, body=f"ld.param.{kind} $d0, [p0];", parameters=[(kind, bits)])
    constants = ".const .align 8 .b8 table[16] = {1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xfe, 11, 12, 13, 14, 15, 16};\n"
    constants += ".global .align 4 .u32 words[3] = {7, 0x80000000, 9};\n.global .align 8 .f64 halves[2] = {0d3FE0000000000000, 2.0};"
    for name, register, found, body in (
        ("ld.const.u32", "b32", 0x04030201, "ld.const.u32 $d0, [table];"),
        ("ld.const.s8", "b16", -1, "ld.const.s8 $d0, [table+8];"),
        ("ld.const.b64", "b64", 0x100F0E0D0C0BFEFF, "ld.const.b64 $d0, [table+8];"),
        ("ld.global.u32 of a variable", "b32", 0x80000000, "ld.global.u32 $d0, [words+4];"),
        ("ld.global.f64 of a variable", "b64", 0x4000000000000000, "ld.global.f64 $d0, [halves+8];"),
        ("mov.u64 of an address", "b32", 9, "{ .reg .b64 at; mov.u64 at, words; ld.global.u32 $d0, [at+8]; }"),
        ("cvta.const.u64", "b32", 0x08070605, "{ .reg .b64 at; mov.u64 at, table; cvta.const.u64 at, at; ld.u32 $d0, [at+4]; }"),
        ("cvta.to.const.u64", "b32", 0x04030201, "{ .reg .b64 at; mov.u64 at, table; cvta.const.u64 at, at; cvta.to.const.u64 at, at; ld.const.u32 $d0, [at]; }"),
        ("cvta.global.u64 of a variable", "b32", 7, "{ .reg .b64 at; cvta.global.u64 at, words; ld.u32 $d0, [at]; }"),
    ):
        book.form(name, [], [register], [[]], lambda: found, body=body, prelude=constants)


    for kind, count in product(TYPES, (1, 2, 4)):
        if count * width(kind) > 128:
            continue
        vector, register = f".v{count}" if count > 1 else "", registers(kind)
        group = f"{{{', '.join(f'$d{i}' for i in range(count))}}}" if count > 1 else "$d0"
        name = f"ld.const{vector}.{kind}"
        value_ = 0x1F_9E_8D_7C_EB_5A_C9_38_17_F6_05_E4_83_72_D1_B0
        parts = [wrap(value_ >> width(kind) * i, width(kind)) for i in range(count)]
        found = [signed(p, width(kind)) if kind[0] == "s" else p for p in parts]
        table = ", ".join(str(value_ >> 8 * i & 255) for i in range(16))
        book.form(
            name + " of a table", [], [register] * count, [[]], lambda: found, body=f"{name} {group}, [bytes+16];",
            prelude=f".const .align 16 .b8 bytes[32] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {table}}};",
        )  # fmt: skip


def addresses(book):
    for space, at in SPACES.items():
        name = f"cvta{space}.u64"
        body = f"{{ .reg .b64 there; st{space}.b32 [{at}], $a0; {name} there, {at}; ld.b32 $d0, [there]; }}"
        book.form(name, ["b32"], ["b32"], rows(name, ["b32"], 8), lambda a: a, body=body)
        name = f"cvta.to{space}.u64"
        body = f"{{ .reg .b64 there; cvta{space}.u64 there, {at}; st.b32 [there+4], $a0; {name} there, there; ld{space}.b32 $d0, [there+4]; }}"
        book.form(name, ["b32"], ["b32"], rows(name, ["b32"], 8), lambda a: a, body=body)
        for other, elsewhere in SPACES.items():
            name = f"isspacep{space} of {other}"
            body = f"{{ .reg .b64 there; cvta{other}.u64 there, {elsewhere}; isspacep{space} $d0, there; }}"
            book.form(name, [], ["pred"], [[]], lambda: space == other, body=body)


def atomic_answers(kind):
    """What is stored, from what was there and the operand."""
    if kind[0] == "b":
        return {"exch": lambda r, s: s, "and": lambda r, s: r & s, "or": lambda r, s: r | s, "xor": lambda r, s: r ^ s}
    answers = {"min": min, "max": max}
    if kind != "s64":
        answers["add"] = lambda r, s: r + s
    if kind == "u32":
        answers["inc"] = lambda r, s: 0 if r >= s else r + 1
        answers["dec"] = lambda r, s: s if r == 0 or r > s else r - 1
    return answers


def float_sum(form, ftz):
    def answer(r, s):
        x, y = (form.decode(form.flush(bits) if ftz else bits) for bits in (r, s))
        return finish(form, ieee.add(x, y, "rn"), ftz=ftz)

    return answer


def atomics(book):
    for space, kind in product((".global", ".shared", ""), ("u32", "s32", "u64", "s64", "b32", "b64")):
        for op, answer in atomic_answers(kind).items():
            both(book, space, f"{op}.{kind}", kind, f"b{width(kind)}", answer)
    for space in (".global", ".shared", ""):
        # "atom.add.f32 on global memory flushes subnormal inputs and results; on shared memory it does not."
        both(book, space, "add.f32", "f32", "f32", float_sum(ieee.F32, space != ".shared"))
        both(book, space, "add.f64", "f64", "f64", float_sum(ieee.F64, False))
        for form in (ieee.F16, ieee.BF16):
            total = float_sum(form, False)
            both(book, space, f"add.noftz.{form.name}", form.name, form.name, total)
            pair_sums(book, space, form, total)
        for bits in (16, 32, 64):
            name, at, kind = f"atom{space}.cas.b{bits}", slot(space), f"b{bits}"
            given = rows(name, [kind] * 3, 16)
            for row in given[::2]:
                row[1] = row[0]
            body = f"st{space}.{kind} [{at}], $a0;\n{name} $d0, [{at}], $a1, $a2;\nld{space}.{kind} $d1, [{at}];"
            book.form(name, [kind] * 3, [kind] * 2, given, lambda r, s, t: [r, t if r == s else r], body=body)
    # What lies at an address of no space decides: here shared memory.
    name = "atom.add.f32"
    body = "{ .reg .b64 at; st.shared.b32 [$s], $a0; cvta.shared.u64 at, $s; atom.add.f32 $d0, [at], $a1; ld.shared.b32 $d1, [$s]; }"
    total = float_sum(ieee.F32, False)
    book.form(f"{name} of shared", ["b32", "b32"], ["b32", "f32"], rows(name, ["f32"] * 2, 32), lambda r, s: [r, total(r, s)], body=body)
    for name in ("atom.relaxed.gpu.global.add.u32", "atom.acq_rel.sys.global.add.u32"):
        body = f"st.global.b32 [$g], $a0;\n{name} $d0, [$g], $a1;\nld.global.b32 $d1, [$g];"
        book.form(name, ["u32"] * 2, ["b32"] * 2, rows(name, ["u32"] * 2, 8), lambda r, s: [r, r + s], body=body)
    together(book)


def both(book, space, op, kind, out, answer):
    """`atom` gives what was there; `red` does not."""
    bits, at = f"b{width(kind)}", slot(space)
    name = f"atom{space}.{op}"
    given = rows(name, [kind] * 2, 32 if kind[-3:] in ("f16", "f32", "f64") else 10)
    body = f"st{space}.{bits} [{at}], $a0;\n{name} $d0, [{at}], $a1;\nld{space}.{bits} $d1, [{at}];"
    book.form(name, [kind] * 2, [bits, out], given, lambda r, s: [r, answer(r, s)], body=body)
    if op.startswith("exch"):
        return
    name = f"red{space}.{op}"
    body = f"st{space}.{bits} [{at}], $a0;\n{name} [{at}], $a1;\nld{space}.{bits} $d0, [{at}];"
    book.form(name, [kind] * 2, [out], given, answer, body=body)


def pair_sums(book, space, form, total):
    at = slot(space)
    for op in ("atom", "red"):
        name = f"{op}{space}.add.noftz.{form.name}x2"
        call = f"atom{space}.add.noftz.{form.name}x2 old, [{at}], $a1" if op == "atom" else f"{name} [{at}], $a1"
        body = f"{{ .reg .b32 old; mov.b32 old, $a0; st{space}.b32 [{at}], $a0; {call};"
        body += f" ld{space}.b16 $d0, [{at}]; ld{space}.b16 $d1, [{at}+2]; mov.b32 $d2, old; }}"

        def answer(r, s):
            return [total(r & 0xFFFF, s & 0xFFFF), total(r >> 16, s >> 16), r]

        kind = f"{form.name}x2"
        book.form(name, [kind] * 2, [form.name] * 2 + ["b32"], rows(name, [kind] * 2, 32), answer, body=body)


def together(book):
    """All threads of a warp at one address: the order is open, the sum is not."""
    for op, start, combine in (("add", 0, lambda x: sum(x)), ("max", 0, max), ("or", 0, None), ("xor", 0, None)):
        kind = "b32" if combine is None else "u32"
        name = f"red.global.{op}.{kind} of a warp"
        given = rows(name, ["b32"], 64)
        totals = []
        for first in (0, 32):
            words = [row[0] for row in given[first : first + 32]]
            if combine:
                totals.append(combine(words))
            else:
                total = start
                for w in words:
                    total = total | w if op == "or" else total ^ w
                totals.append(total)
        lanes = iter(range(64))
        body = f"red.global.{op}.{kind} [$w], $a0;\nbar.sync 0;\nld.global.b32 $d0, [$w];"
        book.form(name, ["b32"], ["b32"], given, lambda a: totals[next(lanes) // 32], body=body)
    rng = generator("places in a queue")
    given = [[rng.getrandbits(1)] for _ in range(64)]
    counts = [sum(row[0] for row in given[first : first + 32]) for first in (0, 32)]
    lanes = iter(range(64))
    body = "@$a0 atom.global.add.u32 $d0, [$w], 1;\nbar.sync 0;\nld.global.b32 $d0, [$w];"
    book.form("atom.global.add.u32 of some", ["pred"], ["b32"], given, lambda a: counts[next(lanes) // 32], body=body)


def add_to(book):
    for family in (loads_and_stores, wide_registers, qualified, parameters, addresses, atomics):
        family(book)
