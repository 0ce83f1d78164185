//! Convolution in any number of spatial dimensions.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject, record};

use crate::dtype::common_dtype;
use crate::initializers::{lecun_normal, zeros};
use crate::ops::patches::{Axis, patches};
use crate::ops::rows::add_to_rows;
use crate::options::parameter_options;
use crate::padding::Padding;
use crate::sizes::Sizes;

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
    kernel_size: Vec<usize>,
    #[tree(skip)]
    strides: Sizes,
    #[tree(skip)]
    padding: Padding,
    #[tree(skip)]
    input_dilation: Sizes,
    #[tree(skip)]
    kernel_dilation: Sizes,
    feature_group_count: usize,
    #[tree(skip)]
    mask: Option<Tensor>,
    dtype: Option<DType>,
}

impl Conv {
    /// A convolution from `cin` to `cout` channels; `kernel_size` has a number for each spatial dimension.
    #[must_use]
    pub fn new(cin: usize, cout: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        Self { cin: Some(cin), ..Self::features(cout, kernel_size) }.feature_group_count(1)
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
            kernel_size: kernel_size.into(),
            strides: Sizes::All(1),
            padding: Padding::Same,
            input_dilation: Sizes::All(1),
            kernel_dilation: Sizes::All(1),
            feature_group_count: 1,
            mask: None,
            dtype: None,
        };
        conv.use_bias(true)
    }

    /// The step from one position of the kernel to the next; 1 unless said.
    #[must_use]
    pub fn strides(self, strides: impl Into<Sizes>) -> Self {
        Self { strides: strides.into(), ..self }
    }

    /// What stands around the input; [`Padding::Same`] unless said.
    #[must_use]
    pub fn padding(self, padding: impl Into<Padding>) -> Self {
        Self { padding: padding.into(), ..self }
    }

    /// The step from one element of the input to the next, with zeros between; 1 unless said. Needs a padding
    /// in numbers, as in Flax.
    #[must_use]
    pub fn input_dilation(self, input_dilation: impl Into<Sizes>) -> Self {
        Self { input_dilation: input_dilation.into(), ..self }
    }

    /// The step from one place of the kernel to the next; 1 unless said.
    #[must_use]
    pub fn kernel_dilation(self, kernel_dilation: impl Into<Sizes>) -> Self {
        Self { kernel_dilation: kernel_dilation.into(), ..self }
    }

    /// Into how many groups input and output channels fall, each convolved by itself; 1 unless said. As many
    /// as input channels make a depthwise convolution.
    #[must_use]
    pub fn feature_group_count(mut self, groups: usize) -> Self {
        self.feature_group_count = groups;
        if let Some(cin) = self.cin {
            let shape = self.kernel_shape(cin);
            self.kernel = self.kernel.with_shape(shape);
        }
        self
    }

    fn kernel_shape(&self, cin: usize) -> Vec<usize> {
        // Groups that do not divide the channels are reported by the call, which can.
        let per_group = cin.checked_div(self.feature_group_count).unwrap_or(cin);
        [self.kernel_size.as_slice(), &[per_group, self.cout]].concat()
    }

    /// Whether to add a bias; true unless said.
    #[must_use]
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        let dtype = self.kernel.dtype().unwrap_or(DType::F32);
        let bias = self.bias.take().unwrap_or_else(|| Leaf::param(zeros, self.cout, dtype));
        Self { bias: use_bias.then_some(bias), ..self }
    }

    /// What to multiply the kernel by: a tensor of its shape.
    #[must_use]
    pub fn mask(self, mask: Tensor) -> Self {
        Self { mask: Some(mask), ..self }
    }

    fn check(&self, x: &Tensor, cin: usize) -> Result<()> {
        let (cout, groups, rank) = (self.cout, self.feature_group_count, self.kernel_size.len());
        if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
            return Err(Error::argument(
                "`Conv` has a `feature_group_count` that does not divide its channels",
            )
            .expected(format!("a divisor of {cin} input and {cout} output channels"))
            .found(groups));
        }
        if x.rank() > rank && x.dims().last() == Some(&cin) {
            return Ok(());
        }
        let spatial = ["width", "height, width", "depth, height, width"];
        let spatial =
            rank.checked_sub(1).and_then(|index| spatial.get(index)).unwrap_or(&"spatial dimensions");
        let found = x.dims();
        Err(Error::shape("`Conv` got an input of the wrong shape")
            .expected(format!("[batch, {spatial}, {cin}]"))
            .found(format!("{found:?}"))
            .remedy(
                "channels come last: `x.permute(..)?` moves them there, `x.unsqueeze(D::Minus1)?` makes one",
            ))
    }

    /// The input, extended where the padding does that by values, and the window over it.
    fn window(&self, x: &Tensor) -> Result<(Tensor, Vec<Axis>)> {
        let rank = self.kernel_size.len();
        let each = |sizes: &Sizes, what| sizes.each("Conv", what, rank);
        let size = each(&Sizes::Each(self.kernel_size.clone()), "kernel_size")?;
        let strides = each(&self.strides, "strides")?;
        let kernel_dilation = each(&self.kernel_dilation, "kernel_dilation")?;
        let input_dilation = each(&self.input_dilation, "input_dilation")?;
        let in_numbers = matches!(self.padding, Padding::Each(_) | Padding::Explicit(_));
        if !in_numbers && input_dilation.iter().any(|&step| step > 1) {
            return Err(Error::argument(
                "`Conv` has an `input_dilation`, for which its padding says nothing",
            )
            .expected("a padding in numbers")
            .found(format!("`Padding::{:?}`", self.padding))
            .remedy("give pairs: `.padding([(before, after), ..])`"));
        }
        let covered: Vec<_> = size.iter().zip(&kernel_dilation).map(|(k, step)| (k - 1) * step + 1).collect();
        let x = self.padding.extended(x, &covered)?;
        let zeros = self.padding.zeros("Conv", &x.dims()[1..=rank], &covered, &strides)?;
        let axis = |d: usize| Axis {
            size: size[d],
            stride: strides[d],
            zeros: zeros[d],
            window_dilation: kernel_dilation[d],
            input_dilation: input_dilation[d],
        };
        Ok((x, (0..rank).map(axis).collect()))
    }

    fn masked(&self, kernel: Tensor) -> Result<Tensor> {
        let Some(mask) = &self.mask else { return Ok(kernel) };
        if mask.dims() != kernel.dims() {
            return Err(Error::shape("`Conv` has a mask of the wrong shape")
                .expected(format!("that of the kernel, {:?}", kernel.dims()))
                .found(format!("{:?}", mask.dims())));
        }
        Ok((mask.to_device(kernel.device())?.to_dtype(kernel.dtype())? * kernel)?)
    }
}

