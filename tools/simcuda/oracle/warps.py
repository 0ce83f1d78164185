"""Instructions in which the threads of a warp meet, special registers and control flow (chapters 9.7.9, 9.7.12 and 10)."""

from book import generator, integers, rows, signed, value, width, wrap
from memory import TYPES

WARPS = 4
ALL = 0xFFFFFFFF


def memberships(rng):
    """The lanes that take part: all, or some."""
    return rng.choice((ALL, ALL, ALL, 0x0000FFFF, 0xFF00FF00, 0x55555555, rng.getrandbits(32) | 1))


def warp_form(book, name, kinds, outputs, operands, answer, body, warps=WARPS):
    """A form of whole warps. `operands` makes the inputs of a lane, `answer` gives those of all lanes what each gets; lanes
    that are not in the mask do not run the instruction: theirs is open."""
    rng = generator(name)
    given, expected = [], []
    for _ in range(warps):
        mask = memberships(rng)
        shared = operands(rng, None)
        lanes = [operands(rng, shared) for _ in range(32)]
        found = answer(mask, lanes)
        for lane in range(32):
            inside = mask >> lane & 1
            given.append([inside, mask, *lanes[lane]])
            expected.append(found[lane] if inside else ["?"] * len(outputs))
    left = iter(expected)
    book.form(name, ["pred", "b32", *kinds], outputs, given, lambda *_: next(left), body=body)


def shuffles(book):
    for mode in ("up", "down", "bfly", "idx"):

        def operands(rng, shared):
            if shared is None:
                width_ = rng.choice((32, 32, 16, 8, 4))
                clamp = (0 if mode == "up" else 31) if rng.random() < 0.8 else rng.randrange(32)
                return [rng.randrange(40), (32 - width_) << 8 | clamp]
            return [integers(32, rng), *shared]

        def answer(mask, lanes):
            found = []
            for lane, (_, b, c) in enumerate(lanes):
                bval, cval, segment = b & 31, c & 31, c >> 8 & 31
                most = (lane & segment) | (cval & ~segment)
                least = lane & segment
                if mode == "up":
                    j = lane - bval
                    inside = j >= most
                elif mode == "down":
                    j = lane + bval
                    inside = j <= most
                elif mode == "bfly":
                    j = lane ^ bval
                    inside = j <= most
                else:
                    j = least | (bval & ~segment & 31)
                    inside = j <= most
                j = j if inside else lane
                # What comes from a lane that does not take part is open.
                found.append([lanes[j][0] if mask >> j & 1 else "?", int(inside)])
            return found

        name = f"shfl.sync.{mode}.b32"
        warp_form(
            book, name, ["b32", "b32", "b32"], ["b32", "pred"], operands, answer,
            f"@$a0 {name} $d0|$d1, $a2, $a3, $a4, $a1;", warps=12,
        )  # fmt: skip
        warp_form(
            book, f"{name} alone", ["b32", "b32", "b32"], ["b32"], operands, lambda m, l: [row[:1] for row in answer(m, l)],
            f"@$a0 {name} $d0, $a2, $a3, $a4, $a1;",
        )  # fmt: skip


def votes(book):
    def operands(rng, shared):
        if shared is None:
            return [rng.choice((0.0, 1.0, 0.5, 0.03, 0.97))]
        return [int(rng.random() < shared[0])]

    def taking_part(mask, lanes):
        return [row[0] for lane, row in enumerate(lanes) if mask >> lane & 1]

    answers = {
        "all.pred": lambda mask, lanes: all(taking_part(mask, lanes)),
        "any.pred": lambda mask, lanes: any(taking_part(mask, lanes)),
        "uni.pred": lambda mask, lanes: len(set(taking_part(mask, lanes))) == 1,
        "ballot.b32": lambda mask, lanes: sum(row[0] << lane for lane, row in enumerate(lanes)) & mask,
    }
    for op, decide in answers.items():
        out = op.split(".")[1]
        for no in ("", "!"):
            name = f"vote.sync.{op}" + (" of not" if no else "")

            def answer(mask, lanes):
                turned = [[row[0] ^ bool(no)] for row in lanes]
                return [[int(decide(mask, turned))]] * 32

            warp_form(book, name, ["pred"], [out], operands, answer, f"@$a0 vote.sync.{op} $d0, {no}$a2, $a1;", warps=8)
    warp_form(
        book, "activemask.b32", [], ["b32"], lambda rng, shared: [], lambda mask, lanes: [[mask]] * 32,
        "@!$a0 bra done;\nactivemask.b32 $d0;\ndone:",
    )  # fmt: skip


