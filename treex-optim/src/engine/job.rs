//! Inputs and outputs of a pass over memory.

use candle_core::{DType, Tensor};
use treex_core::{Handle, Leaves};

use super::erased::{ErasedTerms, Rules};
use super::sums::Sums;
use super::updates::Mask;

/// The destination of the updates.
pub(crate) enum Target<'t> {
    /// The parameters of a model, by position, to which they are added.
    Model(Vec<&'t mut Handle>),
    /// The updates are returned. The parameters are only read.
    Updates(&'t Leaves),
}

impl Target<'_> {
    /// The same for a shorter time.
    pub(crate) fn again(&mut self) -> Target<'_> {
        match self {
            Self::Model(handles) => Target::Model(handles.iter_mut().map(|handle| &mut **handle).collect()),
            Self::Updates(params) => Target::Updates(params),
        }
    }

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

/// Rules to run in one pass, with their state and positions.
pub(crate) struct PendingRules<'a> {
    pub(crate) on: Mask,
    pub(crate) rules: Rules,
    pub(crate) state: Vec<&'a mut Leaves>,
}

/// The output of a pass.
#[derive(Clone, Copy)]
pub(crate) enum Output<'g> {
    /// New parameters.
    Params,
    /// Updates.
    Updates,
    /// Updates, and sums over them.
    Sums(&'g dyn ErasedTerms, &'g Mask),
}

/// The results of a pass.
#[derive(Default)]
pub(crate) struct PassResult {
    /// `None` if they are the incoming ones.
    pub(crate) updates: Option<Leaves>,
    pub(crate) sums: Sums,
}

/// The compute type of an update and its parameter.
pub(crate) fn compute_dtype(u: &Tensor, p: &Tensor) -> DType {
    if [u.dtype(), p.dtype()].contains(&DType::F64) { DType::F64 } else { DType::F32 }
}
