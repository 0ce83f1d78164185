"""Writes the fixtures of `tests/instructions.rs`: what each form of an instruction must give, by NVIDIA's PTX manual.

    python3 tools/simcuda/oracle/generate.py            writes them
    python3 tools/simcuda/oracle/generate.py --check    says whether they are what this program writes

Python 3.11 or later, its standard library alone. The manual is "PTX ISA 9.0". Nothing here is taken from the interpreter, and
nothing of it is called: the two must agree because both follow the manual.
"""

import sys
from pathlib import Path

import approximations
import comparisons
import conversions
import floats
import integers
import memory
import warps
from book import Book

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


def main():
    stale = []
    for family in (integers, comparisons, floats, conversions, approximations, memory, warps):
        book = Book()
        family.add_to(book)
        path = FIXTURES / f"{family.__name__}.txt"
        text = f"# {family.__doc__.splitlines()[0]}\n# Written by oracle/generate.py.\n{book.text()}"
        print(f"{path.name}: {len(book.forms)} forms, {sum(len(f.rows) for f in book.forms.values())} rows, {len(text)} bytes")
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what this program writes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
