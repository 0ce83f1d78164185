//! Distance over gradients.

use candle_core::{DType, Tensor};
use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{
    at_least, check_finite, check_float, check_not_negative, each_update, leaf_at, scalar, scalars_like,
    squared_norm, store_scalar_at, wide,
};
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_distance_over_gradients`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByDistanceOverGradientsState {
    /// The largest distance so far: a number for each leaf, f32 (f64 for f64 parameters), on the CPU.
    pub max_dist: Leaves,
    /// The sum of the squared norms: as `max_dist`.
    pub grad_sum_of_squares: Leaves,
    /// The parameters at `init`: f32 for narrower ones, or `param_dtype`.
    pub init_params: Leaves,
}

/// See [`scale_by_distance_over_gradients`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByDistanceOverGradients {
    reps_rel: f64,
    eps: f64,
    param_dtype: Option<DType>,
    global_scale: f64,
}

/// A step size for each leaf from its distance to the start, without a learning rate:
///
/// ```text
/// d = max(d, norm(p - p_0))                   reps_rel * (1 + norm(p_0)) before the first step
/// s = s + norm(g)^2
/// u = g * global_scale * d / sqrt(s + eps)
/// ```
///
/// with `reps_rel = 1e-6`, `eps = 1e-8` and `global_scale = 1`; `p_0` are the parameters at `init`. This is
/// the layer-wise form of the paper; its authors advise 1e-4 for `reps_rel` with batch norm, and to average
/// the parameters.
///
/// Ivgi et al., [DoG is SGD's best friend: a parameter-free dynamic step size
/// schedule](https://arxiv.org/abs/2302.12022), 2023.
#[must_use]
pub fn scale_by_distance_over_gradients() -> ScaleByDistanceOverGradients {
    ScaleByDistanceOverGradients { reps_rel: 1e-6, eps: 1e-8, param_dtype: None, global_scale: 1. }
}

builder!(ScaleByDistanceOverGradients {
    /// The first distance, in proportion to the parameters.
    reps_rel: f64,
    /// Added inside the square root.
    eps: f64,
    /// The element type of the first parameters.
    param_dtype: impl Into<Option<DType>>,
    /// A factor on every update; -1 for descent without another transformation.
    global_scale: f64,
});

impl GradientTransformation for ScaleByDistanceOverGradients {
    type State = ScaleByDistanceOverGradientsState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("reps_rel", self.reps_rel)?;
        check_not_negative("eps", self.eps)?;
        check_finite("global_scale", self.global_scale)?;
        check_float("param_dtype", self.param_dtype)?;
        let kept =
            |param: &Tensor| Ok(param.to_dtype(self.param_dtype.unwrap_or(wide(param.dtype())))?.copy()?);
        Ok(ScaleByDistanceOverGradientsState {
            max_dist: scalars_like(params, |param| Ok(self.reps_rel * (1. + squared_norm(param)?.sqrt())))?,
            grad_sum_of_squares: scalars_like(params, |_| Ok(0.))?,
            init_params: params.apply(kept)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        Ok(updates.tensors(|updates, params| {
            each_update(&updates, |index, g| {
                let start = leaf_at(&state.init_params, index)?.to_dtype(g.dtype())?;
                let distance = squared_norm(&(leaf_at(params, index)? - start)?)?.sqrt();
                let distance = at_least(distance, scalar(&state.max_dist, index)?);
                let sum = scalar(&state.grad_sum_of_squares, index)? + squared_norm(g)?;
                store_scalar_at(&mut state.max_dist, index, distance)?;
                store_scalar_at(&mut state.grad_sum_of_squares, index, sum)?;
                Ok((g * (self.global_scale * distance / (sum + self.eps).sqrt()))?)
            })
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The gradient of the step decides.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}
