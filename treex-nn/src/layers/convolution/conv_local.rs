//! Convolution with a kernel for each position.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject};

use crate::dtype::common_dtype;
use crate::initializers::lecun_normal;
use crate::layers::convolution::window::{Window, convolution_call, masked, window_options, with_bias};
use crate::layers::options::{bias_option, parameter_options};
use crate::ops::convolution::local_convolution;

/// `y[p, o] = Σ_{i, k} x[p · stride + k, i] · kernel[p, (i, k), o] + bias[p, o]`, channels last: Flax's
/// `ConvLocal`, a convolution that does not share its weights between positions. It has no groups.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{ConvLocal, prelude::*};
///
/// let mut conv = ConvLocal::new([9, 8, 2], 5, [3, 3]).strides(2).init(42, &Device::Cpu)?;
/// assert_eq!(conv.kernel.get()?.dims(), [5, 4, 3 * 3 * 2, 5]);
/// assert_eq!(Leaf::get_optional(&conv.bias)?.unwrap().dims(), [5, 4, 5]);
///
/// let images = Tensor::ones((3, 9, 8, 2), DType::F32, &Device::Cpu)?;
/// assert_eq!(conv.call(&images)?.dims(), [3, 5, 4, 5]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct ConvLocal {
    /// `[*positions, cin · taps, cout]`, channel by channel, the taps of the kernel row-major; default:
    /// `lecun_normal`.
    pub kernel: Leaf<Parameter>,
    /// `[*positions, cout]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    /// `[*spatial, cin]`; `None` in a [lazy](crate#lazy-layers) layer before its first input.
    input: Option<Vec<usize>>,
    cout: usize,
    #[tree(skip)]
    window: Window,
    #[tree(skip)]
    mask: Option<Tensor>,
    dtype: Option<DType>,
}

impl ConvLocal {
    /// A convolution to `cout` channels; `input` is the shape of one item, `[*spatial, cin]`, and `kernel_size`
    /// has a number for each spatial dimension.
    #[must_use]
    pub fn new(input: impl Into<Vec<usize>>, cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        Self { input: Some(input.into()), ..Self::lazy(cout, kernel_size) }.declared()
    }

    /// A convolution to `cout` channels, with [lazy](crate#lazy-layers) spatial sizes and input channels.
    #[must_use]
    pub fn lazy(cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        let conv = Self {
            kernel: Leaf::unshaped(lecun_normal(), DType::F32),
            bias: None,
            input: None,
            cout,
            window: Window::new(kernel_size.into()),
            mask: None,
            dtype: None,
        };
        conv.use_bias(true)
    }

    fn declared(self) -> Self {
        let Some(input) = &self.input else { return self };
        // The call reports options that do not fit, since a builder cannot fail.
        let (kernel, bias) = self.shapes(input).unwrap_or_else(|_| (vec![0, 0], vec![0]));
        let bias = self.bias.map(|leaf| leaf.with_shape(bias));
        Self { kernel: self.kernel.with_shape(kernel), bias, ..self }
    }

    /// The shapes of kernel and bias for an item of shape `item`.
    fn shapes(&self, item: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
        let (cin, spatial) = item.split_last().map_or((0, item), |(cin, spatial)| (*cin, spatial));
        let (axes, margins) = self.window.over("ConvLocal", spatial)?;
        let n = spatial
            .iter()
            .zip(margins)
            .map(|(&n, (before, after))| (before + n as isize + after).unsigned_abs());
        let positions: Vec<_> = axes.iter().zip(n).map(|(axis, n)| axis.positions(n)).collect();
        let kernel = [positions.as_slice(), &[cin.saturating_mul(self.window.taps()), self.cout]].concat();
        Ok((kernel, [positions.as_slice(), &[self.cout]].concat()))
    }

