//! Attention with many heads, over projections of its inputs.

mod options;

use std::fmt;
use std::sync::Arc;

use candle_core::{D, DType, Device, Module as _, Tensor};
use treex_core::{Error, Intermediate, Leaf, Mode, Module, Result, Rng, TreeObject, record};

use crate::attention::cache::KvCache;
use crate::attention::dot_product_attention::{
    AttentionOptions, attention_and_weights, dot_product_attention,
};
use crate::attention::masks::as_mask;
use crate::attention::rotary::Rotary;
use crate::dense_general::DenseGeneral;
use crate::dropout::check_rate;
use crate::norm::LayerNorm;

/// `out(dot_product_attention(query(q), key(k), value(v)))` with `num_heads` heads of
/// `qkv_features / num_heads` features each (Vaswani et al., 2017): Flax's layer of this name.
///
/// [`call`](Module::call) is attention of a sequence to itself, [`call_masked`](Self::call_masked) under a
/// mask; [`attend`](Self::attend) takes three inputs. In training, weights are dropped at `dropout_rate`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{MultiHeadDotProductAttention, make_causal_mask, prelude::*};
///
/// let attention = MultiHeadDotProductAttention::new(4, 16).dropout_rate(0.1);
/// let mut attention = attention.init(42, &Device::Cpu)?;
/// assert_eq!(attention.query.kernel.get()?.dims(), [16, 4, 4]);
/// assert_eq!(attention.out.kernel.get()?.dims(), [4, 4, 16]);
///
/// let x = Tensor::ones((2, 5, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(attention.call(&x)?.dims(), [2, 5, 16]);
///
/// let memory = Tensor::ones((2, 7, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(attention.attend(&x, &memory, &memory, None)?.dims(), [2, 5, 16]);
///
/// let mask = make_causal_mask(&Tensor::zeros((2, 5), DType::U32, &Device::Cpu)?, 0)?;
/// assert_eq!(attention.call_masked(&x, &mask)?.dims(), [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
///
/// A decoder generates position by position: after [`init_cache`](Self::init_cache) each call attends to
/// its own positions and all before them.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use treex_nn::{MultiHeadDotProductAttention, prelude::*};
/// let mut attention = MultiHeadDotProductAttention::new(4, 16).init(42, &Device::Cpu)?.into_eval();
/// attention.init_cache(&[2], 10)?;
/// let prompt = Tensor::ones((2, 3, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(attention.call(&prompt)?.dims(), [2, 3, 16]);
/// let token = Tensor::ones((2, 1, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(attention.call(&token)?.dims(), [2, 1, 16]);
/// assert_eq!(attention.cache.cache_index.get()?.to_scalar::<i64>()?, 4);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct MultiHeadDotProductAttention {
    /// Kernel `[features, num_heads, head_dim]`, bias `[num_heads, head_dim]`.
    pub query: DenseGeneral,
    /// Kernel `[kv_features, num_kv_heads, head_dim]`, bias `[num_kv_heads, head_dim]`.
    pub key: DenseGeneral,
    /// As of `key`.
    pub value: DenseGeneral,
    /// Where queries are normalized: a scale `[head_dim]`, without a bias.
    pub query_ln: Option<LayerNorm>,
    /// Where keys are normalized, likewise.
    pub key_ln: Option<LayerNorm>,
    /// Kernel `[num_heads, head_dim, out_features]`, bias `[out_features]`.
    pub out: DenseGeneral,
    /// What decoding remembers.
    pub cache: KvCache,
    /// The weights of the last call, `[batch.., num_heads, query_length, kv_length]`, before dropout; nothing
    /// unless [`sow_weights`](Self::sow_weights) is set.
    pub attention_weights: Leaf<Intermediate>,
    /// The key that the next call draws from, if there is dropout. Moves on at each call in training.
    pub rng: Option<Leaf<Rng>>,
    num_heads: usize,
    num_kv_heads: Option<usize>,
    features: Option<usize>,
    kv_features: Option<usize>,
    qkv_features: Option<usize>,
    out_features: Option<usize>,
    dropout_rate: f64,
    broadcast_dropout: bool,
    causal: bool,
    force_fp32_for_softmax: bool,
    sow_weights: bool,
    /// Whether `out` was given initializers of its own, for kernel and bias.
    out_inits: (bool, bool),
    #[tree(skip)]
    rotary: Option<Rotary>,
    #[tree(skip)]
    attention_fn: Option<AttentionFn>,
    dtype: Option<DType>,
    mode: Mode,
}

/// Flax's other name for [`MultiHeadDotProductAttention`].
pub type MultiHeadAttention = MultiHeadDotProductAttention;

/// Flax's name for [`MultiHeadDotProductAttention`] where all three inputs are one.
pub type SelfAttention = MultiHeadDotProductAttention;

