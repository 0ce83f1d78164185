"""JAX under jit, with Flax's layers and Optax's optimizers; training steps give their buffers up for the next."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import unflatten_dict

from common import ELEMENTS, RATE, digest, load, norm_of_all, norms, serve

# --- models -------------------------------------------------------------------------------------------------------


class MLP(nn.Module):
    features: tuple

    @nn.compact
    def __call__(self, x):
        for i, features in enumerate(self.features):
            x = nn.Dense(features, name=f"layers_{i}")(x)
            if i + 1 < len(self.features):
                x = nn.relu(x)
        return x


class CNN(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x):
        for i, features in enumerate((32, 64)):
            x = nn.Conv(features, (3, 3), name=f"conv_{i}")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False, name=f"norm_{i}")(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128, name="dense_0")(x.reshape(len(x), -1)))
        x = nn.Dropout(self.rate, deterministic=False)(x)
        return nn.Dense(10, name="dense_1")(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(nn.LayerNorm(name="norm_0")(x))
        h = nn.gelu(nn.Dense(1024, name="dense_0")(nn.LayerNorm(name="norm_1")(x)))
        return x + nn.Dense(256, name="dense_1")(h)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(1000, 256, name="embed")(ids)
        x = x + self.param("positions", nn.initializers.normal(0.02), (128, 256))
        for i in range(2):
            x = Block(name=f"blocks_{i}")(x)
        return nn.Dense(1000, name="head")(nn.LayerNorm(name="norm")(x))


# --- steps --------------------------------------------------------------------------------------------------------


def weights(name):
    """The first weights, under the names that Flax gives: a list's parts have one segment."""
    tensors = load(f"{name}.params")
    for part in ("layers", "blocks"):
        tensors = {key.replace(f"{part}.", f"{part}_"): value for key, value in tensors.items()}
    return unflatten_dict({key: jnp.asarray(value) for key, value in tensors.items()}, sep=".")


def batch(name):
    tensors = load(f"{name}.inputs")
    return jnp.asarray(tensors["x"]), jnp.asarray(tensors["y"])


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def mean_squares(predicted, y):
    return jnp.mean((predicted - y) ** 2)


class Repeated:
    """A jitted step from a state to the next, and what it gives beside it; what else it needs stays the same."""

    def __init__(self, step, state, *others):
        self.run, self.state, self.others, self.out = jax.jit(step, donate_argnums=0), state, others, None

    def step(self):
        self.state, self.out = self.run(self.state, *self.others)

    def wait(self):
        jax.block_until_ready((self.state, self.out))