def matches(book):
    for kind in ("b32", "b64"):

        def operands(rng, shared):
            if shared is None:
                return [[integers(width(kind), rng) for _ in range(rng.choice((1, 1, 3, 9)))]]
            return [rng.choice(shared[0])]

        def any_(mask, lanes):
            return [[sum(1 << i for i in range(32) if mask >> i & 1 and lanes[i] == row)] for row in lanes]

        def all_(mask, lanes):
            same = len({row[0] for i, row in enumerate(lanes) if mask >> i & 1}) == 1
            return [[mask if same else 0, int(same)]] * 32

        warp_form(book, f"match.any.sync.{kind}", [kind], ["b32"], operands, any_, f"@$a0 match.any.sync.{kind} $d0, $a2, $a1;")
        warp_form(book, f"match.all.sync.{kind}", [kind], ["b32", "pred"], operands, all_, f"@$a0 match.all.sync.{kind} $d0|$d1, $a2, $a1;")


def reductions(book):
    def operands(rng, shared):
        return [integers(32, rng)]

    def fold(op):
        def together(values):
            total = values[0]
            for v in values[1:]:
                total = {"and": total & v, "or": total | v, "xor": total ^ v}[op]
            return total

        return together

    folds = {f"{op}.b32": (fold(op), False) for op in ("and", "or", "xor")}
    for kind in ("u32", "s32"):
        folds |= {f"add.{kind}": (sum, False), f"min.{kind}": (min, kind == "s32"), f"max.{kind}": (max, kind == "s32")}
    for op, (combine, by_sign) in folds.items():

        def answer(mask, lanes):
            values = [row[0] for i, row in enumerate(lanes) if mask >> i & 1]
            return [[wrap(combine([signed(v, 32) for v in values] if by_sign else values), 32)]] * 32

        warp_form(book, f"redux.sync.{op}", ["b32"], ["b32"], operands, answer, f"@$a0 redux.sync.{op} $d0, $a2, $a1;")


def barriers(book):
    """Barriers of a block of 64 threads."""
    bits = rows("barrier.red", ["pred"], 64)
    counts = {"popc.u32": ("b32", sum(row[0] for row in bits)), "and.pred": ("pred", 0), "or.pred": ("pred", 1)}
    for op, (out, found) in counts.items():
        for barrier in ("bar.red", "barrier.red", "barrier.cta.red.aligned"):
            book.form(f"{barrier}.{op}", ["pred"], [out], bits, lambda a: found, body=f"{barrier}.{op} $d0, 1, $a0;")
        none = 0 if "popc" not in op else 64 - found
        none = {"and.pred": 0, "or.pred": 1}.get(op, none)
        book.form(f"bar.red.{op} of not", ["pred"], [out], bits, lambda a: none, body=f"bar.red.{op} $d0, 2, 64, !$a0;")
    given = rows("barriers", ["b32"], 64)
    for barrier in ("bar.sync", "bar.cta.sync", "barrier.sync.aligned", "barrier.cta.sync"):
        body = f"st.global.b32 [$g], $a0;\n{barrier} 0;\nld.global.b32 $d0, [$g];"
        book.form(f"{barrier} of all", ["b32"], ["b32"], given, lambda a: a, body=body)
    one_each = "{ .reg .b32 which; mov.u32 which, %tid.x; shr.u32 which, which, 5; add.u32 which, which, 1;\nbar.sync which, 32; }\nmov.b32 $d0, $a0;"
    book.form("bar.sync of a warp", ["b32"], ["b32"], given, lambda a: a, body=one_each)
    for arrive, wait in (("bar.arrive", "bar.sync"), ("barrier.arrive", "barrier.sync")):
        lane = iter(range(64))
        body = "\n".join([
            "{ .reg .pred second; .reg .b32 id; mov.u32 id, %tid.x; setp.ge.u32 second, id, 32; @second bra SECOND;",
            f"st.global.b32 [$g], $a0;\n{arrive} 3, 64;\nmov.b32 $d0, $a0;\nbra JOIN;",
            f"SECOND:\n{wait} 3, 64;\nld.global.b32 $d0, [$g+-2048];\nJOIN: }}",
        ])  # fmt: skip
        book.form(arrive, ["b32"], ["b32"], given, lambda a: given[next(lane) % 32][0], body=body)


def registers(book):
    """Special registers of a launch of 3 blocks with 64 threads each."""
    rows_ = 192
    by_thread = {
        "%tid.x": lambda i: i % 64, "%tid.y": lambda i: 0, "%tid.z": lambda i: 0,
        "%ntid.x": lambda i: 64, "%ntid.y": lambda i: 1, "%ntid.z": lambda i: 1,
        "%ctaid.x": lambda i: i // 64, "%ctaid.y": lambda i: 0, "%ctaid.z": lambda i: 0,
        "%nctaid.x": lambda i: 3, "%nctaid.y": lambda i: 1, "%nctaid.z": lambda i: 1,
        "%laneid": lambda i: i % 32, "%warpid": lambda i: i // 32 % 2, "%nwarpid": lambda i: "?",
        "%lanemask_eq": lambda i: 1 << i % 32, "%lanemask_lt": lambda i: (1 << i % 32) - 1,
        "%lanemask_le": lambda i: (2 << i % 32) - 1, "%lanemask_gt": lambda i: ALL << i % 32 << 1,
        "%lanemask_ge": lambda i: ALL << i % 32,
        "WARP_SZ": lambda i: 32,
    }  # fmt: skip
    for register, at in by_thread.items():
        count = rows_ if "%" in register else 1
        book.form(f"mov.u32 {register}", ["b32"], ["b32"], [[i] for i in range(count)], at, body=f"mov.u32 $d0, {register};")


