//! A line search for the strong Wolfe conditions.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::Line;
use super::zoom_options::{InitialGuess, ScaleByZoomLinesearch};
use super::zoom_search::search;
use crate::engine::Updates;
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_zoom_linesearch`].
#[derive(Clone, Debug, TreeObject)]
pub struct ZoomState {
    /// The step of the last search: a scalar f64, 1 before it.
    pub learning_rate: Scalar,
    /// The loss where it ended: a scalar f64.
    pub value: Scalar,
    /// The number of trials: a scalar i64.
    pub num_linesearch_steps: Count,
    /// The missing decrease of the loss: a scalar f64.
    pub decrease_error: Scalar,
    /// The excess of the slope: a scalar f64.
    pub curvature_error: Scalar,
}

/// Scales the updates, which must be a descent direction, by a step `a` that satisfies the strong Wolfe
/// conditions:
///
/// ```text
/// f(p + a u) <= f(p) + slope_rtol * a * m       with m the slope <u, g> at p, m(a) that at p + a u
/// |m(a)|     <= curv_rtol * |m|
/// ```
///
/// with `slope_rtol = 1e-4` and `curv_rtol = 0.9`. Near a minimum, where the first is lost in rounding, it is
/// enough that `m(a) <= (2 slope_rtol - 1) m` and `f(p + a u) <= f(p) + approx_dec_rtol |f(p)|`, with 1e-6.
///
/// First the step doubles (`increase_factor`) until an interval holds such a step, then cubic and quadratic
/// interpolation and bisection narrow it down. After `max_linesearch_steps`, or in an interval of 1e-5
/// (`stepsize_precision`), the best step that satisfies the first condition is taken.
///
/// Each trial computes a loss and its gradient. Step with
/// [`Optimizer::minimize`](crate::Optimizer::minimize).
///
/// Nocedal and Wright, *Numerical optimization*, 1999, algorithms 3.5 and 3.6; Hager and Zhang, [Algorithm
/// 851: CG_DESCENT](https://doi.org/10.1145/1132973.1132979), 2006.
#[must_use]
pub fn scale_by_zoom_linesearch(max_linesearch_steps: u64) -> ScaleByZoomLinesearch {
    ScaleByZoomLinesearch {
        max_linesearch_steps,
        max_learning_rate: None,
        tol: 0.,
        increase_factor: 2.,
        slope_rtol: 1e-4,
        curv_rtol: 0.9,
        approx_dec_rtol: Some(1e-6),
        stepsize_precision: 1e-5,
        initial_guess: InitialGuess::Keep,
    }
}

impl GradientTransformation for ScaleByZoomLinesearch {
    type State = ZoomState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(ZoomState {
            learning_rate: Scalar::new(1.)?,
            value: Scalar::new(f64::INFINITY)?,
            num_linesearch_steps: Count::zero()?,
            decrease_error: Scalar::new(f64::INFINITY)?,
            curvature_error: Scalar::new(f64::INFINITY)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        Ok(updates.tensors(move |updates, params| {
            let guess = match self.initial_guess {
                InitialGuess::One => 1.,
                InitialGuess::Keep => state.learning_rate.get()?,
            };
            let line = Line::new(params, &updates, extra)?;
            let found = search(self, line.start(), guess, |step| line.at(step))?;
            state.learning_rate.set(found.point.step)?;
            state.value.set(found.point.value)?;
            state.decrease_error.set(found.decrease_error)?;
            state.curvature_error.set(found.curvature_error)?;
            state.num_linesearch_steps = Count::of(found.trials)?;
            updates.apply(|update| Ok((update * found.point.step)?))
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The search decides.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}
