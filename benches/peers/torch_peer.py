"""PyTorch, eager, or with --compile by torch.compile. Its numbers are its own; only the work is the same."""

import os
import sys

import torch
import torch.nn.functional as F

from common import N, RATE, serve

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.manual_seed(42)


def step(function, with_input=False, tracked=False):
    def prepare():
        arguments = [torch.rand(N, requires_grad=tracked)] if with_input else []
        run = torch.compile(function) if "--compile" in sys.argv else function
        return lambda: [tensor.detach() for tensor in run(*arguments)]

    return prepare


def dropout_grad(x):
    y = F.dropout(x, RATE, True)
    return y, torch.autograd.grad(y, x, torch.ones_like(y))[0]


serve(
    {
        "uniform": step(lambda: (torch.rand(N),)),
        "normal": step(lambda: (torch.randn(N),)),
        "mask": step(lambda: (torch.empty(N, dtype=torch.bool).bernoulli_(1.0 - RATE),)),
        "dropout": step(lambda x: (F.dropout(x, RATE, True),), with_input=True),
        "dropout_grad": step(dropout_grad, with_input=True, tracked=True),
    },
    torch.__version__,
)
