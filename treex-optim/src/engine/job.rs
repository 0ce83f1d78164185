//! What a pass over memory is given, and what it returns.

use candle_core::{DType, Tensor};
use treex_core::{Handle, Leaves};

use super::erased::{ErasedTerms, Rules};
use super::updates::{Mask, Sums};

/// What the updates are for.
pub(crate) enum Target<'t> {
    /// The parameters of a model, by position, to which they are added.
    Model(Vec<&'t mut Handle>),
    /// Nobody yet: they are handed out. The parameters are read.
    Updates(&'t Leaves),
}

impl Target<'_> {
    /// The parameter at a position.
    pub(crate) fn param(&self, index: usize) -> Option<&Tensor> {
        match self {
            Self::Model(handles) => handles[index].value(),
            Self::Updates(params) => params.get(index),
        }
    }

    /// [`Handle::storage`] of the parameter at a position.
    pub(crate) fn storage(&self, index: usize) -> Option<usize> {
        match self {
            Self::Model(handles) => handles[index].storage(),
            Self::Updates(params) => params.storage(index),
        }
    }
}

/// Rules that run in one pass, with their state and where they apply.
pub(crate) struct PendingRules<'a> {
    pub(crate) on: Mask,
    pub(crate) rules: Rules,
    pub(crate) state: Vec<&'a mut Leaves>,
}

/// What a pass is to leave behind.
#[derive(Clone, Copy)]
pub(crate) enum Output<'g> {
    /// New parameters.
    Params,
    /// Updates.
    Updates,
    /// Updates, and sums over them.
    Sums(&'g dyn ErasedTerms, &'g Mask),
}

/// What a pass has left behind.
#[derive(Default)]
pub(crate) struct PassResult {
    /// `None` if they are what came in.
    pub(crate) updates: Option<Leaves>,
    pub(crate) sums: Sums,
}

/// The type to compute in.
pub(crate) fn compute_dtype(u: &Tensor, p: &Tensor) -> DType {
    if [u.dtype(), p.dtype()].contains(&DType::F64) { DType::F64 } else { DType::F32 }
}
