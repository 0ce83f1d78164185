"""PyTorch: torch_peer.py FOLDER [--fused | --foreach | --compile], with that form of optimizer, or by torch.compile
and with the fused one. Layers are PyTorch's own, images have their channels first."""

import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import ELEMENTS, RATE, load, norm_of_all, norms, serve

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.manual_seed(42)
COMPILE = "--compile" in sys.argv
FORM = {"fused": True} if COMPILE or "--fused" in sys.argv else {"foreach": True} if "--foreach" in sys.argv else {}
# Flax's, not PyTorch's default.
EPSILON = 1e-6


def compiled(function):
    return torch.compile(function) if COMPILE else function


# --- models, from Flax's weights ----------------------------------------------------------------------------------


def tensors(name):
    return {key: torch.from_numpy(value) for key, value in load(name).items()}


def batch(name):
    inputs = tensors(f"{name}.inputs")
    x, y = inputs["x"], inputs["y"]
    return x.long() if x.dtype == torch.int32 else x, y.long() if y.dtype == torch.int32 else y


def put(parameter, value):
    with torch.no_grad():
        parameter.copy_(value)


def linear(weights, name):
    """A kernel that may have several input and output axes, as one matrix."""
    bias = weights[f"{name}.bias"].flatten()
    kernel = weights[f"{name}.kernel"].reshape(-1, len(bias))
    layer = nn.Linear(*kernel.shape)
    put(layer.weight, kernel.T)
    put(layer.bias, bias)
    return layer


def norm(weights, name, layer):
    put(layer.weight, weights[f"{name}.scale"])
    put(layer.bias, weights[f"{name}.bias"])
    return layer


def mlp(weights):
    layers = [linear(weights, f"layers.{i}") for i in range(3)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def convolution(weights, name):
    kernel = weights[f"{name}.kernel"].permute(3, 2, 0, 1)
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    put(layer.weight, kernel)
    put(layer.bias, weights[f"{name}.bias"])
    return layer


def cnn(weights, rate):
    # The channels of an image come first here: so do they in what the dense layer gets.
    kernel = weights["dense_0.kernel"].reshape(7, 7, 64, 128).permute(2, 0, 1, 3)
    weights = {**weights, "dense_0.kernel": kernel}
    layers = []
    for i, features in enumerate((32, 64)):
        batch_norm = norm(weights, f"norm_{i}", nn.BatchNorm2d(features))
        layers += [convolution(weights, f"conv_{i}"), batch_norm, nn.ReLU(), nn.MaxPool2d(2)]
    head = [linear(weights, "dense_0"), nn.ReLU(), nn.Dropout(rate), linear(weights, "dense_1")]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def layer_norm(weights, name):
    return norm(weights, name, nn.LayerNorm(256, EPSILON))


class Block(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        parts = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
        joined = {
            "kernel": torch.cat([weights[f"{part}.kernel"].flatten(1) for part in parts], 1),
            "bias": torch.cat([weights[f"{part}.bias"].flatten() for part in parts]),
        }
        self.norm_0 = layer_norm(weights, f"{name}.norm_0")
        self.query_key_value = linear({f"joined.{key}": value for key, value in joined.items()}, "joined")
        self.out = linear(weights, f"{name}.attention.out")
        self.norm_1 = layer_norm(weights, f"{name}.norm_1")
        self.dense_0 = linear(weights, f"{name}.dense_0")
        self.dense_1 = linear(weights, f"{name}.dense_1")

    def forward(self, x):
        batch, length, features = x.shape
        parts = self.query_key_value(self.norm_0(x)).view(batch, length, 3, 4, features // 4)
        attended = F.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        return x + self.dense_1(F.gelu(self.dense_0(self.norm_1(x)), approximate="tanh"))


class Transformer(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(weights["embed.embedding"], freeze=False)
        self.positions = nn.Parameter(weights["positions"])
        self.blocks = nn.Sequential(*(Block(weights, f"blocks.{i}") for i in range(2)))
        self.norm = layer_norm(weights, "norm")
        self.head = linear(weights, "head")

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids) + self.positions)))


def cross_entropy(logits, y):
    return F.cross_entropy(logits.flatten(0, -2), y.flatten())


# --- steps --------------------------------------------------------------------------------------------------------


