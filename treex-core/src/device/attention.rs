//! The weights of attention and the gradient of its scores on a device, a launch each; the products around them are the device's
//! library's.

use candle_core::{DType, Shape, Tensor};
use treex_kernels::attention::DIALECT;
use treex_kernels::dialect::{ELEMENT, ROWS, THREEFRY};
use treex_kernels::random::bernoulli::Bernoulli;

use super::kernel::{Kernel, Launch, Value, is_captured};
use super::rows::{MOST_COLUMNS, Rows};
use crate::capture::plan;
use crate::error::{Error, Result};
use crate::random::Key;

const TEXTS: &[&str] = &[ELEMENT, ROWS, THREEFRY, DIALECT];
static WEIGHTS: Kernel = Kernel { name: "attention_weights", texts: TEXTS };
static GRADIENT: Kernel = Kernel { name: "attention_gradient", texts: TEXTS };

/// What is done to scores `[examples, heads, queries, keys]` and their weights.
#[derive(Clone, Debug)]
pub struct Adjustments {
    /// The factor of scores.
    pub scale: f64,
    /// Added to the scores: `[examples, heads, queries, keys]`, of the type of the scores and any strides.
    pub bias: Option<Tensor>,
    /// `U8`, in the same shape: keys are masked where it is 0.
    pub mask: Option<Tensor>,
    /// Whether query `i` attends to keys 0 to `i` only.
    pub causal: bool,
    /// Dropout of the weights.
    pub dropout: Option<Dropout>,
}

/// Dropout of weights, with the bits of [`Key::bernoulli`].
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Draws the mask.
    pub key: Key,
    /// How many are kept.
    pub kept: Bernoulli,
    /// The factor of those.
    pub scale: f32,
    /// Whether all examples and heads share the mask.
    pub is_shared: bool,
}

/// Some heads of scores.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// That of all scores: `[examples, heads, queries, keys]`.
    pub shape: [usize; 4],
    /// The first head of the block, among those of all examples.
    pub first: usize,
}

/// The softmax of adjusted scores, `[heads, queries, keys]` of a block, and its weights after dropout, if there is one.
///
/// # Errors
/// If sizes or types do not fit, or the launch fails.
pub fn attention_weights(
    scores: &Tensor,
    block: Block,
    adjustments: &Adjustments,
) -> Result<(Tensor, Option<Tensor>)> {
    let rows = block.rows(&[scores], adjustments)?;
    let Adjustments { bias, mask, dropout, scale, .. } = adjustments;
    let (element, one) = (scores.dtype(), Shape::from(1));
    let mut values = block.values(rows);
    values.extend(strides(bias.as_ref()));
    values.extend(strides(mask.as_ref()));
    values.push(Value::Real(*scale));
    values.extend(of_dropout(dropout.as_ref()));
    let launch = Launch {
        kernel: &WEIGHTS,
        element,
        defines: &defines(rows, adjustments),
        groups: rows.groups(),
        reads: &[
            (scores, element),
            bias.as_ref().map_or((scores, element), |bias| (bias, element)),
            mask.as_ref().map_or((scores, element), |mask| (mask, DType::U8)),
        ],
        writes: [(scores.shape(), element), (if dropout.is_some() { scores.shape() } else { &one }, element)],
        values: &values,
    };
    // SAFETY: the block is some of the heads of its shape, which bias and mask have; what is not written is not returned.
    #[expect(unsafe_code, reason = "a launch")]
    let [weights, dropped] = unsafe { launch.run_strided() }?;
    Ok((weights.into_tensor(), dropout.map(|_| dropped.into_tensor())))
}

/// The gradient of the scores, from the weights before dropout and the gradient of those after it.
///
/// # Errors
/// As [`attention_weights`].
pub fn attention_gradient(
    weights: &Tensor,
    gradient: &Tensor,
    block: Block,
    adjustments: &Adjustments,
) -> Result<Tensor> {
    let rows = block.rows(&[weights, gradient], adjustments)?;
    let Adjustments { mask, dropout, scale, .. } = adjustments;
    let element = weights.dtype();
    let mut values = block.values(rows);
    values.extend(strides(mask.as_ref()));
    values.push(Value::Real(*scale));
    values.extend(of_dropout(dropout.as_ref()));
    let launch = Launch {
        kernel: &GRADIENT,
        element,
        defines: &defines(rows, adjustments),
        groups: rows.groups(),
        reads: &[
            (weights, element),
            (gradient, element),
            mask.as_ref().map_or((weights, element), |mask| (mask, DType::U8)),
        ],
        writes: [(weights.shape(), element)],
        values: &values,
    };
    // SAFETY: the block is some of the heads of its shape, which the mask has; the gradient has the elements of the weights.
    #[expect(unsafe_code, reason = "a launch")]
    let [dscores] = unsafe { launch.run_strided() }?;
    Ok(dscores.into_tensor())
}

impl Block {
    /// The rows of a block, whose tensors and adjustments fit.
    fn rows(&self, tensors: &[&Tensor], adjustments: &Adjustments) -> Result<Rows> {
        let [examples, heads, queries, keys] = self.shape;
        let rows = Rows::of(tensors, keys)?;
        let is_inside = queries > 0
            && rows.rows.is_multiple_of(queries)
            && self
                .first
                .checked_add(rows.rows / queries)
                .is_some_and(|end| end <= examples.saturating_mul(heads))
            && [heads, queries].iter().all(|&size| size <= MOST_COLUMNS);
        let Adjustments { bias, mask, .. } = adjustments;
        let mut others = bias.iter().chain(mask);
        if is_inside && tensors.iter().all(|x| x.is_contiguous()) && others.all(|x| x.dims() == self.shape) {
            return Ok(rows);
        }
        Err(Error::shape("scores of attention do not fit together")
            .expected(format!(
                "contiguous heads from {} on, and adjustments, of {:?}",
                self.first, self.shape
            ))
            .found(format!(
                "{:?}",
                tensors
                    .iter()
                    .chain(&bias.iter().chain(mask).collect::<Vec<_>>())
                    .map(|x| x.dims())
                    .collect::<Vec<_>>()
            )))
    }

    fn values(&self, rows: Rows) -> Vec<Value> {
        let [_, heads, queries, _] = self.shape;
        [rows.rows, rows.columns, self.first, heads, queries].map(Value::Index).into()
    }
}

fn defines(rows: Rows, adjustments: &Adjustments) -> [(&'static str, usize); 8] {
    let Adjustments { bias, mask, causal, dropout, .. } = adjustments;
    let [lanes, each] = rows.defines();
    [
        lanes,
        each,
        ("HAS_BIAS", bias.is_some().into()),
        ("HAS_MASK", mask.is_some().into()),
        ("IS_CAUSAL", (*causal).into()),
        ("HAS_DROPOUT", dropout.is_some().into()),
        is_captured(),
        ("IS_SHARED", dropout.is_some_and(|dropout| dropout.is_shared).into()),
    ]
}

/// The strides of four dimensions.
fn strides(x: Option<&Tensor>) -> [Value; 4] {
    let mut strides = [Value::Index(0); 4];
    let found = x.map_or(&[][..], Tensor::stride);
    strides.iter_mut().zip(found).for_each(|(to, stride)| *to = Value::Index(*stride));
    strides
}

fn of_dropout(dropout: Option<&Dropout>) -> [Value; 3] {
    let Some(Dropout { key, kept, scale, .. }) = dropout else { return [Value::Index(0); 3] };
    [
        Value::Index(plan::key_word(*key) as usize),
        Value::Index(kept.below() as usize),
        Value::Real((*scale).into()),
    ]
}
