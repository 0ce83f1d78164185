//! What a sweep does with the tensors of one position.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use treex_kernels::expression::{Expression, Source};

use crate::capture::plan::{self, Constants};
use crate::device::supports;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::handle::Handle;

/// Expressions of one element of each tensor of a [`Part`].
#[derive(Debug)]
pub struct Program {
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels have it"))]
    pub(super) is_wide: bool,
    pub(super) source: Source,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels have them"))]
    pub(super) constants: Constants,
    pub(super) is_fixed: bool,
}

impl Program {
    /// Prints `values`, computed in `F64` if `is_wide`, otherwise in `F32`.
    #[must_use]
    pub fn new(is_wide: bool, values: &[Expression]) -> Arc<Self> {
        let source = Source::of(values);
        Arc::new(Self { is_wide, constants: plan::constants(&source, is_wide), source, is_fixed: false })
    }

    /// [`new`](Self::new) with constants that are the same in each step, so that no optimizer tells them ahead.
    #[must_use]
    pub fn fixed(is_wide: bool, values: &[Expression]) -> Arc<Self> {
        let source = Source::of(values);
        Arc::new(Self { is_wide, constants: Constants::bits(&source, is_wide), source, is_fixed: true })
    }
}

/// Tensors with the same number of elements, and the function of these.
#[derive(Debug)]
pub struct Part<'p> {
    /// Tensors that are read: the first inputs of the program.
    pub inputs: Vec<Tensor>,
    /// Leaves that are read and then written in place, if they are the only holders of their values: the other inputs of the
    /// program, whose first values they get.
    pub leaves: Vec<&'p mut Handle>,
    /// Gets a new tensor with the program's last value, in the shape of the first input, if it is there.
    pub output: Option<&'p mut Option<Tensor>>,
    /// Parts that share it are one case in the kernel. Programs that differ in their constants alone are one case, too.
    pub program: Arc<Program>,
    /// Tensors of one `F64` number, the scalars of the program.
    pub scalars: Vec<Tensor>,
}

impl Program {
    /// The type that it computes in.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels need it"))]
    pub(super) fn dtype(&self) -> DType {
        if self.is_wide { DType::F64 } else { DType::F32 }
    }
}

impl Part<'_> {
    /// An error if its tensors do not belong together, if they are not on `device`, or if its program is one for others.
    pub(super) fn check(&self, device: Option<&Device>, values: usize) -> Result<()> {
        let (Some(first), Some(device)) = (self.inputs.first(), device) else {
            return Err(Error::argument("a part of a sweep has no inputs").expected("at least one"));
        };
        let len = first.elem_count();
        let leaves: Option<Vec<&Tensor>> = self.leaves.iter().map(|leaf| leaf.value()).collect();
        let Some(leaves) = leaves else {
            return Err(Error::new(ErrorKind::FilteredOut, "a leaf to be written has no value"));
        };
        for tensor in self.inputs.iter().chain(leaves) {
            let is_beside = supports(tensor.device(), tensor.dtype()) && tensor.device().same_device(device);
            if len == 0 || tensor.elem_count() != len || !is_beside {
                let (dtype, place) = (tensor.dtype().as_str(), tensor.device().location());
                return Err(Error::new(ErrorKind::DType, "a tensor has no place in a launch with others")
                    .expected(format!("{} floats on {:?}", len.max(1), device.location()))
                    .found(format!("{:?} of `{dtype}` on {place:?}", tensor.dims())));
            }
        }
        let is_scalar = |scalar: &Tensor| {
            scalar.elem_count() == 1 && scalar.dtype() == DType::F64 && scalar.device().same_device(device)
        };
        if let Some(scalar) = self.scalars.iter().find(|scalar| !is_scalar(scalar)) {
            return Err(Error::new(ErrorKind::DType, "a scalar of a program is none")
                .expected("one `f64` number on the device of the others")
                .found(format!("{:?} of `{}`", scalar.dims(), scalar.dtype().as_str())));
        }
        if self.program.source.values.len() != values {
            return Err(Error::argument("a program has another number of values than its part")
                .expected(values)
                .found(self.program.source.values.len()));
        }
        Ok(())
    }
}
