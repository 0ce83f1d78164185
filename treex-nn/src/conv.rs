//! Convolution in any number of spatial dimensions.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject, record};

use crate::dtype::common_dtype;
use crate::initializers::lecun_normal;
use crate::ops::convolution::convolution;
use crate::options::{bias_option, parameter_options};
use crate::window::{Window, masked, window_options};

/// `y[p, o] = Σ_{k, i} x[p · stride + k, i] · kernel[k, i, o] + bias[o]`, channels last: Flax's `Conv`, a
/// cross-correlation, over as many spatial dimensions as the kernel has.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Conv, Padding, prelude::*};
///
/// let mut conv = Conv::new(3, 8, [5, 5]).strides(2).init(42, &Device::Cpu)?;
/// assert_eq!(conv.kernel.get()?.dims(), [5, 5, 3, 8]);
/// let images = Tensor::ones((2, 28, 27, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(conv.call(&images)?.dims(), [2, 14, 14, 8]);
///
/// let mut causal = Conv::new(3, 8, [4]).padding(Padding::Causal).init(42, &Device::Cpu)?;
/// let sequence = Tensor::ones((10, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(causal.call(&sequence)?.dims(), [10, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Conv {
    /// `[*kernel_size, cin / feature_group_count, cout]`; `lecun_normal` unless said.
    pub kernel: Leaf<Parameter>,
    /// `[cout]`; zeros unless said.
    pub bias: Option<Leaf<Parameter>>,
    /// Not known before a first input where the layer was made by `features`.
    cin: Option<usize>,
    cout: usize,
    #[tree(skip)]
    window: Window,
    feature_group_count: usize,
    #[tree(skip)]
    mask: Option<Tensor>,
    dtype: Option<DType>,
}

impl Conv {
    /// A convolution from `cin` to `cout` channels; `kernel_size` has a number for each spatial dimension.
    #[must_use]
    pub fn new(cin: usize, cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        Self { cin: Some(cin), ..Self::features(cout, kernel_size) }.declared()
    }

    /// A convolution to `cout` channels from as many as the first input has, see
    /// [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn features(cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        let conv = Self {
            kernel: Leaf::unshaped(lecun_normal(), DType::F32),
            bias: None,
            cin: None,
            cout,
            window: Window::new(kernel_size.into()),
            feature_group_count: 1,
            mask: None,
            dtype: None,
        };
        conv.use_bias(true)
    }

    /// Into how many groups input and output channels fall, each convolved by itself; 1 unless said. As many
    /// as input channels make a depthwise convolution.
    #[must_use]
    pub fn feature_group_count(self, groups: usize) -> Self {
        Self { feature_group_count: groups, ..self }.declared()
    }

    fn declared(self) -> Self {
        let layer = Self { bias: self.bias.map(|bias| bias.with_shape(self.cout)), ..self };
        match layer.cin.map(|cin| layer.kernel_shape(cin)) {
            Some(shape) => Self { kernel: layer.kernel.with_shape(shape), ..layer },
            None => layer,
        }
    }

    fn kernel_shape(&self, cin: usize) -> Vec<usize> {
        // Groups that do not divide the channels are reported by the call, which can.
        let per_group = cin.checked_div(self.feature_group_count).unwrap_or(cin);
        [self.window.size.as_slice(), &[per_group, self.cout]].concat()
    }

    /// What the kernel says.
    fn known_cin(&self) -> Option<usize> {
        let per_group = self.kernel.shape()?.dims().get(self.window.rank())?;
        Some(per_group * self.feature_group_count)
    }

    fn check_groups(&self, cin: usize) -> Result<()> {
        let (cout, groups) = (self.cout, self.feature_group_count);
        if groups > 0 && cin.is_multiple_of(groups) && cout.is_multiple_of(groups) {
            return Ok(());
        }
        Err(Error::argument("`Conv` has a `feature_group_count` that does not divide its channels")
            .expected(format!("a divisor of {cin} input and {cout} output channels"))
            .found(groups))
    }

    fn convolved(&self, x: &Tensor) -> Result<Tensor> {
        let cin = self.cin.or_else(|| self.known_cin()).or(x.dims().last().copied()).unwrap_or(0);
        self.check_groups(cin)?;
        self.window.check_input("Conv", x, cin)?;
        let kernel = masked("Conv", self.kernel.infer(self.kernel_shape(cin))?, self.mask.as_ref())?;
        let bias = self.bias.as_ref().map(Leaf::get).transpose()?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));

        let spatial = x.rank() - 1 - self.window.rank()..x.rank() - 1;
        let (axes, margins) = self.window.over("Conv", &x.dims()[spatial])?;
        let x = self.window.padding.extended(&x.to_dtype(dtype)?, &margins)?;
        let bias = bias.map(|bias| bias.to_dtype(dtype)).transpose()?;
        convolution(&x, &kernel.to_dtype(dtype)?, bias.as_ref(), &axes, self.feature_group_count)
    }
}

