//! Parameters of distributions, and the types in which distributions with parameters are drawn.

use candle_core::{DType, Device, Shape, Tensor};

use super::continuous::wrong_type;
use super::real::Real;
use super::{DRAWN, Key, count};
use crate::error::{Error, Result};
use crate::size::check_size;
use crate::transfers::transfer;

/// A parameter of a distribution: a number, or a tensor that broadcasts to the shape of the samples. JAX's `RealArray`.
#[derive(Clone, Copy, Debug)]
pub enum RealArray<'a> {
    /// One number for all samples.
    Number(f64),
    /// A number for each sample. Its gradient is not tracked.
    Tensor(&'a Tensor),
}

impl From<f64> for RealArray<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a Tensor> for RealArray<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl RealArray<'_> {
    /// The values for samples of this shape, row-major.
    pub(super) fn values<T: Real>(self, sampler: &str, shape: &Shape) -> Result<Vec<T>> {
        match self {
            Self::Number(number) => super::filled(count(shape)?, |_| T::of(number)),
            Self::Tensor(tensor) => {
                check_size(shape, T::DTYPE)?;
                let values = transfer(&tensor.detach(), &Device::Cpu, DRAWN)?;
                let values = values.broadcast_as(shape).map_err(|_| {
                    Error::shape(format!("a parameter of `{sampler}` does not broadcast to the samples"))
                        .expected(format!("a shape that broadcasts to {:?}", shape.dims()))
                        .found(format!("{:?}", tensor.dims()))
                        .remedy("give the samples a shape that ends in that of the parameter")
                })?;
                Ok(values.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?)
            }
        }
    }

    /// The type of uniform numbers that are compared with this parameter: a tensor's own, and for a number 64 bits where
    /// the samples have them, as in JAX's 64-bit mode.
    pub(super) fn precision(self, samples: DType) -> DType {
        match self {
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Number(_) if matches!(samples, DType::I64 | DType::F64) => DType::F64,
            Self::Number(_) => DType::F32,
        }
    }

    /// [`values`](Self::values) of at least `low`, or above it. NaN passes, since it makes the sample NaN.
    pub(super) fn positive<T: Real>(self, sampler: &str, shape: &Shape, zero: Zero) -> Result<Vec<T>> {
        let values = self.values::<T>(sampler, shape)?;
        let is_bad = |x: &&T| **x < T::zero() || zero == Zero::Excluded && **x == T::zero();
        match values.iter().find(is_bad) {
            None => Ok(values),
            Some(bad) => Err(out_of_range(sampler, zero.text(), bad.to_f64())),
        }
    }
}

/// Whether a parameter may be 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Included,
    Excluded,
}

impl Zero {
    fn text(self) -> &'static str {
        match self {
            Self::Included => "a number from 0 on",
            Self::Excluded => "a number above 0",
        }
    }
}

/// The error of a parameter of which JAX makes meaningless samples.
pub(super) fn out_of_range(sampler: &str, expected: &str, found: f64) -> Error {
    Error::argument(format!("a parameter of `{sampler}` is out of range"))
        .expected(expected)
        .found(found)
        .remedy("clip or transform the parameter before drawing")
}

/// The types of distributions with parameters: those in which XLA computes without rounding in between.
pub(super) trait Wide: Real + treex_kernels::float::Float<Wide = Self> {
    fn exp(self) -> Self;
    fn pow(self, exponent: Self) -> Self;
    fn sqrt(self) -> Self;
    fn floor(self) -> Self;
    fn abs(self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! wide {
    ($($type:ty),*) => {$(
        impl Wide for $type {
            #[inline(always)]
            fn exp(self) -> Self {
                <$type>::exp(self)
            }

            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                self.powf(exponent)
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                <$type>::sqrt(self)
            }

            #[inline(always)]
            fn floor(self) -> Self {
                <$type>::floor(self)
            }

            #[inline(always)]
            fn abs(self) -> Self {
                <$type>::abs(self)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
        }
    )*};
}

wide!(f32, f64);

/// Calls a generic method of [`Key`] in the type of the samples.
macro_rules! match_wide {
    ($name:expr, $dtype:expr, |$type:ident| $call:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $type = f32;
                $call
            }
            candle_core::DType::F64 => {
                type $type = f64;
                $call
            }
            other => Err($crate::random::real_array::wrong_wide_type($name, other)),
        }
    };
}
pub(super) use match_wide;

/// The error of a distribution with parameters in a type of 16 bits, or of integers.
pub(super) fn wrong_wide_type(sampler: &str, found: DType) -> Error {
    wrong_type(sampler, "`f32` or `f64`", found).remedy("draw `f32` samples and cast them")
}

/// A tensor of samples.
pub(super) fn samples<T: Real>(values: Vec<T>, shape: &Shape) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

impl Key {
    /// Uniform numbers on [0, 1) and standard normal ones, as values.
    pub(super) fn uniform_values<T: Real>(self, n: usize) -> Result<Vec<T>> {
        Ok(self.uniform(n, T::DTYPE)?.to_vec1()?)
    }

    pub(super) fn normal_values<T: Real>(self, n: usize) -> Result<Vec<T>> {
        Ok(self.normal(n, T::DTYPE)?.to_vec1()?)
    }

    pub(super) fn exponential_values<T: Real>(self, n: usize) -> Result<Vec<T>> {
        Ok(self.exponential(n, T::DTYPE)?.to_vec1()?)
    }
}
