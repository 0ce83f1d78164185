//! A linear map over several axes.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject, record};

use crate::axes::position;
use crate::dtype::common_dtype;
use crate::initializers::{InitFn, lecun_normal, zeros};
use crate::layers::options::{Declared, bias_option, parameter_options};
use crate::ops::add::add;
use crate::ops::einsum::dot_general;
use crate::ops::linear::linear;

/// `y = x · kernel + bias`, over any axes of the input: Flax's `DenseGeneral`.
///
/// The axes that are summed over are removed, and the axes of the features come last. Each index of the batch
/// dimensions has its own kernel and bias. Initial values are drawn for a kernel
/// `[everything else, features]` and a flat bias, and reshaped, as in Flax.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{DenseGeneral, prelude::*};
///
/// let mut dense = DenseGeneral::new((3, 7), (4, 5)).axis([1, -1]).init(42, &Device::Cpu)?;
/// assert_eq!(dense.kernel.get()?.dims(), [3, 7, 4, 5]);
/// assert_eq!(Leaf::get_optional(&dense.bias)?.unwrap().dims(), [4, 5]);
/// let x = Tensor::ones((2, 3, 6, 7), DType::F32, &Device::Cpu)?;
/// assert_eq!(dense.call(&x)?.dims(), [2, 6, 4, 5]);
///
/// let mut dense = DenseGeneral::new((2, 7), 4).batch_dims([0]).init(42, &Device::Cpu)?;
/// assert_eq!(dense.kernel.get()?.dims(), [2, 7, 4]);
/// assert_eq!(Leaf::get_optional(&dense.bias)?.unwrap().dims(), [2, 4]);
/// assert_eq!(dense.call(&x)?.dims(), [2, 3, 6, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct DenseGeneral {
    /// `[*batch_dims, *axis, *features]`, the axes in ascending order; default: `lecun_normal`.
    pub kernel: Leaf<Parameter>,
    /// `[*batch_dims, *features]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    /// `[*batch_dims, *axis]`. `None` in a [lazy](crate#lazy-layers) layer before its first input.
    inputs: Option<Vec<usize>>,
    features: Vec<usize>,
    axis: Vec<isize>,
    batch_dims: Vec<isize>,
    dtype: Option<DType>,
}

impl DenseGeneral {
    /// A map to `features`, a number or several: `4`, `(4, 5)`. `inputs` are the sizes of the batch dimensions
    /// and of the axes to sum over, in ascending order.
    #[must_use]
    pub fn new(inputs: impl Into<Shape>, features: impl Into<Shape>) -> Self {
        Self { inputs: Some(inputs.into().into_dims()), ..Self::lazy(features) }.declared()
    }

    /// A map to `features`, with [lazy](crate#lazy-layers) input sizes.
    #[must_use]
    pub fn lazy(features: impl Into<Shape>) -> Self {
        let dense = Self {
            kernel: Leaf::unshaped(zeros, DType::F32),
            bias: None,
            inputs: None,
            features: features.into().into_dims(),
            axis: vec![-1],
            batch_dims: Vec::new(),
            dtype: None,
        };
        dense.use_bias(true).kernel_init(lecun_normal())
    }

    /// The axes to sum over; default: the last. Negative ones count from the end.
    #[must_use]
    pub fn axis(self, axis: impl Into<Vec<isize>>) -> Self {
        Self { axis: axis.into(), ..self }
    }

    /// The dimensions whose indices have their own weights: the first, or the first few. Default: none.
    #[must_use]
    pub fn batch_dims(self, batch_dims: impl Into<Vec<isize>>) -> Self {
        Self { batch_dims: batch_dims.into(), ..self }.declared()
    }

    /// The initializer of the kernel, called with the shape `[everything else, features]`.
    #[must_use]
    pub fn kernel_init(self, init: impl InitFn) -> Self {
        let features = self.features.len();
        let kernel = self.kernel.with_init(move |key, shape, dtype| {
            let (inputs, outputs) = shape.dims().split_at(shape.rank().saturating_sub(features));
            let flat = (inputs.iter().product::<usize>(), outputs.iter().product::<usize>());
            Ok(init(key, &flat.into(), dtype)?.reshape(shape)?)
        });
        Self { kernel, ..self }
    }