    fn convolved(&self, x: &Tensor) -> Result<Tensor> {
        let rank = self.window.rank();
        self.window.check_input("ConvLocal", x, x.dims().last().copied().unwrap_or(0))?;
        let (shape, bias_shape) = self.shapes(&x.dims()[x.rank() - rank - 1..])?;
        let kernel = self.kernel.infer(shape.clone())?;
        if kernel.dims() != shape {
            return Err(Error::shape("`ConvLocal` got an input of the wrong size")
                .expected(format!("one for a kernel of shape {:?}", kernel.dims()))
                .found(format!("{:?}, which needs {shape:?}", x.dims()))
                .remedy("resize the input: each position has its own weights"));
        }
        let kernel = masked("ConvLocal", kernel, self.mask.as_ref())?;
        let bias = self.bias.as_ref().map(|bias| bias.infer(bias_shape)).transpose()?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));

        let (flat, batch) = self.window.flat_batch(x, dtype)?;
        let (axes, margins) = self.window.over("ConvLocal", &flat.dims()[1..=rank])?;
        let flat = self.window.padding.extended(&flat, &margins)?;
        let y = local_convolution(&flat, &kernel.to_dtype(dtype)?, &axes)?;
        with_bias(&y, bias.as_ref(), batch)
    }
}

window_options!(ConvLocal);
bias_option!(ConvLocal);
parameter_options!(ConvLocal { kernel: kernel_init, bias: bias_init });
convolution_call!(ConvLocal);

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::prelude::*;

    use super::*;
    use crate::Padding;

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn options_come_in_any_order_and_before_or_after_a_sample() -> Result<()> {
        let a = ConvLocal::new([6, 5, 2], 3, [2, 2]).strides(2).padding(Padding::Valid);
        let b = ConvLocal::lazy(3, [2, 2]).padding(Padding::Valid).strides(2).inferred(&zeros(&[6, 5, 2]))?;
        for conv in [a, b] {
            let conv = conv.init(7, &Device::Cpu)?;
            assert_eq!(conv.kernel.get()?.dims(), [3, 2, 8, 3]);
            assert_eq!(Leaf::get_optional(&conv.bias)?.unwrap().dims(), [3, 2, 3]);
        }
        Ok(())
    }

    #[test]
    fn empty_inputs() -> Result<()> {
        let mut conv =
            ConvLocal::new([4, 2], 0, [2]).kernel_init(crate::initializers::zeros).init(0, &Device::Cpu)?;
        assert_eq!(conv.call(&zeros(&[1, 4, 2]))?.dims(), [1, 4, 0]);
        let mut conv = ConvLocal::new([0, 2], 3, [2])
            .padding(Padding::Circular)
            .kernel_init(crate::initializers::zeros)
            .init(0, &Device::Cpu)?;
        assert_eq!(conv.call(&zeros(&[1, 0, 2]))?.dims(), [1, 0, 3]);
        let mut conv = ConvLocal::new([4, 2], 3, [2]).init(0, &Device::Cpu)?;
        assert_eq!(conv.call(&zeros(&[0, 4, 2]))?.dims(), [0, 4, 3]);
        Ok(())
    }

    #[test]
    fn errors() {
        let error = |conv: ConvLocal, input: &[usize]| {
            conv.kernel_init(crate::initializers::zeros)
                .init(0, &Device::Cpu)
                .and_then(|mut conv| conv.call(&zeros(input)))
                .unwrap_err()
                .to_string()
        };
        let conv = || ConvLocal::new([6, 5, 2], 3, [3, 3]);
        for (error, text) in [
            (
                error(conv(), &[5, 2]),
                "`ConvLocal` got an input of the wrong shape: expected [batch, height, width, 2]",
            ),
            (
                error(conv(), &[6, 6, 2]),
                "expected one for a kernel of shape [6, 5, 18, 3], found [6, 6, 2], which needs [6, 6, 18, 3]",
            ),
            (error(conv(), &[6, 5, 3]), "which needs [6, 5, 27, 3]"),
            (error(ConvLocal::new([6, 2], 3, [3, 3]), &[6, 5, 2]), "which needs [6, 5, 18, 3]"),
            (error(ConvLocal::new([], 3, [3]), &[6, 2]), "which needs [6, 6, 3]"),
            (error(conv().strides(0), &[6, 5, 2]), "`ConvLocal` has `strides` that do not fit"),
            (error(conv().padding([1]), &[6, 5, 2]), "`ConvLocal` has the wrong number of paddings"),
            (
                error(conv().mask(zeros(&[3, 3])), &[6, 5, 2]),
                "expected that of the kernel, [6, 5, 18, 3], found [3, 3]",
            ),
        ] {
            assert!(error.contains(text), "{error}");
        }
    }
}
