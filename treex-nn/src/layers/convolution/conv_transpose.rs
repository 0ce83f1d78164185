//! Transposed convolution.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject};

use crate::dtype::common_dtype;
use crate::initializers::lecun_normal;
use crate::layers::convolution::window::{
    Window, convolution_call, declared_by_channels, masked, window_options, with_bias,
};
use crate::layers::options::{bias_option, parameter_options};
use crate::ops::convolution::convolution;
use crate::ops::rows::sum_over;
use crate::spatial::padding::Padding;
use crate::spatial::sizes::Sizes;

/// A convolution of the input with `strides - 1` zeros between its elements, so that the output is larger by
/// that factor, channels last: Flax's `ConvTranspose`.
///
/// The kernel is not flipped, unlike in PyTorch and Keras: `transpose_kernel(true)` flips it and swaps its
/// channels; the layer is then the transpose (the gradient) of a [`Conv`](crate::Conv) with that kernel.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{ConvTranspose, Padding, prelude::*};
///
/// let mut up = ConvTranspose::new(3, 8, [4, 4]).strides(2).init(42, &Device::Cpu)?;
/// assert_eq!(up.kernel.get()?.dims(), [4, 4, 3, 8]);
/// let images = Tensor::ones((2, 7, 5, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(up.call(&images)?.dims(), [2, 14, 10, 8]);
///
/// let up = ConvTranspose::new(3, 8, [4, 4]).padding(Padding::Valid).transpose_kernel(true);
/// let mut up = up.init(42, &Device::Cpu)?;
/// assert_eq!(up.kernel.get()?.dims(), [4, 4, 8, 3]);
/// assert_eq!(up.call(&images)?.dims(), [2, 10, 8, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct ConvTranspose {
    /// `[*kernel_size, cin, cout]`, or `[*kernel_size, cout, cin]` where it is transposed; default:
    /// `lecun_normal`.
    pub kernel: Leaf<Parameter>,
    /// `[cout]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    /// `None` in a [lazy](crate#lazy-layers) layer before its first input.
    cin: Option<usize>,
    cout: usize,
    #[tree(skip)]
    window: Window,
    transpose_kernel: bool,
    #[tree(skip)]
    mask: Option<Tensor>,
    dtype: Option<DType>,
}

impl ConvTranspose {
    /// A transposed convolution from `cin` to `cout` channels; `kernel_size` has a number for each spatial
    /// dimension.
    #[must_use]
    pub fn new(cin: usize, cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        Self { cin: Some(cin), ..Self::lazy(cout, kernel_size) }.declared()
    }

    /// A transposed convolution to `cout` channels, with [lazy](crate#lazy-layers) input channels.
    #[must_use]
    pub fn lazy(cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        let conv = Self {
            kernel: Leaf::unshaped(lecun_normal(), DType::F32),
            bias: None,
            cin: None,
            cout,
            window: Window::new(kernel_size.into()),
            transpose_kernel: false,
            mask: None,
            dtype: None,
        };
        conv.use_bias(true)
    }

    /// Whether to flip the kernel's spatial axes and to swap its channels; default: false.
    #[must_use]
    pub fn transpose_kernel(self, transpose_kernel: bool) -> Self {
        Self { transpose_kernel, ..self }.declared()
    }

    fn kernel_shape(&self, cin: usize) -> Vec<usize> {
        let channels = if self.transpose_kernel { [self.cout, cin] } else { [cin, self.cout] };
        [self.window.size.as_slice(), &channels].concat()
    }

    /// The input channels of the kernel.
    fn known_cin(&self) -> Option<usize> {
        let channels = self.kernel.shape()?.dims().get(self.window.rank()..)?;
        channels.get(usize::from(self.transpose_kernel)).copied()
    }