/// What stands in for [`dot_product_attention`].
#[derive(Clone)]
struct AttentionFn(Arc<Function>);

type Function = dyn Fn(&Tensor, &Tensor, &Tensor, &AttentionOptions) -> Result<Tensor> + Send + Sync;

impl fmt::Debug for AttentionFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttentionFn")
    }
}

impl MultiHeadDotProductAttention {
    /// Attention with `num_heads` heads over inputs of `features` features.
    #[must_use]
    pub fn new(num_heads: usize, features: usize) -> Self {
        Self { features: Some(features), ..Self::heads(num_heads) }.declared()
    }

    /// Attention with `num_heads` heads over inputs of as many features as the first ones have, see
    /// [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn heads(num_heads: usize) -> Self {
        // The features of a head are not known yet.
        let projection = || DenseGeneral::features((num_heads, 0));
        Self {
            query: projection(),
            key: projection(),
            value: projection(),
            query_ln: None,
            key_ln: None,
            out: DenseGeneral::features(0).axis([-2, -1]),
            cache: KvCache::empty(),
            attention_weights: Leaf::nothing(),
            rng: None,
            num_heads,
            num_kv_heads: None,
            features: None,
            kv_features: None,
            qkv_features: None,
            out_features: None,
            dropout_rate: 0.,
            broadcast_dropout: true,
            causal: false,
            force_fp32_for_softmax: false,
            sow_weights: false,
            out_inits: (false, false),
            rotary: None,
            attention_fn: None,
            dtype: None,
            mode: Mode::default(),
        }
    }

    /// Heads of keys, and features of a head, for queries from inputs of `features` features.
    fn head_sizes(&self, features: usize) -> Result<(usize, usize)> {
        let (heads, kv_heads) = (self.num_heads, self.num_kv_heads.unwrap_or(self.num_heads));
        let qkv_features = self.qkv_features.or(self.features).unwrap_or(features);
        if heads == 0
            || kv_heads == 0
            || !qkv_features.is_multiple_of(heads)
            || !heads.is_multiple_of(kv_heads)
        {
            return Err(Error::argument(
                "`MultiHeadDotProductAttention` has features that its heads do not divide",
            )
            .expected(format!("a divisor of {qkv_features} features, and one of that for keys and values"))
            .found(format!("{heads} heads, and {kv_heads} for keys and values"))
            .remedy("give other numbers with `qkv_features` and `num_kv_heads`"));
        }
        Ok((kv_heads, qkv_features / heads))
    }

    /// Starts decoding: from now on, a call writes its keys and values behind those of the calls before, and
    /// attends to all of them. There is room for `max_length` positions; the cache has the element type of the
    /// keys, on the device of the parameters.
    ///
    /// Unlike in Flax, a call may bring several positions at once (a prompt), each of which sees those up to
    /// itself.
    ///
    /// # Errors
    /// If the features of the inputs are not known yet.
    pub fn init_cache(&mut self, batch_dims: &[usize], max_length: usize) -> Result<()> {
        let Some(features) = self.features.or(self.qkv_features) else {
            return Err(Error::argument(
                "`MultiHeadDotProductAttention` does not know the size of its cache",
            )
            .expected("a number of features")
            .remedy("make the layer with `MultiHeadDotProductAttention::new(num_heads, features)`")
            .of(self.identity()));
        };
        let (kv_heads, head_dim) = self.head_sizes(features).map_err(|error| error.of(self.identity()))?;
        let dtype = self.dtype.or(self.key.kernel.dtype()).unwrap_or(DType::F32);
        let device = self.key.kernel.get().map_or(Device::Cpu, |kernel| kernel.device().clone());
        let shape = [batch_dims, &[max_length, kv_heads, head_dim]].concat();
        self.cache = KvCache::zeros(&shape, dtype, &device)?;
        Ok(())
    }

    /// Ends decoding: a call attends to its own inputs again.
    pub fn clear_cache(&mut self) {
        self.cache = KvCache::empty();
    }

    /// What `inputs_q`, `[batch.., query_length, features]`, takes from `inputs_v`,
    /// `[batch.., kv_length, kv_features]`, under the keys from `inputs_k`: `[batch.., query_length, out_features]`.
    ///
    /// `mask` broadcasts to `[batch.., num_heads, query_length, kv_length]` and is 0 where a query does not see a
    /// key. In decoding, `kv_length` is the cache's `max_length`, and what lies ahead is hidden in any case.
    ///
    /// # Errors
    /// If shapes or sizes do not fit, or the dropout rate is not from 0 to 1. Neither the positions of the cache
    /// nor the random key have then changed.
    pub fn attend(
        &mut self,
        inputs_q: &Tensor,
        inputs_k: &Tensor,
        inputs_v: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let y =
            self.attended(inputs_q, inputs_k, inputs_v, mask).map_err(|error| error.of(self.identity()))?;
        record(self, inputs_q, &y);
        Ok(y)
    }

    /// [`attend`](Self::attend) of a sequence to itself under a mask.
    ///
    /// # Errors
    /// As `attend`.
    pub fn call_masked(&mut self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.attend(x, x, x, Some(mask))
    }

    fn attended(
        &mut self,
        inputs_q: &Tensor,
        inputs_k: &Tensor,
        inputs_v: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        check_inputs(inputs_q, inputs_k, inputs_v)?;
        let features = inputs_q.dim(D::Minus1)?;
        let (kv_heads, head_dim) = self.head_sizes(features)?;
        let mut query = self.query.apply_to(inputs_q, &[self.num_heads, head_dim])?;
        let mut key = self.key.apply_to(inputs_k, &[kv_heads, head_dim])?;
        let mut value = self.value.apply_to(inputs_v, &[kv_heads, head_dim])?;
        if let (Some(query_ln), Some(key_ln)) = (&self.query_ln, &self.key_ln) {
            query = query_ln.forward(&query)?;
            key = key_ln.forward(&key)?;
        }
        if let Some(rotary) = &self.rotary {
            let offset = if self.cache.is_empty() { 0 } else { self.cache.index()? };
            (query, key) = (rotary.apply(&query, offset)?, rotary.apply(&key, offset)?);
        }
        let mut options = AttentionOptions {
            mask: mask.cloned(),
            causal: self.causal && self.cache.is_empty(),
            broadcast_dropout: self.broadcast_dropout,
            force_fp32_for_softmax: self.force_fp32_for_softmax,
            dtype: self.dtype,
            ..AttentionOptions::default()
        };
        check_rate("MultiHeadDotProductAttention", self.dropout_rate)?;
        // What a call changes is written only if all goes well, but for slots that are not counted yet.
        let (length, mut rng) = (key.dim(D::Minus(3))?, self.rng.clone());
        if !self.cache.is_empty() {
            let seen;
            (key, value, seen) = self.cache.write(&key, &value)?;
            options.mask = Some(match mask {
                Some(mask) => both(mask, &seen)?,
                None => seen,
            });
        }
        if let Some(rng) = rng.as_mut().filter(|_| self.mode.is_training()) {
            options.dropout = Some((self.dropout_rate, rng.next_key()?));
        }
        let (y, weights) = self.attention(&query, &key, &value, &options)?;
        let y = self.out.apply_to(&y, &[self.out_features.or(self.features).unwrap_or(features)])?;
        if let Some(weights) = weights {
            self.attention_weights.set(&weights)?;
        }
        if !self.cache.is_empty() {
            self.cache.advance(length)?;
        }
        self.rng = rng;
        Ok(y)
    }

    /// What the queries take, and where the weights are to be kept, these.
    fn attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Result<(Tensor, Option<Tensor>)> {
        match (&self.attention_fn, self.sow_weights) {
            (None, false) => Ok((dot_product_attention(query, key, value, options)?, None)),
            (None, true) => {
                let (y, weights) = attention_and_weights(query, key, value, options)?;
                Ok((y, Some(weights)))
            }
            (Some(AttentionFn(f)), false) => Ok((f(query, key, value, options)?, None)),
            (Some(_), true) => Err(Error::argument(
                "`MultiHeadDotProductAttention` does not see the weights of its `attention_fn`",
            )
            .expected("either `sow_weights` or `attention_fn`")),
        }
    }
}