def training(name, model, loss_of, optimizer):
    def prepare():
        (x, y), params = batch(name), weights(name)

        def step(state):
            params, optimizer_state = state
            loss, grads = jax.value_and_grad(lambda params: loss_of(model.apply({"params": params}, x), y))(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
            return (optax.apply_updates(params, updates), optimizer_state), loss

        run = Repeated(step, (params, optimizer.init(params)))
        return run.step, lambda: float(run.out), lambda: [float(run.out)]

    return prepare


def synchronous(prepare):
    """The loss is read after every step."""

    def prepared():
        step, wait, numbers = prepare()
        return lambda: (step(), wait()), wait, numbers

    return prepared


def images(rate):
    """Training with batch statistics and the keys of a dropout beside the parameters."""

    def prepare():
        (x, y), params, model = batch("c"), weights("c"), CNN(rate)
        stats = {f"norm_{i}": {"mean": jnp.zeros(n), "var": jnp.ones(n)} for i, n in enumerate((32, 64))}
        optimizer = optax.adamw(1e-5, weight_decay=0.01)

        def step(state):
            params, stats, optimizer_state, key = state
            key, dropout = jax.random.split(key)

            def loss_of(params):
                variables = {"params": params, "batch_stats": stats}
                logits, new = model.apply(variables, x, mutable=["batch_stats"], rngs={"dropout": dropout})
                return cross_entropy(logits, y), new["batch_stats"]

            (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
            return (optax.apply_updates(params, updates), stats, optimizer_state, key), loss

        run = Repeated(step, (params, stats, optimizer.init(params), jax.random.PRNGKey(0)))
        return run.step, lambda: float(run.out), lambda: [float(run.out)]

    return prepare


def adam(name):
    def prepare():
        params, grads = ([jnp.asarray(value) for value in load(f"{name}.{part}").values()] for part in ("params", "inputs"))
        optimizer = optax.adam(1e-3)

        def step(state, grads):
            params, optimizer_state = state
            updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
            return (optax.apply_updates(params, updates), optimizer_state), None

        # The gradients are arguments: the compiler does not know them.
        run = Repeated(step, (params, optimizer.init(params)), grads)
        return run.step, run.wait, lambda: norm_of_all(run.state[0])

    return prepare


def function(f, numbers, arguments):
    """A jitted function of the same arguments at every step."""

    def prepare():
        run, inputs, out = jax.jit(f), arguments(), [None]

        def step():
            out[0] = run(*inputs)

        return step, lambda: jax.block_until_ready(out[0]), lambda: numbers(jax.tree.leaves(out[0]))

    return prepare


def inference():
    (x, y), params, run, out = batch("d"), weights("d"), jax.jit(Transformer().apply), [None]

    def step():
        out[0] = run({"params": params}, x)

    return step, lambda: jax.block_until_ready(out[0]), lambda: [float(cross_entropy(out[0], y))]


def layernorm_arguments():
    inputs, params = load("g_layernorm.inputs"), weights("g_layernorm")["norm"]
    return params, jnp.asarray(inputs["x"]), jnp.asarray(inputs["weights"])


def layernorm(params, x, weights):
    grads = jax.grad(lambda params, x: (nn.LayerNorm().apply({"params": params}, x) * weights).sum(), argnums=(0, 1))
    params, x = grads(params, x)
    return x, params["scale"], params["bias"]


def key():
    return [jax.random.PRNGKey(42)]


def key_and_input():
    return [*key(), jax.random.uniform(jax.random.PRNGKey(1), (ELEMENTS,))]


def dropout(key, x):
    keep = 1.0 - RATE
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, jnp.zeros_like(x))


def dropout_grad(key, x):
    y, back = jax.vjp(lambda x: dropout(key, x), x)
    return y, back(jnp.ones_like(y))[0]


def numbers_of_xent(arrays):
    loss, grad = arrays
    return [float(loss), *norms([grad])]


a = training("a", MLP((12, 8, 1)), mean_squares, optax.sgd(0.1))
serve(
    {
        "a": a,
        "a_sync": synchronous(a),
        "b": training("b", MLP((512, 512, 10)), cross_entropy, optax.adam(1e-5)),
        "c": images(0.5),
        "c_without_dropout": images(0.0),
        "d": training("d", Transformer(), cross_entropy, optax.adamw(1e-5, weight_decay=0.01)),
        "e": adam("e"),
        "e_many": adam("e_many"),
        "f": inference,
        "g_dropout": function(dropout, digest, key_and_input),
        "g_dropout_grad": function(dropout_grad, digest, key_and_input),
        "g_layernorm": function(layernorm, norms, layernorm_arguments),
        "g_mask": function(lambda key: jax.random.bernoulli(key, 1.0 - RATE, (ELEMENTS,)), digest, key),
        "g_normal": function(lambda key: jax.random.normal(key, (ELEMENTS,)), digest, key),
        "g_uniform": function(lambda key: jax.random.uniform(key, (ELEMENTS,)), digest, key),
        "g_xent": function(jax.value_and_grad(cross_entropy), numbers_of_xent, lambda: batch("g_xent")),
    },
    f"{jax.__version__} with Flax {flax.__version__} and Optax {optax.__version__}",
)