    /// The window over the dilated input: it moves by 1, since the strides dilate the input.
    fn dilated_window(&self) -> Result<Window> {
        let Window { size, strides, padding, kernel_dilation, .. } = &self.window;
        if matches!(padding, Padding::Reflect | Padding::Causal) {
            return Err(Error::argument("`ConvTranspose` has a padding that it does not support")
                .expected("`Padding::Same`, `Valid`, `Circular`, or numbers")
                .found(format!("`Padding::{padding:?}`")));
        }
        let each = |sizes: &Sizes, what| sizes.each("ConvTranspose", what, size.len());
        let (size, strides) = (each(&Sizes::Each(size.clone()), "kernel_size")?, each(strides, "strides")?);
        let steps = each(kernel_dilation, "kernel_dilation")?;
        let zeros = |((size, step), stride): ((usize, usize), usize)| {
            let covered = (size - 1) * step + 1;
            let (before, after) = match padding {
                Padding::Same => {
                    let total = covered + stride - 2;
                    let before = if covered <= stride { covered - 1 } else { total.div_ceil(2) };
                    (before, total - before)
                }
                _ => (covered - 1, stride.max(covered) - 1),
            };
            (before as isize, after as isize)
        };
        let padding = match padding {
            Padding::Each(_) | Padding::Explicit(_) => padding.clone(),
            _ => Padding::Explicit(
                size.into_iter().zip(steps).zip(strides.iter().copied()).map(zeros).collect(),
            ),
        };
        let (strides, input_dilation) = (Sizes::All(1), Sizes::Each(strides));
        Ok(Window { strides, padding, input_dilation, ..self.window.clone() })
    }

    fn convolved(&self, x: &Tensor) -> Result<Tensor> {
        let rank = self.window.rank();
        let cin = self.cin.or_else(|| self.known_cin()).or(x.dims().last().copied()).unwrap_or(0);
        self.window.check_input("ConvTranspose", x, cin)?;
        let kernel = masked("ConvTranspose", self.kernel.infer(self.kernel_shape(cin))?, self.mask.as_ref())?;
        let bias = Leaf::get_optional(&self.bias)?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));

        let mut kernel = kernel.to_dtype(dtype)?;
        if self.transpose_kernel {
            kernel = kernel.flip(&(0..rank).collect::<Vec<_>>())?.transpose(rank, rank + 1)?.contiguous()?;
        }
        let bias = bias.map(|bias| bias.to_dtype(dtype)).transpose()?;
        let window = self.dilated_window()?;
        let (axes, margins) = window.over("ConvTranspose", &x.dims()[x.rank() - 1 - rank..x.rank() - 1])?;
        if self.window.padding != Padding::Circular {
            let x = window.padding.extended(&x.to_dtype(dtype)?, &margins)?;
            return convolution(&x, &kernel, bias.as_ref(), &axes, 1);
        }
        let (flat, batch) = self.window.flat_batch(x, dtype)?;
        let mut y = convolution(&flat, &kernel, None, &axes, 1)?;
        for (d, axis) in axes.iter().enumerate() {
            y = self.wrapped(&y, 1 + d, flat.dim(1 + d)? * axis.input_dilation)?;
        }
        with_bias(&y, bias.as_ref(), batch)
    }

    /// `y` with axis `axis` wrapped around with period `period`, and coinciding elements added.
    fn wrapped(&self, y: &Tensor, axis: usize, period: usize) -> Result<Tensor> {
        if period == 0 {
            return Ok(y.narrow(axis, 0, 0)?);
        }
        let zeros = (2 * period - (y.dim(axis)? + period) % (2 * period)) % (2 * period);
        let (less, more) = (zeros / 2, zeros.div_ceil(2));
        let (before, after) = if self.transpose_kernel { (less, more) } else { (more, less) };
        let y = y.pad_with_zeros(axis, before, after)?;
        let turns = [&y.dims()[..axis], &[y.dim(axis)? / period, period], &y.dims()[axis + 1..]].concat();
        Ok(sum_over(&y.reshape(turns)?, &[axis])?.squeeze(axis)?)
    }
}

