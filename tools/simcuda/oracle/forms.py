"""Lists the instructions of PTX files, each with its types and modifiers.

    python3 tools/simcuda/oracle/forms.py FOLDER > tools/simcuda/tests/fixtures/candle_forms.txt

`candle_forms.txt` is of candle-kernels 0.11.1, by nvcc 13.0.88 with `-ptx -arch=compute_90 -std=c++17 -O3
--expt-relaxed-constexpr`.
"""

import re
import sys
from pathlib import Path


def forms(text):
    text = re.sub(r"//.*|/\*.*?\*/", "", text)
    for statement in re.split(r"[;{}]|^\s*[\w$]+:", text, flags=re.MULTILINE):
        found = re.match(r"\s*(?:@!?%?\w+\s+)?([a-z][a-z0-9]*(?:[.:][A-Za-z0-9_:]+)*)\s", statement + " ")
        if found and not statement.lstrip().startswith("."):
            yield found[1]


if __name__ == "__main__":
    found = {form for path in Path(sys.argv[1]).glob("*.ptx") for form in forms(path.read_text())}
    print("\n".join(sorted(found)))