    /// The initializer of the bias, called with a flat shape.
    #[must_use]
    pub fn bias_init(self, init: impl InitFn) -> Self {
        let bias = self.bias.with_init(move |key, shape, dtype| {
            Ok(init(key, &shape.elem_count().into(), dtype)?.reshape(shape)?)
        });
        Self { bias, ..self }
    }

    /// The layer with the sizes that the enclosing layer inferred.
    pub(crate) fn sized(self, inputs: &[usize], features: &[usize]) -> Self {
        Self { inputs: Some(inputs.into()), features: features.into(), ..self }.declared()
    }

    fn declared(self) -> Self {
        let Some(inputs) = &self.inputs else { return self };
        let batch = &inputs[..self.batch_dims.len().min(inputs.len())];
        let kernel = [inputs.as_slice(), &self.features].concat();
        let bias = [batch, &self.features].concat();
        let bias = self.bias.map(|leaf| leaf.with_shape(bias));
        Self { kernel: self.kernel.with_shape(kernel), bias, ..self }
    }

    /// The batch dimensions and the axes to sum over, in ascending order, of an input of rank `rank`.
    fn axes(&self, rank: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        let ascending = |axes: &[isize]| -> Option<Vec<usize>> {
            let mut axes = axes.iter().map(|&axis| position(axis, rank)).collect::<Option<Vec<_>>>()?;
            axes.sort_unstable();
            Some(axes).filter(|axes| axes.windows(2).all(|pair| pair[0] < pair[1]))
        };
        let batch = ascending(&self.batch_dims).filter(|batch| batch.iter().copied().eq(0..batch.len()));
        let Some(batch) = batch else {
            return Err(Error::argument("`DenseGeneral` has `batch_dims` that are not the first dimensions")
                .expected("0, 1, .. without a gap")
                .found(format!("{:?}", self.batch_dims)));
        };
        let fits = |axes: &Vec<usize>| axes.iter().all(|axis| (batch.len()..rank).contains(axis));
        match ascending(&self.axis).filter(fits) {
            Some(axes) => Ok((batch, axes)),
            None => Err(Error::argument("`DenseGeneral` has an `axis` that its input does not have")
                .expected(format!("each once, of {rank} axes, and none of {} batch dimensions", batch.len()))
                .found(format!("{:?}", self.axis))),
        }
    }

    /// The call, with the `features` that the enclosing layer inferred.
    pub(crate) fn apply_to(&self, x: &Tensor, features: &[usize]) -> Result<Tensor> {
        let y = self.product(x, features).map_err(|error| error.of(self.identity()))?;
        record(self, x, &y);
        Ok(y)
    }

    fn product(&self, x: &Tensor, features: &[usize]) -> Result<Tensor> {
        let (batch, axes) = self.axes(x.rank())?;
        let dims = |axes: &[usize]| -> Vec<usize> { axes.iter().map(|&axis| x.dims()[axis]).collect() };
        let (batch_sizes, sums) = (dims(&batch), dims(&axes));
        let shape = [batch_sizes.as_slice(), &sums, features].concat();
        let kernel = self.kernel.infer(shape.clone())?;
        if kernel.dims() != shape {
            return Err(Error::shape("`DenseGeneral` got an input that does not fit its kernel")
                .expected(format!("a kernel of shape {shape:?} for an input {:?}", x.dims()))
                .found(format!("{:?}", kernel.dims()))
                .remedy("name the axes to sum over with `.axis(..)`, in any order"));
        }
        let infer = |bias: &Leaf<Parameter>| bias.infer([batch_sizes.as_slice(), features].concat());
        let bias = self.bias.as_ref().map(infer).transpose()?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));

        let bias = bias.map(|bias| bias.to_dtype(dtype)).transpose()?;
        if batch.is_empty() && axes.iter().copied().eq(x.rank() - axes.len()..x.rank()) {
            return linear(&x.to_dtype(dtype)?, &kernel.to_dtype(dtype)?, bias.as_ref(), axes.len());
        }
        let of_kernel: Vec<usize> = (0..batch.len() + axes.len()).collect();
        let (kernel_batch, kernel_axes) = of_kernel.split_at(batch.len());
        let kernel = kernel.to_dtype(dtype)?;
        let y = dot_general(&x.to_dtype(dtype)?, &kernel, [&axes, kernel_axes], [&batch, kernel_batch])?;
        let Some(bias) = bias else { return Ok(y) };
        let others = &y.dims()[batch.len()..y.rank() - features.len()];
        if batch.is_empty() {
            return add(&y, &bias);
        }
        let aligned = [batch_sizes.as_slice(), &vec![1; others.len()], features].concat();
        add(&y, &bias.reshape(aligned)?)
    }
}

