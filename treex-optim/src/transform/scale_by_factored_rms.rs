//! Adafactor's rescaling.

use candle_core::Tensor;
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{check_finite, check_not_negative, each_update, leaf_at, store_at, zeros_like};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_factored_rms`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByFactoredRmsState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The means of rows: the shape without `d0`, f32 (f64 for f64 parameters); empty for leaves that are
    /// not factored.
    pub v_row: Leaves,
    /// The means of columns: the shape without `d1`, otherwise as `v_row`.
    pub v_col: Leaves,
    /// The averages of leaves that are not factored: the parameters' shapes, f32 (f64 for f64 parameters).
    pub v: Leaves,
}

/// See [`scale_by_factored_rms`].
#[derive(Clone, Debug)]
pub struct ScaleByFactoredRms {
    factored: bool,
    decay_rate: f64,
    step_offset: u64,
    min_dim_size_to_factor: usize,
    epsilon: f64,
    decay_rate_fn: Option<Schedule>,
}

/// Divides by the root of an average of the squares; for matrices only the means of rows and columns are
/// stored. With `c` the number of steps before this one and `q = g^2 + epsilon`:
///
/// ```text
/// b     = 1 - (c - step_offset + 1)^(-decay_rate)
/// v     = b * v + (1 - b) * q                             not factored
/// u     = g / sqrt(v)
/// v_row = b * v_row + (1 - b) * mean over d0 of q         factored
/// v_col = b * v_col + (1 - b) * mean over d1 of q
/// u     = g / sqrt(v_row / mean(v_row)) / sqrt(v_col)
/// ```
///
/// with `decay_rate = 0.8`, `step_offset = 0` and `epsilon = 1e-30`. `d0` is the largest axis, `d1` the
/// second largest (the last of equal ones is the larger); the mean of `v_row` is over `d1`. A leaf is
/// factored if both have at least `min_dim_size_to_factor = 128` elements. PyTorch's `Adafactor` always
/// factors the last two axes.
///
/// Shazeer and Stern, [Adafactor: adaptive learning rates with sublinear memory
/// cost](https://arxiv.org/abs/1804.04235), 2018.
#[must_use]
pub fn scale_by_factored_rms() -> ScaleByFactoredRms {
    ScaleByFactoredRms {
        factored: true,
        decay_rate: 0.8,
        step_offset: 0,
        min_dim_size_to_factor: 128,
        epsilon: 1e-30,
        decay_rate_fn: None,
    }
}

builder!(ScaleByFactoredRms {
    /// Whether matrices are factored. Default: true.
    factored: bool,
    /// The exponent with which the average lengthens.
    decay_rate: f64,
    /// The step at which the average restarts, for fine-tuning.
    step_offset: u64,
    /// Smaller leaves are not factored.
    min_dim_size_to_factor: usize,
    /// Added to the squares.
    epsilon: f64,
});

impl GradientTransformation for ScaleByFactoredRms {
    type State = ScaleByFactoredRmsState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("decay_rate", self.decay_rate)?;
        check_not_negative("epsilon", self.epsilon)?;
        if let Some(decay) = &self.decay_rate_fn {
            decay.check("decay_rate_fn")?;
        }
        let zeros = zeros_like(params)?;
        let of = |part: fn(&Tensor, Option<Axes>) -> Result<Option<Tensor>>| {
            zeros.rebuild(|index| match zeros.get(index) {
                Some(leaf) => part(leaf, self.axes(leaf.dims())),
                None => Ok(None),
            })
        };
        Ok(ScaleByFactoredRmsState {
            count: Count::zero()?,
            v_row: of(|leaf, axes| axes.map(|axes| without(leaf, axes.largest)).transpose())?,
            v_col: of(|leaf, axes| axes.map(|axes| without(leaf, axes.second)).transpose())?,
            v: of(|leaf, axes| Ok(axes.is_none().then(|| leaf.clone())))?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let b = match &self.decay_rate_fn {
            Some(decay) => decay.at(Some(&state.count), "decay_rate_fn")?,
            None => {
                let steps = state.count.get()?.saturating_sub(self.step_offset).saturating_add(1);
                1. - (steps as f64).powf(-self.decay_rate)
            }
        };
        state.count.advance()?;
        Ok(updates
            .tensors(move |updates, _| each_update(&updates, |index, g| self.rescaled(g, b, state, index))))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// The two largest axes of a leaf that is factored.
#[derive(Clone, Copy)]
struct Axes {
    largest: usize,
    second: usize,
}

/// Zeros of this shape without one axis.
fn without(zeros: &Tensor, axis: usize) -> Result<Tensor> {
    let mut dims = zeros.dims().to_vec();
    dims.remove(axis);
    Ok(Tensor::zeros(dims, zeros.dtype(), zeros.device())?)
}

impl ScaleByFactoredRms {
    /// The decay rate of the averages, instead of `b` above, as a function of `c`.
    #[must_use]
    pub fn decay_rate_fn(self, decay: impl Into<Schedule>) -> Self {
        Self { decay_rate_fn: Some(decay.into()), ..self }
    }

    fn axes(&self, dims: &[usize]) -> Option<Axes> {
        let mut axes: Vec<_> = (0..dims.len()).collect();
        axes.sort_by_key(|&axis| dims[axis]);
        let [.., second, largest] = axes[..] else { return None };
        (self.factored && dims[second] >= self.min_dim_size_to_factor).then_some(Axes { largest, second })
    }

    fn rescaled(
        &self,
        g: &Tensor,
        b: f64,
        state: &mut ScaleByFactoredRmsState,
        index: usize,
    ) -> Result<Tensor> {
        let squares = g.sqr()?.affine(1., self.epsilon)?;
        let average = |kept: &mut Leaves, new: Tensor| -> Result<Tensor> {
            let old = leaf_at(kept, index)?.to_dtype(g.dtype())?;
            let next = ((old * b)? + (new * (1. - b))?)?;
            store_at(kept, index, &next)?;
            Ok(next)
        };
        let Some(Axes { largest, second }) = self.axes(g.dims()) else {
            return Ok((g / average(&mut state.v, squares)?.sqrt()?)?);
        };
        let row = average(&mut state.v_row, squares.mean(largest)?)?;
        let col = average(&mut state.v_col, squares.mean(second)?)?;
        let among_rows = if second > largest { second - 1 } else { second };
        let row = row.broadcast_div(&row.mean_keepdim(among_rows)?)?.sqrt()?.unsqueeze(largest)?;
        Ok(g.broadcast_div(&row)?.broadcast_div(&col.sqrt()?.unsqueeze(second)?)?)
    }
}