def control(book):
    given = [[value("pred", generator(f"branch {i}")), i * 7 % 13] for i in range(64)]
    book.form(
        "bra", ["pred", "b32"], ["b32"], given, lambda p, n: (n + 100 if p else n + 7) * 2,
        body="@$a0 bra YES;\nadd.u32 $d0, $a1, 7;\nbra.uni END;\nYES:\nadd.u32 $d0, $a1, 100;\nEND:\nshl.b32 $d0, $d0, 1;",
    )  # fmt: skip
    loop = "{ .reg .pred more; mov.u32 $d0, 0;\nAGAIN:\nsetp.lt.u32 more, $d0, $a1;\n@!more bra.uni OUT;\nadd.u32 $d0, $d0, 3;\nbra AGAIN;\nOUT: }"
    loop = loop.replace("bra.uni OUT", "bra OUT")
    book.form("bra back", ["pred", "b32"], ["b32"], given, lambda p, n: -(-n // 3) * 3, body=loop)
    for leave in ("ret", "exit"):
        body = f"mov.b32 $d0, 5;\nst.global.b32 [$o], $d0;\n@$a0 {leave};\nmov.b32 $d0, 6;"
        book.form(leave, ["pred", "b32"], ["b32"], given, lambda p, n: 5 if p else 6, body=body)
    book.form("not taken", ["pred", "b32"], ["b32"], given, lambda p, n: n if p else n + 1, body="mov.b32 $d0, $a1;\n@!$a0 add.u32 $d0, $d0, 1;")
    book.form("brx.idx", ["pred", "b32"], ["b32"], given, lambda p, n: 10 + n % 3, body="\n".join([
        "{ .reg .b32 which; rem.u32 which, $a1, 3;", "TARGETS: .branchtargets ZERO, ONE, TWO;", "brx.idx which, TARGETS;",
        "ZERO:", "mov.b32 $d0, 10;", "bra JOIN;", "ONE:", "mov.b32 $d0, 11;", "bra JOIN;", "TWO:", "mov.b32 $d0, 12;", "JOIN: }",
    ]))  # fmt: skip
    function = (
        ".func (.param .b32 result) twice(.param .b32 x, .param .align 8 .b8 pair[16])\n"
        "{ .reg .b32 a, b; .reg .b64 c; .reg .pred odd;\n"
        "ld.param.b32 a, [x];\nld.param.b64 c, [pair+8];\ncvt.u32.u64 b, c;\n"
        "and.b32 b, b, 1;\nsetp.ne.u32 odd, b, 0;\n@odd bra ODD;\nshl.b32 a, a, 1;\n"
        "st.param.b32 [result+0], a;\nret;\nODD:\nmul.lo.u32 a, a, 3;\nst.param.b32 [result+0], a;\nret; }"
    )
    call = (
        "{ .param .b32 p0_; .param .align 8 .b8 p1_[16]; .param .b32 r_; .reg .b64 wide; cvt.u64.u32 wide, $a1;\n"
        "st.param.b32 [p0_+0], $a1;\nst.param.b64 [p1_+0], 0;\nst.param.b64 [p1_+8], wide;\n"
        "call.uni (r_), twice, (p0_, p1_);\nld.param.b32 $d0, [r_+0]; }"
    )
    answer = lambda p, n: n * 3 if n & 1 else n * 2
    book.form("call.uni", ["pred", "b32"], ["b32"], given, answer, body=call, prelude=function)
    guarded = f"mov.b32 $d0, $a1;\n@!$a0 bra SKIP;\n{call.replace('call.uni', 'call')}\nSKIP:"
    book.form("call", ["pred", "b32"], ["b32"], given, lambda p, n: answer(p, n) if p else n, body=guarded, prelude=function)
    for kind in TYPES:
        register = f"b{max(width(kind), 16)}"
        passed = kind if width(kind) >= 32 else f"b{width(kind)}"  # small parameters have no sign
        pass_on = f".func (.param .{passed} out) same(.param .{passed} in) {{ .reg .{register} a; ld.param.{kind} a, [in];\nst.param.{kind} [out], a;\nret; }}"
        body = f"{{ .param .{passed} x; .param .{passed} y; st.param.{kind} [x], $a0;\ncall.uni (y), same, (x);\nld.param.{kind} $d0, [y]; }}"
        book.form(f"st.param.{kind}", [register], [register], rows(f"st.param {kind}", [register], 8), lambda a: signed(wrap(a, width(kind)), width(kind)) if kind[0] == "s" else wrap(a, width(kind)), body=body, prelude=pass_on)


def add_to(book):
    for family in (shuffles, votes, matches, reductions, barriers, registers, control):
        family(book)
