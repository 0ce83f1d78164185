//! The options of [`MultiHeadDotProductAttention`].

use std::sync::Arc;

use candle_core::{DType, Tensor};
use treex_core::{Leaf, Result};

use super::{AttentionFn, MultiHeadDotProductAttention};
use crate::attention::dot_product_attention::AttentionOptions;
use crate::attention::rotary::Rotary;
use crate::dense_general::DenseGeneral;
use crate::initializers::InitFn;
use crate::norm::LayerNorm;

impl MultiHeadDotProductAttention {
    /// How many heads of keys and values there are, each for `num_heads / num_kv_heads` heads of queries
    /// (Ainslie et al., 2023); as many as of queries unless said.
    #[must_use]
    pub fn num_kv_heads(self, num_kv_heads: usize) -> Self {
        Self { num_kv_heads: Some(num_kv_heads), ..self }.declared()
    }

    /// How many features the inputs of keys and values have; as many as those of queries unless said.
    #[must_use]
    pub fn kv_features(self, kv_features: usize) -> Self {
        Self { kv_features: Some(kv_features), ..self }.declared()
    }

    /// How many features all heads of queries have together; as many as their input unless said.
    #[must_use]
    pub fn qkv_features(self, qkv_features: usize) -> Self {
        Self { qkv_features: Some(qkv_features), ..self }.declared()
    }

    /// How many features come out; as many as go in unless said.
    #[must_use]
    pub fn out_features(self, out_features: usize) -> Self {
        Self { out_features: Some(out_features), ..self }.declared()
    }

    /// The rate at which weights are dropped in training, from 0 to 1; 0 unless said.
    #[must_use]
    pub fn dropout_rate(self, dropout_rate: f64) -> Self {
        let rng = (dropout_rate != 0.).then(|| Leaf::stream("dropout"));
        Self { rng, dropout_rate, ..self }
    }

    /// Whether all of a batch and all heads share one dropout mask; true unless said.
    #[must_use]
    pub fn broadcast_dropout(self, broadcast_dropout: bool) -> Self {
        Self { broadcast_dropout, ..self }
    }

    /// Whether the projections add a bias; true unless said.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        self.each(|projection| projection.use_bias(use_bias))
    }

    /// Whether to normalize each head of queries and keys before the scores (Dehghani et al., 2023); false
    /// unless said.
    #[must_use]
    pub fn normalize_qk(self, normalize_qk: bool) -> Self {
        let param_dtype = self.query.kernel.dtype().unwrap_or(DType::F32);
        let norm = LayerNorm::default().use_bias(false).param_dtype(param_dtype);
        let norm = match self.dtype {
            Some(dtype) => norm.dtype(dtype),
            None => norm,
        };
        let norm = normalize_qk.then_some(norm);
        Self { query_ln: norm.clone(), key_ln: norm, ..self }.declared()
    }

    /// WorkRange queries and keys by their positions, after the normalization; not unless said. Positions start at
    /// 0, in decoding where the last call ended.
    #[must_use]
    pub fn rotary(self, rotary: Rotary) -> Self {
        Self { rotary: Some(rotary), ..self }
    }

    /// See [`AttentionOptions::causal`]; false unless said. Decoding is causal in any case.
    #[must_use]
    pub fn causal(self, causal: bool) -> Self {
        Self { causal, ..self }
    }

    /// See [`AttentionOptions::force_fp32_for_softmax`]; false unless said.
    #[must_use]
    pub fn force_fp32_for_softmax(self, force_fp32_for_softmax: bool) -> Self {
        Self { force_fp32_for_softmax, ..self }
    }

    /// Whether each call keeps its weights in [`attention_weights`](Self::attention_weights); false unless said.
    #[must_use]
    pub fn sow_weights(self, sow_weights: bool) -> Self {
        Self { sow_weights, ..self }
    }

    /// What computes attention from queries, keys, values and options;
    /// [`dot_product_attention`](crate::dot_product_attention) unless said. A relative bias is one: `|q, k, v, options| dot_product_attention(q, k, v, &options.clone().bias(&bias))`.
    #[must_use]
    pub fn attention_fn<F>(self, f: F) -> Self
    where
        F: Fn(&Tensor, &Tensor, &Tensor, &AttentionOptions) -> Result<Tensor> + Send + Sync + 'static,
    {
        Self { attention_fn: Some(AttentionFn(Arc::new(f))), ..self }
    }

    /// How to make the kernels; `lecun_normal` of the matrices unless said.
    #[must_use]
    pub fn kernel_init(mut self, init: impl InitFn) -> Self {
        if !self.out_inits.0 {
            self.out = self.out.kernel_init(init.clone());
        }
        self.inputs(|projection| projection.kernel_init(init.clone()))
    }

    /// How to make the kernel of `out`; as the others unless said.
    #[must_use]
    pub fn out_kernel_init(self, init: impl InitFn) -> Self {
        Self { out: self.out.kernel_init(init), out_inits: (true, self.out_inits.1), ..self }
    }

    /// How to make the biases; zeros unless said.
    #[must_use]
    pub fn bias_init(mut self, init: impl InitFn) -> Self {
        if !self.out_inits.1 {
            self.out = self.out.bias_init(init.clone());
        }
        self.inputs(|projection| projection.bias_init(init.clone()))
    }

    /// How to make the bias of `out`; as the others unless said.
    #[must_use]
    pub fn out_bias_init(self, init: impl InitFn) -> Self {
        Self { out: self.out.bias_init(init), out_inits: (self.out_inits.0, true), ..self }
    }

    /// The element type of the parameters; `F32` unless said.
    #[must_use]
    pub fn param_dtype(self, dtype: DType) -> Self {
        self.norms(|norm| norm.param_dtype(dtype)).each(|projection| projection.param_dtype(dtype))
    }

    /// The element type to compute in; unless said, the smallest that holds the inputs and the parameters.
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        let layer = Self { dtype: Some(dtype), ..self };
        layer.norms(|norm| norm.dtype(dtype)).each(|projection| projection.dtype(dtype))
    }

    fn norms(self, f: impl Fn(LayerNorm) -> LayerNorm) -> Self {
        Self { query_ln: self.query_ln.map(&f), key_ln: self.key_ln.map(&f), ..self }
    }

    fn inputs(self, f: impl Fn(DenseGeneral) -> DenseGeneral) -> Self {
        Self { query: f(self.query), key: f(self.key), value: f(self.value), ..self }
    }

    fn each(self, f: impl Fn(DenseGeneral) -> DenseGeneral) -> Self {
        let layer = self.inputs(&f);
        Self { out: f(layer.out), ..layer }
    }

    /// The parameters with their shapes, if the inputs' features are known. Sizes that do not divide are
    /// reported by the call, which can.
    pub(super) fn declared(self) -> Self {
        let Some(features) = self.features else { return self };
        let kv_features = self.kv_features.unwrap_or(features);
        let (kv_heads, out) =
            (self.num_kv_heads.unwrap_or(self.num_heads), self.out_features.unwrap_or(features));
        let head_dim = self.qkv_features.unwrap_or(features).checked_div(self.num_heads).unwrap_or(0);
        let layer = Self {
            query: self.query.sized(&[features], &[self.num_heads, head_dim]),
            key: self.key.sized(&[kv_features], &[kv_heads, head_dim]),
            value: self.value.sized(&[kv_features], &[kv_heads, head_dim]),
            out: self.out.sized(&[self.num_heads, head_dim], &[out]),
            ..self
        };
        layer.norms(|mut norm| {
            norm.scale = norm.scale.map(|scale| scale.with_shape(head_dim));
            norm
        })
    }
}
