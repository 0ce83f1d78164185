"""Comparisons and selections (chapters 9.7.6 and 9.7.7 of the manual, and those of halves)."""

import ieee
from book import rows, width, wrap

ORDERED = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
JOINS = {"and": lambda t, c: t & c, "or": lambda t, c: t | c, "xor": lambda t, c: t ^ c}
INTEGERS = ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
COUNT = 24


def of_integers(kind):
    """The comparisons of an integer type."""
    if kind[0] == "b":
        return {name: ORDERED[name] for name in ("eq", "ne")}
    return ORDERED | ({name: ORDERED[same] for name, same in UNSIGNED.items()} if kind[0] == "u" else {})


def key(x):
    """A number as something that compares as it does: zeros are equal whatever their sign."""
    if x.finite:
        return (0, x.value)
    return (-1 if x.negative else 1, 0)


def of_floats(kind, ftz):
    """The comparisons of a float type, of bits: ordered ones are false with a NaN, the others true."""
    form = ieee.FORMATS[kind]
    found = {}

    def comparison(compare, with_nan):
        def answer(a, b):
            x, y = (form.decode(form.flush(bits) if ftz else bits) for bits in (a, b))
            return with_nan if ieee.NAN in (x, y) else int(compare(key(x), key(y)))

        return answer

    for name, compare in ORDERED.items():
        found[name] = comparison(compare, 0)
        found[name + "u"] = comparison(compare, 1)
    found["num"] = comparison(lambda a, b: True, 0)
    found["nan"] = comparison(lambda a, b: False, 1)
    return found


def given(name, kinds, count=COUNT):
    """Rows of which each third compares a thing with itself or its neighbour."""
    found = rows(name, kinds, count)
    for i, row in enumerate(found[::3]):
        row[1] = wrap(row[0] + i % 3 - 1, width(kinds[0]))
    return found


def add_to(book):
    comparisons = {(kind, False): of_integers(kind) for kind in INTEGERS}
    comparisons |= {(kind, False): of_floats(kind, False) for kind in FLOATS}
    comparisons |= {(kind, True): of_floats(kind, True) for kind in ("f16", "f32")}
    for (kind, ftz), table in comparisons.items():
        dot = ".ftz" if ftz else ""
        for name, compare in table.items():
            setp(book, name, compare, dot, kind)
            set_to(book, name, compare, dot, kind)
    for half, ftz in (("f16", False), ("f16", True), ("bf16", False)):
        for name, compare in of_floats(half, ftz).items():
            halves(book, name, compare, ".ftz" if ftz else "", half)
    select(book)


def setp(book, name, compare, dot, kind):
    op = f"setp.{name}{dot}.{kind}"
    book.form(op, [kind] * 2, ["pred"], given(op, [kind] * 2), compare)
    for join, combine in JOINS.items():
        op = f"setp.{name}.{join}{dot}.{kind}"

        def answer(a, b, c):
            t = int(compare(a, b))
            return [combine(t, c), combine(1 - t, c)]

        rows_ = given(op, [kind, kind, "pred"], 9)
        if kind in ("f16", "bf16"):  # the second predicate is for the high half of pairs
            book.form(op, [kind, kind, "pred"], ["pred"], rows_, lambda a, b, c: answer(a, b, c)[0])
        else:
            book.form(op, [kind, kind, "pred"], ["pred"] * 2, rows_, answer, body=f"{op} $d0|$d1, $a0, $a1, $a2;")


def set_to(book, name, compare, dot, kind):
    """`set` to integers and to floats, in which a true comparison is 1.0."""
    to = ("u32", "s32", "bf16") if kind == "bf16" else ("u32", "s32", "f16") if dot else ("u32", "s32", "f16", "bf16")
    to += ("u16", "s16") if kind in ("f16", "bf16") else ("f32",)
    for d in to:
        yes = ieee.FORMATS[d].one if d in ieee.FORMATS else -1
        op = f"set.{name}{dot}.{d}.{kind}"
        book.form(op, [kind] * 2, [d], given(op, [kind] * 2, 5), lambda a, b: yes if compare(a, b) else 0)
        for join, combine in JOINS.items():
            op = f"set.{name}.{join}{dot}.{d}.{kind}"
            book.form(
                op, [kind, kind, "pred"], [d], given(op, [kind, kind, "pred"], 4),
                lambda a, b, c: yes if combine(int(compare(a, b)), c) else 0,
            )  # fmt: skip


def halves(book, name, compare, dot, half):
    """Two comparisons at once: a predicate for the low half and one for the high."""
    kind, op = f"{half}x2", f"setp.{name}{dot}.{half}x2"
    one = ieee.FORMATS[half].one

    def both(a, b):
        return [int(compare(a & 0xFFFF, b & 0xFFFF)), int(compare(a >> 16, b >> 16))]

    def ones(low, high):
        return (one if high else 0) << 16 | (one if low else 0)

    book.form(op, [kind] * 2, ["pred"] * 2, rows(op, [kind] * 2, 12), both, body=f"{op} $d0|$d1, $a0, $a1;")
    op = f"set.{name}{dot}.{kind}.{kind}"
    book.form(op, [kind] * 2, [kind], rows(op, [kind] * 2, 12), lambda a, b: ones(*both(a, b)))
    for join, combine in JOINS.items():
        op = f"setp.{name}.{join}{dot}.{kind}"
        kinds = [kind, kind, "pred"]

        def joined(a, b, c):
            return [combine(t, c) for t in both(a, b)]

        book.form(op, kinds, ["pred"] * 2, rows(op, kinds, 6), joined, body=f"{op} $d0|$d1, $a0, $a1, $a2;")
        op = f"set.{name}.{join}{dot}.{kind}.{kind}"
        book.form(op, kinds, [kind], rows(op, kinds, 4), lambda a, b, c: ones(*joined(a, b, c)))


def select(book):
    for kind in (*INTEGERS, "f32", "f64"):
        op = f"selp.{kind}"
        book.form(op, [kind, kind, "pred"], [f"b{width(kind)}"], rows(op, [kind, kind, "pred"], 16), lambda a, b, c: a if c else b)
        out = f"b{width(kind)}"
        op = f"slct.{kind}.s32"
        book.form(op, [kind, kind, "s32"], [out], rows(op, [kind, kind, "s32"], 16), lambda a, b, c: a if c >= 0 else b)
        for dot in ("", ".ftz"):
            op = f"slct{dot}.{kind}.f32"

            def answer(a, b, c):
                # -0 is not below 0; a NaN is not at least 0.
                x = ieee.F32.decode(ieee.F32.flush(c) if dot else c)
                return a if x != ieee.NAN and (x.zero or not x.negative) else b

            book.form(op, [kind, kind, "f32"], [out], rows(op, [kind, kind, "f32"], 24), answer)