impl Module for MultiHeadDotProductAttention {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.attend(x, x, x, None)
    }
}

/// What both masks show, where `seen` is over all slots of the cache.
fn both(mask: &Tensor, seen: &Tensor) -> Result<Tensor> {
    as_mask(mask)?.broadcast_mul(seen).map_err(|_| {
        Error::shape("`MultiHeadDotProductAttention` got a mask that does not cover its cache")
            .expected(format!("[.., query_length, max_length], here {:?}", seen.dims()))
            .found(format!("{:?}", mask.dims()))
            .remedy("leave the mask out: what lies ahead is hidden in any case")
    })
}

/// Three sequences with the same batch dimensions, of which keys and values are equally long.
fn check_inputs(inputs_q: &Tensor, inputs_k: &Tensor, inputs_v: &Tensor) -> Result<()> {
    let fits = match (inputs_q.dims(), inputs_k.dims(), inputs_v.dims()) {
        ([batch @ .., _, _], [of_keys @ .., keys, _], [of_values @ .., values, _]) => {
            batch == of_keys && batch == of_values && keys == values
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::shape("`MultiHeadDotProductAttention` got inputs that do not fit together")
        .expected("[batch.., query_length, features] and twice [batch.., kv_length, features]")
        .found(format!("{:?}, {:?} and {:?}", inputs_q.dims(), inputs_k.dims(), inputs_v.dims())))
}
