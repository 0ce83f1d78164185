//! Coming from Flax: the same model, the same seed, the same numbers.
//!
//! A Flax module:
//!
//! ```python
//! class Net(nn.Module):
//!     @nn.compact
//!     def __call__(self, x, train):
//!         x = nn.Conv(4, (3, 3), strides=2, use_bias=False)(x)
//!         x = nn.BatchNorm(use_running_average=not train)(x)
//!         x = nn.relu(x).reshape(x.shape[0], -1)
//!         x = nn.Dropout(0.25, deterministic=not train)(x)
//!         return nn.Dense(3)(x)
//!
//! x = jnp.linspace(-1, 1, 2 * 4 * 4).reshape(2, 4, 4, 1)
//! rngs = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
//! variables = Net().init(rngs, x, train=False)
//! print(variables["params"]["Conv_0"]["kernel"].ravel()[:3])
//! # [ 0.22410648 -0.09651515  0.15530376]
//! print(variables["params"]["Dense_0"]["kernel"][0])
//! # [-0.4129499   0.18863787 -0.34443754]
//!
//! y, _ = Net().apply(variables, x, train=True,
//!                    rngs={"dropout": jax.random.PRNGKey(2)}, mutable=["batch_stats"])
//! print(y)
//! # [[-0.70841897 -0.43254858  0.8356055 ]
//! #  [ 1.0930386   0.03635713  0.3596932 ]]
//! ```
//!
//! The struct beside it, whose fields have the names that `compact` gives:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_core::Rngs;
//! use treex_nn::{BatchNorm, Conv, Dense, Dropout, prelude::*, relu};
//!
//! #[derive(Clone, Debug, TreeObject)]
//! struct Net {
//!     #[tree(rename = "Conv_0")]
//!     conv: Conv,
//!     #[tree(rename = "BatchNorm_0")]
//!     norm: BatchNorm,
//!     #[tree(rename = "Dropout_0")]
//!     dropout: Dropout,
//!     #[tree(rename = "Dense_0")]
//!     head: Dense,
//! }
//!
//! impl Module for Net {
//!     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
//!         let x = relu(&self.norm.call(&self.conv.call(x)?)?)?.flatten_from(1)?;
//!         self.head.call(&self.dropout.call(&x)?)
//!     }
//! }
//!
//! let x: Vec<f32> = (0..32).map(|i| -1. + i as f32 * 2. / 31.).collect();
//! let x = Tensor::from_vec(x, (2, 4, 4, 1), &Device::Cpu)?;
//! let net = Net {
//!     conv: Conv::lazy(4, [3, 3]).strides(2).use_bias(false),
//!     norm: BatchNorm::lazy(),
//!     dropout: Dropout::new(0.25),
//!     head: Dense::lazy(3),
//! };
//! let mut net = net.inferred(&x)?.init_linen(Rngs::new(0).stream("dropout", 1), &Device::Cpu)?;
//!
//! let kernel = net.conv.kernel.get()?;
//! assert_eq!(kernel.dims(), [3, 3, 1, 4]);
//! assert_eq!(kernel.flatten_all()?.to_vec1::<f32>()?[..3], [0.22410648, -0.09651515, 0.15530376]);
//! let kernel = net.head.kernel.get()?;
//! assert_eq!(kernel.dims(), [16, 3]);
//! assert_eq!(kernel.to_vec2::<f32>()?[0], [-0.4129499, 0.18863787, -0.34443754]);
//!
//! net.set_rngs("dropout", 2)?;
//! let y = net.call(&x)?.to_vec2::<f32>()?;
//! let flax = [[-0.70841897, -0.43254858, 0.8356055], [1.0930386, 0.03635713, 0.3596932]];
//! assert!(y.iter().flatten().zip(flax.as_flattened()).all(|(y, flax)| (y - flax).abs() < 1e-5));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Layers in layers
//!
//! Names follow from the struct, and Flax has two rules for a layer that another one gets as an argument. In `setup` it
//! belongs to the other: after `self.rnn = nn.RNN(nn.GRUCell(4))` the weights lie at `rnn/cell/..`, as those of a field
//! `rnn: Rnn<GruCell>` do. In a compact call it belongs to the module that makes it: the weights of
//! `nn.RNN(nn.GRUCell(4))(x)` lie at `GRUCell_0/..`, and an `RNN_0` has none.
//!
//! ```python
//! class Net(nn.Module):
//!     @nn.compact
//!     def __call__(self, x):
//!         x = nn.RNN(nn.GRUCell(4))(x)
//!         return nn.Dense(2)(x[:, -1])
//!
//! x = jnp.linspace(-1, 1, 2 * 5 * 3).reshape(2, 5, 3)
//! variables = Net().init(jax.random.PRNGKey(0), x)
//! print(variables["params"]["GRUCell_0"]["in"]["kernel"][0])
//! # [-0.75312346 -0.00905970  0.00486363  0.7421188 ]
//! print(Net().apply(variables, x))
//! # [[-0.30113223 -0.03878147]
//! #  [ 0.3934399  -0.17083935]]
//! ```
//!
//! So there the cell is the field, and the call makes the layer around it:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use treex_nn::{Dense, GruCell, Rnn, prelude::*};
//!
//! #[derive(Clone, Debug, TreeObject)]
//! struct Net {
//!     #[tree(rename = "GRUCell_0")]
//!     cell: GruCell,
//!     #[tree(rename = "Dense_0")]
//!     head: Dense,
//! }
//!
//! impl Module for Net {
//!     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
//!         // A clone shares the weights, and their gradients.
//!         let y = Rnn::new(self.cell.clone()).call(x)?;
//!         self.head.call(&y.narrow(1, y.dim(1)? - 1, 1)?.squeeze(1)?)
//!     }
//! }
//!
//! let x: Vec<f32> = (0..30).map(|i| -1. + i as f32 * 2. / 29.).collect();
//! let x = Tensor::from_vec(x, (2, 5, 3), &Device::Cpu)?;
//! let net = Net { cell: GruCell::new(3, 4), head: Dense::new(4, 2) };
//! let mut net = net.init_linen(0, &Device::Cpu)?;
//! let kernel = net.cell.in_.kernel.get()?.to_vec2::<f32>()?;
//! let flax = [-0.75312346, -0.009059696, 0.004863629, 0.7421188];
//! assert!(kernel[0].iter().zip(flax).all(|(x, flax)| (x - flax).abs() <= 1e-7 * flax.abs() + 1e-9));
//!
//! let y = net.call(&x)?.to_vec2::<f32>()?;
//! let flax = [[-0.30113223, -0.03878147], [0.3934399, -0.17083935]];
//! assert!(y.iter().flatten().zip(flax.as_flattened()).all(|(y, flax)| (y - flax).abs() < 1e-5));
//!
//! let (_, grads) = net.value_and_grad(Parameter, |net| Ok(net.call(&x)?.sum_all()?))?;
//! assert!(grads.cell.hn.kernel.get()?.abs()?.sum_all()?.to_scalar::<f32>()? > 0.);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Where to find what
//!
//! | Flax | treex |
//! |---|---|
//! | `variables["params"]["Dense_0"]["kernel"]` | the field itself: `net.head.kernel.get()?` |
//! | `model.init(key, x)` | `model.init_with(seed, &x)?`, or `model.inferred(&x)?.init_linen(key, &device)?` with Flax's keys |
//! | `model.apply(variables, x)` | `model.call(&x)?`; the call updates state in `model` |
//! | `rngs={"dropout": key}` | `model.set_rngs("dropout", key)?`, or nothing: the counters continue |
//! | `train=True`, `deterministic=False`, `use_running_average=False` | `model.train()`, `model.eval()` |
//! | the collections `params`, `batch_stats`, `cache`, `intermediates` | the kinds [`Parameter`](crate::prelude::Parameter), [`BatchStat`](crate::prelude::BatchStat), [`Cache`](crate::prelude::Cache), [`Intermediate`](crate::prelude::Intermediate): `model.filter(Parameter)` |
//! | `setup`: `self.layers = [...]`, `self.heads = {...}` | fields: `layers: Vec<_>` has the paths `layers_0`, .., `heads: BTreeMap<_, _>` the paths `heads_key`, .. |
//! | `jax.value_and_grad(loss)(params)` | `model.value_and_grad(Parameter, \|model\| ..)?` |
//!
//! The layers have Flax's arguments as methods of their builders, except for those that do not apply here:
//!
//! | Flax's argument | here |
//! |---|---|
//! | `precision`, `dot_general`, `dot_general_cls`, `conv_general_dilated`, `preferred_element_type`, and their variants in attention | options of XLA's products; here products are computed in the layer's element type, set by `dtype` |
//! | `promote_dtype` | always Flax's default |
//! | `axis_name`, `axis_index_groups` | `pmean`, a function that averages over ranks |
//! | `deterministic`, `update_stats` | the mode: `model.train()`, `model.eval()` |
//! | `decode` | [`init_cache`](crate::MultiHeadDotProductAttention::init_cache) starts, [`clear_cache`](crate::MultiHeadDotProductAttention::clear_cache) ends |
//! | `sow_weights`, of a call | an option of the layer; the weights are in its field `attention_weights` |
//! | `return_carry`, `initial_carry`, `seq_lengths` | [`Rnn::call_with`](crate::Rnn::call_with) |
//! | `unroll`, `variable_axes`, `split_rngs` and so on of `RNN` | the cell is a field, with its parameters and its state: no lifted transformation is needed |
//! | `collection_name` | the kind of the leaf |
//! | `rng`, `dropout_rng` of a call | the function [`dropout`](crate::dropout()), or `set_rngs` |
//!
//! How keys are derived is described in [`treex_core::init::linen`]; for [`init`](treex_core::Tree::init), which
//! does not depend on names, in [`treex_core::init`].
