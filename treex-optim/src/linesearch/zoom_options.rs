//! The options of the zoom line search.

use crate::transform::builder;

/// See [`scale_by_zoom_linesearch`](crate::scale_by_zoom_linesearch).
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByZoomLinesearch {
    pub(super) max_linesearch_steps: u64,
    pub(super) max_learning_rate: Option<f64>,
    pub(super) tol: f64,
    pub(super) increase_factor: f64,
    pub(super) slope_rtol: f64,
    pub(super) curv_rtol: f64,
    pub(super) approx_dec_rtol: Option<f64>,
    pub(super) stepsize_precision: f64,
    pub(super) initial_guess: InitialGuess,
}

/// The first trial of a zoom line search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialGuess {
    /// 1, the step of Newton's method.
    One,
    /// That of the last search.
    Keep,
}

builder!(ScaleByZoomLinesearch {
    /// The largest step. Default: none.
    max_learning_rate: f64,
    /// The tolerance of both conditions.
    tol: f64,
    /// The factor between trials until an interval is found.
    increase_factor: f64,
    /// The required fraction of the decrease that the slope predicts.
    slope_rtol: f64,
    /// The largest remaining fraction of the slope.
    curv_rtol: f64,
    /// The largest relative increase of the loss in the condition near a minimum; `None` disables it.
    approx_dec_rtol: Option<f64>,
    /// The smallest interval to search.
    stepsize_precision: f64,
    /// The first trial.
    initial_guess: InitialGuess,
});