window_options!(Conv);
bias_option!(Conv);
parameter_options!(Conv { kernel: kernel_init, bias: bias_init });

impl candle_core::Module for Conv {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.convolved(x).map_err(|error| error.of(self.identity()))?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;
    use crate::padding::Padding;

    fn error(conv: Conv, input: &[usize]) -> Error {
        let x = Tensor::zeros(input, DType::F32, &Device::Cpu).unwrap();
        conv.init(0, &Device::Cpu).unwrap().call(&x).unwrap_err()
    }

    #[test]
    fn misuse() {
        let conv = || Conv::new(4, 6, [3, 3]);
        let cases = [
            (
                error(conv(), &[8, 8, 3]),
                "wrong shape: expected [batch, height, width, 4], found [8, 8, 3]; channels come last",
            ),
            (error(conv(), &[8, 4]), "expected [batch, height, width, 4], found [8, 4]"),
            (
                error(conv().feature_group_count(4), &[8, 8, 4]),
                "expected a divisor of 4 input and 6 output channels, found 4",
            ),
            (error(conv().feature_group_count(0), &[8, 8, 4]), "found 0"),
            (
                error(conv().strides([1]), &[8, 8, 4]),
                "`strides` that do not fit: expected a number above 0 and at most 2147483648 for each of 2 spatial dimensions",
            ),
            (error(conv().kernel_dilation(0), &[8, 8, 4]), "`kernel_dilation`"),
            (error(conv().padding(Padding::Causal), &[8, 8, 4]), "causal"),
            (
                error(conv().padding([-4, -5]), &[8, 8, 4]),
                "`Conv` has a padding that takes off more than there is: expected at most the elements of [8, 8], \
                 found `Padding::Explicit([(-4, -4), (-5, -5)])`",
            ),
            (
                error(conv().input_dilation(2), &[8, 8, 4]),
                "expected a padding in numbers, found `Padding::Same`",
            ),
            (
                error(conv().mask(Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()), &[8, 8, 4]),
                "expected that of the kernel, [3, 3, 4, 6], found [3]",
            ),
        ];
        for (error, text) in cases {
            assert!(matches!(error.kind(), ErrorKind::Shape | ErrorKind::Argument), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn nothing_to_see() -> Result<()> {
        let shapes: [(Conv, &[usize], &[usize]); 4] = [
            (Conv::new(2, 3, [3, 3]), &[0, 5, 4, 2], &[0, 5, 4, 3]),
            (Conv::new(2, 3, [3, 3]), &[2, 0, 4, 2], &[2, 0, 4, 3]),
            (Conv::new(2, 3, [3, 3]).padding(Padding::Valid), &[2, 2, 4, 2], &[2, 0, 2, 3]),
            (Conv::new(2, 4, [1]).feature_group_count(2), &[0, 4, 2], &[0, 4, 4]),
        ];
        for (conv, input, output) in shapes {
            let x = Tensor::zeros(input, DType::F32, &Device::Cpu)?;
            assert_eq!(conv.init(0, &Device::Cpu)?.call(&x)?.dims(), output);
        }
        Ok(())
    }

    #[test]
    fn options_come_in_any_order() -> Result<()> {
        let conv = Conv::new(4, 6, [3])
            .kernel_init(crate::initializers::ones)
            .feature_group_count(2)
            .use_bias(false);
        let conv = conv.init(0, &Device::Cpu)?;
        assert_eq!(conv.kernel.get()?.dims(), [3, 2, 6]);
        assert_eq!(conv.kernel.get()?.sum_all()?.to_scalar::<f32>()?, 36.);
        Ok(())
    }
}
