//! Which statistics an input is normalized by, and what comes of it.

use candle_core::Tensor;
use treex_kernels::norm::layer_norm::Moments;

/// Where mean and variance come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'t> {
    /// The input. The variance is `max(mean(x²) - mean(x)², 0)` if it is fast, otherwise `mean((x - mean(x))²)`.
    Input { use_fast_variance: bool },
    /// `mean(x²)` of the input's rows, with 0 for the mean.
    Squares,
    /// These constants, of shape `[outer * groups]`.
    Given { mean: &'t Tensor, var: &'t Tensor },
}

/// A normalized tensor, and the statistics that a layer may store.
#[derive(Debug)]
pub struct Normalized {
    pub y: Tensor,
    /// Mean and variance, `[outer * groups]` in `F64`, detached, where they are of groups of columns.
    pub moments: Option<[Tensor; 2]>,
}

/// The kernel that was run.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Statistics of each row.
    Rows(Moments),
    /// Statistics of groups of columns.
    Groups { differentiates_moments: bool },
}
