"""Writes what every peer starts from into a folder: data.py FOLDER.

`b.inputs.safetensors` holds the inputs of workload b, `b.params.safetensors` its first weights, named as treex names
them and shaped as Flax does: kernels `[in, out]`, of convolutions `[height, width, in, out]`. The numbers are the same
on every machine.
"""

import json
import sys

import numpy as np

folder = sys.argv[1]
random = np.random.RandomState(0)


def write(name, tensors):
    header, place = {}, 0
    for key, array in tensors.items():
        dtype = {"float32": "F32", "uint32": "U32"}[array.dtype.name]
        header[key] = {"dtype": dtype, "shape": array.shape, "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{folder}/{name}.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.tobytes())


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def integers(below, *shape):
    return random.randint(0, below, shape).astype(np.uint32)


def dense(name, inputs, outputs):
    """A kernel whose outputs vary as much as its inputs, and a bias: zeros would hide mistakes."""
    fan_in = np.prod(inputs)
    return {
        f"{name}.kernel": normal(*inputs, *outputs, scale=fan_in**-0.5),
        f"{name}.bias": normal(*outputs, scale=0.02),
    }


def norm(name, features):
    return {f"{name}.scale": 1 + normal(features, scale=0.1), f"{name}.bias": normal(features, scale=0.02)}


def mlp(*features):
    layers = [dense(f"layers.{i}", features[i : i + 1], features[i + 1 : i + 2]) for i in range(len(features) - 1)]
    return {name: array for layer in layers for name, array in layer.items()}


x = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
write("a.inputs", {"x": x, "y": 1.4 * x**2 - 0.3 + normal(100, 1, scale=0.1)})
write("a.params", mlp(1, 12, 8, 1))

write("b.inputs", {"x": normal(128, 784), "y": integers(10, 128)})
write("b.params", mlp(784, 512, 512, 10))

write("c.inputs", {"x": normal(64, 28, 28, 1), "y": integers(10, 64)})
write(
    "c.params",
    {
        **dense("conv_0", (3, 3, 1), (32,)),
        **norm("norm_0", 32),
        **dense("conv_1", (3, 3, 32), (64,)),
        **norm("norm_1", 64),
        **dense("dense_0", (7 * 7 * 64,), (128,)),
        **dense("dense_1", (128,), (10,)),
    },
)


def block(name):
    attention = {}
    for part in ("query", "key", "value"):
        attention |= dense(f"{name}.attention.{part}", (256,), (4, 64))
    return {
        **norm(f"{name}.norm_0", 256),
        **attention,
        **dense(f"{name}.attention.out", (4, 64), (256,)),
        **norm(f"{name}.norm_1", 256),
        **dense(f"{name}.dense_0", (256,), (1024,)),
        **dense(f"{name}.dense_1", (1024,), (256,)),
    }


write("d.inputs", {"x": integers(1000, 8, 128), "y": integers(1000, 8, 128)})
write(
    "d.params",
    {
        "embed.embedding": normal(1000, 256, scale=1 / 16),
        "positions": normal(128, 256, scale=0.02),
        **block("blocks.0"),
        **block("blocks.1"),
        **norm("norm", 256),
        **dense("head", (256,), (1000,)),
    },
)

for name, leaves, shape in (("e", 50, (400, 500)), ("e_many", 5000, (200,))):
    write(f"{name}.params", {str(i): normal(*shape, scale=0.01) for i in range(leaves)})
    write(f"{name}.inputs", {str(i): normal(*shape, scale=0.1) for i in range(leaves)})

write("g_layernorm.inputs", {"x": normal(4096, 768), "weights": normal(4096, 768)})
write("g_layernorm.params", norm("norm", 768))
write("g_xent.inputs", {"x": normal(4096, 1000), "y": integers(1000, 4096)})