bias_option!(DenseGeneral);
parameter_options!(DenseGeneral { kernel, bias });

impl candle_core::Module for DenseGeneral {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        // Features that an enclosing layer inferred are in the kernel's shape.
        let known = self.kernel.shape().map_or(&[][..], Shape::dims);
        let known = known.len().checked_sub(self.features.len()).and_then(|inputs| known.get(inputs..));
        let known = known.filter(|_| self.inputs.is_none());
        Ok(self.apply_to(x, known.unwrap_or(&self.features))?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::prelude::*;

    use super::*;
    use crate::initializers::{constant, ones};

    fn input(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn options_come_in_any_order() -> Result<()> {
        let a = DenseGeneral::new((2, 3), 4).batch_dims([0]).kernel_init(ones).bias_init(constant(7.));
        let b = DenseGeneral::new((2, 3), 4).bias_init(constant(7.)).kernel_init(ones).batch_dims([0]);
        let c = DenseGeneral::lazy(4).kernel_init(ones).bias_init(constant(7.)).batch_dims([0]);
        for dense in [a, b, c.inferred(&input(&[2, 3]))?] {
            let mut dense = dense.init(0, &Device::Cpu)?;
            assert_eq!(dense.call(&input(&[2, 3]))?.to_vec2::<f32>()?, [[10.; 4]; 2]);
        }
        Ok(())
    }

    #[test]
    fn sums_without_leaves() -> Result<()> {
        let mut dense = DenseGeneral::new(3, (2, 2)).init(0, &Device::Cpu)?;
        assert_eq!(dense.call(&input(&[4, 0, 3]))?.dims(), [4, 0, 2, 2]);
        let mut dense = DenseGeneral::new(0, 2).kernel_init(ones).bias_init(ones).init(0, &Device::Cpu)?;
        assert_eq!(dense.call(&input(&[1, 0]))?.to_vec2::<f32>()?, [[1., 1.]]);
        Ok(())
    }

    #[test]
    fn errors() {
        let error = |dense: DenseGeneral, shape: &[usize]| {
            dense
                .init(0, &Device::Cpu)
                .and_then(|mut dense| dense.call(&input(shape)))
                .unwrap_err()
                .to_string()
        };
        let dense = || DenseGeneral::new((3, 4), 5).axis([1, 2]);
        for (error, text) in [
            (
                error(dense(), &[2, 4, 3]),
                "expected a kernel of shape [4, 3, 5] for an input [2, 4, 3], found [3, 4, 5]; name the axes",
            ),
            (
                error(dense(), &[3, 4]),
                "expected each once, of 2 axes, and none of 0 batch dimensions, found [1, 2]",
            ),
            (error(dense().axis([1, -2]), &[2, 3, 4]), "found [1, -2]"),
            (error(dense().axis([-4]), &[2, 3, 4]), "found [-4]"),
            (
                error(dense().axis([0, 1]).batch_dims([0]), &[2, 3, 4]),
                "none of 1 batch dimensions, found [0, 1]",
            ),
            (error(dense().batch_dims([1]), &[2, 3, 4]), "expected 0, 1, .. without a gap, found [1]"),
            (error(dense().batch_dims([0, 2]), &[2, 3, 4]), "found [0, 2]"),
        ] {
            assert!(error.starts_with("`DenseGeneral`") && error.contains(text), "{error}");
        }
    }
}
