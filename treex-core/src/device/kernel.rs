//! What a launch of one kernel is given.

use candle_core::{DType, Shape, Tensor};
use treex_kernels::expression::Expression;

use crate::capture::phase::{Phase, phase};

/// A kernel in the dialect.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// Its text, behind the dialect's header. It may have other kernels too.
    pub(super) texts: &'static [&'static str],
}

/// An elementwise function, of one value or several, that the text of a kernel leaves open.
pub(super) struct Function<'f> {
    pub(super) name: &'static str,
    /// What distinguishes functions of one name.
    pub(super) option: u64,
    pub(super) traced: &'f dyn Fn() -> Vec<Expression>,
}

/// A parameter that is no tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A `uint` or a `ulong`.
    Index(usize),
    /// A `real`.
    Real(f64),
}

/// How a launch takes memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    /// What it reads is contiguous, and it writes all elements.
    Whole,
    /// What it writes is 0 before.
    OnZeros,
    /// What it reads has any strides, which it knows.
    Strided,
}

/// A kernel, and what it is launched with.
#[derive(Debug)]
pub(super) struct Launch<'l, const N: usize> {
    pub(super) kernel: &'static Kernel,
    /// The type `ELEMENT` of the text.
    pub(super) element: DType,
    /// Names that the text leaves open.
    pub(super) defines: &'l [(&'static str, usize)],
    pub(super) groups: usize,
    /// Tensors on one device, of any strides, and the types that they have; at least one.
    pub(super) reads: &'l [(&'l Tensor, DType)],
    /// Shapes and types of the tensors that the kernel makes.
    pub(super) writes: [(&'l Shape, DType); N],
    pub(super) values: &'l [Value],
}

/// The type that elements of `dtype` are computed in.
pub(super) fn real(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Whether a kernel finds the words of keys in memory, for its [defines](Launch::defines).
pub(super) fn is_captured() -> (&'static str, usize) {
    ("IS_CAPTURED", usize::from(phase() != Phase::Outside))
}