parameter_options!(Conv { kernel: kernel_init, bias: bias_init });

impl candle_core::Module for Conv {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let cin = self.cin.or(x.dims().last().copied()).unwrap_or(0);
        self.check(x, cin).map_err(|error| error.of(self))?;
        let kernel = self.kernel.infer(self.kernel_shape(cin))?;
        let kernel = self.masked(kernel).map_err(|error| error.of(self))?;
        let bias = self.bias.as_ref().map(Leaf::get).transpose()?;
        let (rank, cout, groups) = (self.kernel_size.len(), self.cout, self.feature_group_count);
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));

        let (batch, item) = x.dims().split_at(x.rank() - rank - 1);
        let flat = x.to_dtype(dtype)?.reshape([&[batch.iter().product()], item].concat())?;
        let (flat, window) = self.window(&flat).map_err(|error| error.of(self))?;
        let positions: Vec<_> =
            window.iter().zip(&flat.dims()[1..]).map(|(axis, &n)| axis.positions(n)).collect();
        let rows = flat.dim(0)? * positions.iter().product::<usize>();

        // [rows, places, cin] by [places, cin / groups, cout], each group by itself.
        let places: usize = self.kernel_size.iter().product();
        let kernel = kernel.to_dtype(dtype)?;
        let patches = if is_pointwise(&window) { flat } else { patches(&flat, &window)? };
        let mut y = if groups == 1 {
            patches.reshape((rows, places * cin))?.matmul(&kernel.flatten(0, rank)?)?
        } else {
            let per_group = cin / groups;
            let patches = patches.reshape((rows, places, groups, per_group))?.permute((2, 0, 1, 3))?;
            let kernel = kernel.reshape((places, per_group, groups, cout / groups))?.permute((2, 0, 1, 3))?;
            let patches = patches.reshape((groups, rows, places * per_group))?;
            let kernel = kernel.reshape((groups, places * per_group, cout / groups))?;
            patches.matmul(&kernel)?.transpose(0, 1)?.reshape((rows, cout))?
        };
        if let Some(bias) = bias {
            y = add_to_rows(&y, &bias.to_dtype(dtype)?)?;
        }
        let y = y.reshape([batch, &positions, &[cout]].concat())?;
        record(self, x, &y);
        Ok(y)
    }
}

/// Whether each position sees exactly the element of the same index.
fn is_pointwise(window: &[Axis]) -> bool {
    window
        .iter()
        .all(|axis| axis.size == 1 && axis.stride == 1 && axis.zeros == (0, 0) && axis.input_dilation == 1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;

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
