"""JAX under jit."""

import jax
import jax.numpy as jnp

from common import N, RATE, serve


def dropout(key, x):
    keep = 1.0 - RATE
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, jnp.zeros_like(x))


def dropout_grad(key, x):
    y, back = jax.vjp(lambda x: dropout(key, x), x)
    return y, back(jnp.ones_like(y))[0]


def compiled(function, with_input=False):
    def prepare():
        arguments = [jax.random.PRNGKey(42)]
        if with_input:
            arguments.append(jax.random.uniform(jax.random.PRNGKey(1), (N,)))
        run = jax.jit(function)
        return lambda: jax.tree.leaves(jax.block_until_ready(run(*arguments)))

    return prepare


serve(
    {
        "uniform": compiled(lambda key: jax.random.uniform(key, (N,))),
        "normal": compiled(lambda key: jax.random.normal(key, (N,))),
        "mask": compiled(lambda key: jax.random.bernoulli(key, 1.0 - RATE, (N,))),
        "dropout": compiled(dropout, with_input=True),
        "dropout_grad": compiled(dropout_grad, with_input=True),
    },
    jax.__version__,
)
