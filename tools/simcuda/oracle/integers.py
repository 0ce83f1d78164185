"""Integer and logic instructions (chapters 9.7.1, 9.7.2 and 9.7.8 of the manual), by its pseudocode."""

from book import generator, integers, rows, signed, width, wrap

UNSIGNED = ("u16", "u32", "u64")
SIGNED = ("s16", "s32", "s64")
ALL = UNSIGNED + SIGNED
COUNT = 40


def clamp(value, kind):
    bits = width(kind)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def simple(book, name, inputs, outputs, answer, count=COUNT, **rest):
    book.form(name, inputs, outputs, rows(name, inputs, count), answer, **rest)


def truncated(a, b):
    """C's quotient, which is cut towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def sums(book):
    for kind in ALL:
        bits, wide = width(kind), f"{kind[0]}{2 * width(kind)}"
        simple(book, f"add.{kind}", [kind] * 2, [kind], lambda a, b: a + b)
        simple(book, f"sub.{kind}", [kind] * 2, [kind], lambda a, b: a - b)
        simple(book, f"mul.lo.{kind}", [kind] * 2, [kind], lambda a, b: a * b)
        simple(book, f"mul.hi.{kind}", [kind] * 2, [kind], lambda a, b: a * b >> bits)
        simple(book, f"mad.lo.{kind}", [kind] * 3, [kind], lambda a, b, c: a * b + c)
        simple(book, f"mad.hi.{kind}", [kind] * 3, [kind], lambda a, b, c: (a * b >> bits) + c)
        if bits < 64:
            simple(book, f"mul.wide.{kind}", [kind] * 2, [wide], lambda a, b: a * b)
            simple(book, f"mad.wide.{kind}", [kind, kind, wide], [wide], lambda a, b, c: a * b + c)
        simple(book, f"min.{kind}", [kind] * 2, [kind], min)
        simple(book, f"max.{kind}", [kind] * 2, [kind], max)
        simple(book, f"sad.{kind}", [kind] * 3, [kind], lambda a, b, c: c + (b - a if a < b else a - b))
        for op, answer in (("div", truncated), ("rem", lambda a, b: a - b * truncated(a, b))):
            # By zero, and of the least number by -1, the manual leaves open.
            given = [
                row
                for row in rows(f"{op}.{kind}", [kind] * 2, 2 * COUNT)
                if row[1] and not (kind[0] == "s" and row[0] == 1 << (bits - 1) and row[1] == wrap(-1, bits))
            ]
            book.form(f"{op}.{kind}", [kind] * 2, [kind], given[:COUNT], answer)
    for kind in SIGNED:
        simple(book, f"abs.{kind}", [kind], [kind], abs)
        simple(book, f"neg.{kind}", [kind], [kind], lambda a: -a)
    simple(book, "add.sat.s32", ["s32"] * 2, ["s32"], lambda a, b: clamp(a + b, "s32"))
    simple(book, "sub.sat.s32", ["s32"] * 2, ["s32"], lambda a, b: clamp(a - b, "s32"))
    simple(book, "mad.hi.sat.s32", ["s32"] * 3, ["s32"], lambda a, b, c: clamp((a * b >> 32) + c, "s32"))
    simple(book, "min.relu.s32", ["s32"] * 2, ["s32"], lambda a, b: max(min(a, b), 0))
    simple(book, "max.relu.s32", ["s32"] * 2, ["s32"], lambda a, b: max(a, b, 0))


def pairs(book):
    """Two halves of 16 bits side by side."""

    def each(kind, answer):
        def both(a, b):
            halves = [[wrap(x >> shift, 16) for x in (a, b)] for shift in (0, 16)]
            if kind == "s":
                halves = [[signed(x, 16) for x in half] for half in halves]
            low, high = (wrap(answer(*half), 16) for half in halves)
            return high << 16 | low

        return both

    for kind in "us":
        for op, answer in (("add", lambda a, b: a + b), ("min", min), ("max", max)):
            simple(book, f"{op}.{kind}16x2", ["b32"] * 2, ["b32"], each(kind, answer))
    simple(book, "min.s16x2.relu", ["b32"] * 2, ["b32"], each("s", lambda a, b: max(min(a, b), 0)))
    simple(book, "max.s16x2.relu", ["b32"] * 2, ["b32"], each("s", lambda a, b: max(a, b, 0)))


def narrow(book):
    """Products of 24 bits, and of bytes."""

    def halved(product, mode):
        return product >> 16 if mode == "hi" else product

    for kind in ("u32", "s32"):
        for mode in ("lo", "hi"):
            rng = generator(f"mul24 {kind} {mode}")
            # The sources hold 24-bit integers.
            given = [[wrap(signed(integers(24, rng), 24) if kind == "s32" else integers(24, rng), 32) for _ in "ab"] for _ in range(COUNT)]
            book.form(f"mul24.{mode}.{kind}", [kind] * 2, [kind], given, lambda a, b: halved(a * b, mode))
            more = [[*row, integers(32, rng)] for row in given]
            book.form(f"mad24.{mode}.{kind}", [kind] * 3, [kind], more, lambda a, b, c: wrap(halved(a * b, mode), 32) + c)
    rng = generator("mad24.hi.sat")
    given = [[*(wrap(signed(integers(24, rng), 24), 32) for _ in "ab"), integers(32, rng)] for _ in range(COUNT)]
    book.form("mad24.hi.sat.s32", ["s32"] * 3, ["s32"], given, lambda a, b, c: clamp((a * b >> 16) + c, "s32"))

    def parts(value, kind, bits):
        found = [wrap(value >> shift, bits) for shift in range(0, 32, bits)]
        return [signed(x, bits) for x in found] if kind == "s32" else found

    for a_kind in ("u32", "s32"):
        for b_kind in ("u32", "s32"):
            c_kind = "u32" if (a_kind, b_kind) == ("u32", "u32") else "s32"

            def four(a, b, c):
                return c + sum(x * y for x, y in zip(parts(a, a_kind, 8), parts(b, b_kind, 8)))

            simple(book, f"dp4a.{a_kind}.{b_kind}", ["b32", "b32", c_kind], [c_kind], four)
            for mode, first in (("lo", 0), ("hi", 2)):

                def two(a, b, c):
                    return c + sum(x * y for x, y in zip(parts(a, a_kind, 16), parts(b, b_kind, 8)[first:]))

                simple(book, f"dp2a.{mode}.{a_kind}.{b_kind}", ["b32", "b32", c_kind], [c_kind], two)


def carries(book):
    """Extended precision. CC.CF is seen by what the next instruction makes of it."""
    for kind in ("u32", "s32", "u64", "s64"):
        bits = width(kind)

        def chain(op, sign):
            """Three words: with carry out, in and out, in."""

            def answer(*words):
                words = [wrap(w, bits) for w in words]
                carry, out = 0, []
                for a, b in zip(words[0::2], words[1::2]):
                    total = a + sign * (b + carry)
                    carry = int(total < 0 or total >> bits > 0)
                    out.append(total)
                return out

            body = f"{op}.cc.{kind} $d0, $a0, $a1;\n{op}c.cc.{kind} $d1, $a2, $a3;\n{op}c.{kind} $d2, $a4, $a5;"
            name = f"{op}c.cc.{kind}"
            given = rows(name, [kind] * 6, COUNT)
            ones = wrap(-1, bits)
            given += [[ones, 1, ones, 0, 0, 0], [0, 1, 0, 0, 0, 0], [ones, ones, ones, ones, 5, 6], [0, 0, 0, 0, 0, 0]]
            book.form(name, [kind] * 6, [kind] * 3, given, answer, body=body)

        chain("add", 1)
        chain("sub", -1)
        for first in ("lo", "hi"):

            def answer(a, b, c, d, e, f, g, h, i):
                part = lambda x, y: wrap(x * y if first == "lo" else x * y >> bits, bits)
                one = part(a, b) + wrap(c, bits)
                two = part(d, e) + wrap(f, bits) + (one >> bits)
                three = part(g, h) + wrap(i, bits) + (two >> bits)
                return [one, two, three]

            body = "\n".join(
                [
                    f"mad.{first}.cc.{kind} $d0, $a0, $a1, $a2;",
                    f"madc.{first}.cc.{kind} $d1, $a3, $a4, $a5;",
                    f"madc.{first}.{kind} $d2, $a6, $a7, $a8;",
                ]
            )
            simple(book, f"madc.{first}.cc.{kind}", [kind] * 9, [kind] * 3, answer, body=body)


def bits_of_words(book):
    for kind in ("b16", "b32", "b64"):
        simple(book, f"and.{kind}", [kind] * 2, [kind], lambda a, b: a & b)
        simple(book, f"or.{kind}", [kind] * 2, [kind], lambda a, b: a | b)
        simple(book, f"xor.{kind}", [kind] * 2, [kind], lambda a, b: a ^ b)
        simple(book, f"not.{kind}", [kind], [kind], lambda a: ~a)
        simple(book, f"cnot.{kind}", [kind], [kind], lambda a: a == 0)
    for op, answer in (("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b)):
        book.form(f"{op}.pred", ["pred"] * 2, ["pred"], [[a, b] for a in (0, 1) for b in (0, 1)], answer)
    book.form("not.pred", ["pred"], ["pred"], [[0], [1]], lambda a: 1 - a)

    for kind in ("b32", "b64"):
        bits = width(kind)
        simple(book, f"popc.{kind}", [kind], ["u32"], lambda a: a.bit_count())
        simple(book, f"clz.{kind}", [kind], ["u32"], lambda a: bits - a.bit_length())
        simple(book, f"brev.{kind}", [kind], [kind], lambda a: int(f"{a:0{bits}b}"[::-1], 2))
        insert(book, kind)
    for kind in ("u32", "u64", "s32", "s64"):
        bits = width(kind)

        def found(a):
            return (~a if a < 0 else a).bit_length() - 1

        simple(book, f"bfind.{kind}", [kind], ["u32"], found)
        simple(book, f"bfind.shiftamt.{kind}", [kind], ["u32"], lambda a: -1 if found(a) < 0 else bits - 1 - found(a))
        extract(book, kind)


def fields(name, kinds, bits):
    """Operands with a position and a length behind them, which are "restricted to the 8-bit value range"."""
    rng = generator(name)
    for _ in range(2 * COUNT):
        position = rng.choice([0, 1, bits - 1, bits, bits + 1, 255, rng.randrange(bits)])
        length = rng.choice([0, 1, bits - 1, bits, bits + 1, 255, rng.randrange(bits)])
        yield [integers(width(kind), rng) for kind in kinds] + [position, length]


def extract(book, kind):
    msb = width(kind) - 1

    def answer(a, b, c):
        a = wrap(a, msb + 1)
        position, length = b & 0xFF, c & 0xFF
        sign = 0 if kind[0] == "u" or length == 0 else a >> min(position + length - 1, msb) & 1
        return sum((a >> position + i & 1 if i < length and position + i <= msb else sign) << i for i in range(msb + 1))

    name = f"bfe.{kind}"
    book.form(name, [kind, "u32", "u32"], [kind], fields(name, [kind], msb + 1), answer)


def insert(book, kind):
    msb = width(kind) - 1

    def answer(a, b, c, d):
        position, length, f = c & 0xFF, d & 0xFF, b
        for i in range(length):
            if position + i <= msb:
                f = f & ~(1 << position + i) | (a >> i & 1) << position + i
        return f

    name = f"bfi.{kind}"
    book.form(name, [kind, kind, "u32", "u32"], [kind], fields(name, [kind, kind], msb + 1), answer)


def shifts(book):
    """Amounts beyond the width are clamped to it."""

    def amounts(name, kinds, bits):
        rng = generator(name)
        for _ in range(COUNT):
            amount = rng.choice([0, 1, bits - 1, bits, bits + 1, 63, 64, 65, 255, 256, 2**31, 2**32 - 1, rng.randrange(bits), rng.randrange(bits)])
            yield [integers(width(kind), rng) for kind in kinds] + [amount]

    for kind in ("b16", "b32", "b64"):
        bits, name = width(kind), f"shl.{kind}"
        book.form(name, [kind, "u32"], [kind], amounts(name, [kind], bits), lambda a, b: a << min(b, bits))
    for kind in ("b16", "b32", "b64", *ALL):
        bits, name = width(kind), f"shr.{kind}"
        book.form(name, [kind, "u32"], [kind], amounts(name, [kind], bits), lambda a, b: a >> min(b, bits))
    for direction in "lr":
        for mode in ("clamp", "wrap"):

            def funnel(a, b, c):
                n = min(c, 32) if mode == "clamp" else c & 31
                return (b << 32 | a) << n >> 32 if direction == "l" else (b << 32 | a) >> n

            name = f"shf.{direction}.{mode}.b32"
            book.form(name, ["b32"] * 2 + ["u32"], ["b32"], amounts(name, ["b32", "b32"], 32), funnel)


def masks(book):
    def nth_set(mask, base, offset):
        if offset == 0:
            return base if mask >> base & 1 else -1
        position, count, step = base, abs(offset) - 1, 1 if offset > 0 else -1
        while 0 <= position < 32:
            if mask >> position & 1:
                if count == 0:
                    return position
                count -= 1
            position += step
        return -1

    rng = generator("fns.b32")
    given = [[integers(32, rng), rng.randrange(32), wrap(rng.randint(-6, 6), 32)] for _ in range(2 * COUNT)]
    book.form("fns.b32", ["b32", "u32", "s32"], ["b32"], given, nth_set)
    for mode in ("clamp", "wrap"):

        def mask(a, b):
            low, length = a & 31, b & 31
            if mode == "clamp" and a >= 32:
                return 0
            mask0, total = -1 << low, low + length
            if total >= 32 or (mode == "clamp" and b >= 32):
                mask1 = 0
            else:
                mask1 = -1 if length == 0 else -1 << total
            return mask0 & ~mask1

        name = f"bmsk.{mode}.b32"
        rng = generator(name)
        picks = [0, 1, 5, 16, 31, 32, 33, 63, 64, 255, 2**32 - 1]
        book.form(name, ["b32"] * 2, ["b32"], [[rng.choice(picks), rng.choice(picks)] for _ in range(COUNT)], mask)
        for kind in ("u32", "s32"):

            def extend(a, b):
                a, length = wrap(a, 32), b & 31
                large = b >= 32 and mode == "clamp"
                cut = 0 if large else -1 << length
                sign = not (length == 0 or large or kind == "u32") and a >> (length - 1) & 1
                return a & ~cut | (cut if sign else 0)

            name = f"szext.{mode}.{kind}"
            rng = generator(name)
            book.form(name, [kind, "u32"], [kind], [[integers(32, rng), rng.choice(picks)] for _ in range(COUNT)], extend)


def selections(book):
    """Bytes and bits by a table."""

    def permute(a, b, c):
        source, out = b << 32 | a, 0
        for i in range(4):
            control = c >> 4 * i & 15
            byte = source >> 8 * (control & 7) & 255
            if control & 8:
                byte = 255 if byte & 128 else 0
            out |= byte << 8 * i
        return out

    simple(book, "prmt.b32", ["b32"] * 3, ["b32"], permute)
    # The bytes of the result for the two lowest bits of c, from the manual's table of modes, highest byte first.
    tables = {
        "f4e": ["3210", "4321", "5432", "6543"],
        "b4e": ["5670", "6701", "7012", "0123"],
        "rc8": ["0000", "1111", "2222", "3333"],
        "ecl": ["3210", "3211", "3222", "3333"],
        "ecr": ["0000", "1110", "2210", "3210"],
        "rc16": ["1010", "3232", "1010", "3232"],
    }
    for mode, table in tables.items():

        def pick(a, b, c):
            source = b << 32 | a
            return sum((source >> 8 * int(n) & 255) << 8 * i for i, n in enumerate(reversed(table[c & 3])))

        simple(book, f"prmt.b32.{mode}", ["b32"] * 3, ["b32"], pick)
    for table in (0x80, 0xFE, 0x40, 0x1A, 0x96, 0xE8, 0xCA, 0x00, 0xFF):

        def logic(a, b, c):
            return sum((table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i for i in range(32))

        simple(book, f"lop3.b32 {table:#04x}", ["b32"] * 3, ["b32"], logic, count=16, body=f"lop3.b32 $d0, $a0, $a1, $a2, {table:#04x};")
        for join, combine in (("or", lambda p, q: p | q), ("and", lambda p, q: p & q)):

            def both(a, b, c, q):
                return [logic(a, b, c), combine(logic(a, b, c) != 0, q)]

            simple(
                book, f"lop3.{join}.b32 {table:#04x}", ["b32"] * 3 + ["pred"], ["b32", "pred"], both, count=12,
                body=f"lop3.{join}.b32 $d0|$d1, $a0, $a1, $a2, {table:#04x}, $a3;",
            )  # fmt: skip


def add_to(book):
    for family in (sums, pairs, narrow, carries, bits_of_words, shifts, masks, selections):
        family(book)