declared_by_channels!(ConvTranspose);
window_options!(ConvTranspose {
    /// The step in the output for each element of the input; default: 1.
    strides: Sizes,
    /// [`Padding::Same`], the default: the output is `strides` times as large as the input.
    /// [`Padding::Valid`]: the full output. [`Padding::Circular`]: the size of `Same`; values beyond an edge
    /// are added at the other end. Numbers: the zeros around the dilated input; not, as in PyTorch, what to
    /// crop from the output.
    padding: Padding,
    /// The step from one tap of the kernel to the next; default: 1.
    kernel_dilation: Sizes,
});
bias_option!(ConvTranspose);
parameter_options!(ConvTranspose { kernel: kernel_init, bias: bias_init });
convolution_call!(ConvTranspose);

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{Key, prelude::*};

    use super::*;
    use crate::Conv;
    use crate::initializers::zeros;

    fn zeros_of(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    /// `<conv(x), y> = <x, transpose(y)>`, with one kernel for both.
    #[test]
    fn transpose_kernel_gives_the_transpose() -> Result<()> {
        for (padding, height) in [(Padding::Same, 8), (Padding::Valid, 9)] {
            let conv = Conv::new(2, 3, [3, 2]).strides([2, 3]).padding(padding.clone()).use_bias(false);
            let mut conv = conv.init(1, &Device::Cpu)?;
            let back =
                ConvTranspose::new(3, 2, [3, 2]).strides([2, 3]).padding(padding).transpose_kernel(true);
            let mut back = back.use_bias(false).init(0, &Device::Cpu)?;
            back.kernel.set(conv.kernel.get()?)?;
            let x = Key::from(0).normal((1, height, 9, 2), DType::F32)?;
            let y = Key::from(1).normal(conv.call(&x)?.shape(), DType::F32)?;
            let dot = |a: &Tensor, b: &Tensor| (a * b)?.sum_all()?.to_scalar::<f32>();
            let (forward, backward) = (dot(&conv.call(&x)?, &y)?, dot(&x, &back.call(&y)?)?);
            assert!((forward - backward).abs() < 1e-4, "{forward} {backward}");
        }
        Ok(())
    }

    #[test]
    fn empty_inputs() -> Result<()> {
        let conv = || ConvTranspose::new(2, 3, [3]).strides(2);
        for (conv, input, output) in [
            (ConvTranspose::new(2, 0, [3]).kernel_init(zeros), [1, 4, 2], [1, 4, 0]),
            (conv(), [0, 4, 2], [0, 8, 3]),
            (conv().padding(Padding::Circular), [0, 4, 2], [0, 8, 3]),
            (conv().padding(Padding::Circular), [2, 0, 2], [2, 0, 3]),
        ] {
            assert_eq!(conv.init(0, &Device::Cpu)?.call(&zeros_of(&input))?.dims(), output);
        }
        Ok(())
    }

    #[test]
    fn infers_its_channels() -> Result<()> {
        let conv = ConvTranspose::lazy(3, [2, 2]).transpose_kernel(true);
        let mut conv = conv.init_with(0, &zeros_of(&[1, 4, 4, 5]))?;
        assert_eq!(conv.kernel.get()?.dims(), [2, 2, 3, 5]);
        let error = conv.call(&zeros_of(&[1, 4, 4, 6])).unwrap_err().to_string();
        assert!(error.contains("expected [batch, height, width, 5], found [1, 4, 4, 6]"), "{error}");
        Ok(())
    }

    #[test]
    fn errors() {
        let error = |conv: ConvTranspose, input: &[usize]| {
            conv.init(0, &Device::Cpu)
                .and_then(|mut conv| conv.call(&zeros_of(input)))
                .unwrap_err()
                .to_string()
        };
        let conv = || ConvTranspose::new(2, 3, [3, 3]);
        for (error, text) in [
            (error(conv(), &[5, 2]), "`ConvTranspose` got an input of the wrong shape"),
            (error(conv(), &[6, 6, 3]), "expected [batch, height, width, 2], found [6, 6, 3]"),
            (error(conv().strides([1]), &[6, 6, 2]), "`ConvTranspose` has `strides` that do not fit"),
            (
                error(conv().strides(0).padding(1), &[6, 6, 2]),
                "`ConvTranspose` has `strides` that do not fit",
            ),
            (
                error(conv().strides(2).padding([(0, 0), (-6, -6)]), &[6, 6, 2]),
                "`ConvTranspose` has a padding that crops more than its input has: expected at most the elements of [6, 6]",
            ),
            (
                error(conv().padding(Padding::Causal), &[6, 6, 2]),
                "`Circular`, or numbers, found `Padding::Causal`",
            ),
            (error(conv().padding(Padding::Reflect), &[6, 6, 2]), "found `Padding::Reflect`"),
            (error(conv().padding([1]), &[6, 6, 2]), "`ConvTranspose` has the wrong number of paddings"),
            (
                error(conv().mask(zeros_of(&[3, 3])), &[6, 6, 2]),
                "expected that of the kernel, [3, 3, 2, 3], found [3, 3]",
            ),
        ] {
            assert!(error.contains(text), "{error}");
        }
    }
}
