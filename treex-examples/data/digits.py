"""Writes digits.csv.gz: 1,797 images of handwritten digits, 8x8, one a line, 64 integers 0..16 and the label.

Needs Python 3.11 and scikit-learn 1.9.1, which carries the data:

    pip install scikit-learn==1.9.1
    python digits.py            # writes digits.csv.gz beside this file
"""

import gzip
import os

from sklearn.datasets import load_digits

digits = load_digits()
rows = [[int(value) for value in pixels] + [int(label)] for pixels, label in zip(digits.data, digits.target)]
assert len(rows) == 1797 and all(len(row) == 65 and min(row) >= 0 and max(row) <= 16 for row in rows)
text = "".join(",".join(map(str, row)) + "\n" for row in rows)

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "digits.csv.gz")
with open(path, "wb") as file:
    # Neither a name nor a time in the header, so that the same data gives the same file.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed:
        packed.write(text.encode())
print([sum(row[64] == digit for row in rows) for digit in range(10)])