def training(name, make, loss_of, optimizer, **options):
    def prepare():
        (x, y), model, loss = batch(name), make(tensors(f"{name}.params")), [None]
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2).contiguous()
        update = optimizer(model.parameters(), **options, **FORM)
        forward = compiled(lambda: loss_of(model(x), y))

        def step():
            update.zero_grad()
            loss[0] = forward()
            loss[0].backward()
            update.step()

        return step, lambda: loss[0].item(), lambda: [loss[0].item()]

    return prepare


def synchronous(prepare):
    """The loss is read after every step."""

    def prepared():
        step, wait, numbers = prepare()
        return lambda: (step(), wait()), wait, numbers

    return prepared


def adam(name):
    def prepare():
        params = [nn.Parameter(value) for value in tensors(f"{name}.params").values()]
        for param, grad in zip(params, tensors(f"{name}.inputs").values()):
            param.grad = grad
        # What torch.compile makes of an optimizer is its own fused form.
        update = torch.optim.Adam(params, lr=1e-3, **({} if COMPILE else FORM))
        step = compiled(lambda: update.step())
        return step, lambda: None, lambda: norm_of_all(param.detach() for param in params)

    return prepare


def inference():
    (x, y), out = batch("d"), [None]
    model = Transformer(tensors("d.params")).eval()
    forward = compiled(model)

    def step():
        with torch.inference_mode():
            out[0] = forward(x)

    return step, lambda: None, lambda: [cross_entropy(out[0], y).item()]


def layernorm():
    inputs, weights = tensors("g_layernorm.inputs"), tensors("g_layernorm.params")
    x, layer = inputs["x"].requires_grad_(), norm(weights, "norm", nn.LayerNorm(768, EPSILON))
    forward, variables = compiled(lambda: (layer(x) * inputs["weights"]).sum()), (x, layer.weight, layer.bias)

    def step():
        for variable in variables:
            variable.grad = None
        forward().backward()

    return step, lambda: None, lambda: norms([variable.grad for variable in variables])


def xent():
    (x, y), loss = batch("g_xent"), [None]
    x.requires_grad_()
    forward = compiled(lambda: F.cross_entropy(x, y))

    def step():
        x.grad = None
        loss[0] = forward()
        loss[0].backward()

    return step, lambda: None, lambda: [loss[0].item(), *norms([x.grad])]


def drawn(function, tracked=None):
    """A function of an input, if `tracked` says so, of which the gradient may be wanted."""

    def prepare():
        arguments = [] if tracked is None else [torch.rand(ELEMENTS, requires_grad=tracked)]
        run, out = compiled(function), [None]

        def step():
            out[0] = run(*arguments)

        return step, lambda: None, list

    return prepare


def dropout_grad(x):
    y = F.dropout(x, RATE, True)
    return y, torch.autograd.grad(y, x, torch.ones_like(y))[0]


SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
a = training("a", mlp, F.mse_loss, SGD, lr=0.1)
workloads = {
    "a": a,
    "a_sync": synchronous(a),
    "b": training("b", mlp, cross_entropy, Adam, lr=1e-5),
    "c": training("c", lambda weights: cnn(weights, 0.5), cross_entropy, AdamW, lr=1e-5, weight_decay=0.01),
    "c_without_dropout": training("c", lambda weights: cnn(weights, 0.0), cross_entropy, AdamW, lr=1e-5, weight_decay=0.01),
    "d": training("d", Transformer, cross_entropy, AdamW, lr=1e-5, weight_decay=0.01),
    "e": adam("e"),
}
if not COMPILE:  # which would take many minutes, for 5,000 tensors
    workloads["e_many"] = adam("e_many")
if COMPILE or not FORM:  # where there is no optimizer, its forms are the same
    workloads |= {
        "f": inference,
        "g_dropout": drawn(lambda x: (F.dropout(x, RATE, True),), tracked=False),
        "g_dropout_grad": drawn(dropout_grad, tracked=True),
        "g_layernorm": layernorm,
        "g_mask": drawn(lambda: (torch.empty(ELEMENTS, dtype=torch.bool).bernoulli_(1.0 - RATE),)),
        "g_normal": drawn(lambda: (torch.randn(ELEMENTS),)),
        "g_uniform": drawn(lambda: (torch.rand(ELEMENTS),)),
        "g_xent": xent,
    }
serve(workloads, torch.__version__)
