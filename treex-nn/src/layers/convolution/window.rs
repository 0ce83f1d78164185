//! The window of a convolution, and what `Conv`, `ConvLocal` and `ConvTranspose` share.

use candle_core::{DType, Tensor};
use treex_core::transfers::transfer;
use treex_core::{Error, Result};

use crate::ops::add::add;
use crate::ops::im2col::Axis;
use crate::spatial::padding::{Margins, Padding, ResolvedPadding};
use crate::spatial::sizes::Sizes;

/// The kernel's size, and the options of its movement over the input.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) size: Vec<usize>,
    pub(crate) strides: Sizes,
    pub(crate) padding: Padding,
    pub(crate) input_dilation: Sizes,
    pub(crate) kernel_dilation: Sizes,
}

impl Window {
    pub(crate) fn new(size: Vec<usize>) -> Self {
        let one = Sizes::All(1);
        Self {
            size,
            strides: one.clone(),
            padding: Padding::Same,
            input_dilation: one.clone(),
            kernel_dilation: one,
        }
    }

    /// The number of spatial dimensions.
    pub(crate) fn rank(&self) -> usize {
        self.size.len()
    }

    /// The number of taps of the kernel.
    pub(crate) fn taps(&self) -> usize {
        self.size.iter().product()
    }

    /// How the kernel moves over an input of spatial sizes `n`, and the margins by which the input is
    /// extended before.
    pub(crate) fn over(&self, layer: &str, n: &[usize]) -> Result<(Vec<Axis>, Margins)> {
        let rank = self.rank();
        if n.len() != rank {
            return Err(Error::shape(format!(
                "`{layer}` got an input with the wrong number of spatial dimensions"
            ))
            .expected(rank)
            .found(format!("{n:?}")));
        }
        let each = |sizes: &Sizes, what| sizes.each(layer, what, rank);
        let size = each(&Sizes::Each(self.size.clone()), "kernel_size")?;
        let strides = each(&self.strides, "strides")?;
        let kernel_dilation = each(&self.kernel_dilation, "kernel_dilation")?;
        let input_dilation = each(&self.input_dilation, "input_dilation")?;
        let in_numbers = matches!(self.padding, Padding::Each(_) | Padding::Explicit(_));
        if !in_numbers && input_dilation.iter().any(|&step| step > 1) {
            return Err(Error::argument(format!(
                "`{layer}` has an `input_dilation`, which requires explicit padding"
            ))
            .expected("explicit padding")
            .found(format!("`Padding::{:?}`", self.padding))
            .remedy("give pairs: `.padding([(before, after), ..])`"));
        }
        let covered: Vec<_> = size.iter().zip(&kernel_dilation).map(|(k, step)| (k - 1) * step + 1).collect();
        let ResolvedPadding { margins, zeros } =
            self.padding.resolve(layer, n, &input_dilation, &covered, &strides)?;
        let axis = |d: usize| Axis {
            size: size[d],
            stride: strides[d],
            padding: zeros[d],
            window_dilation: kernel_dilation[d],
            input_dilation: input_dilation[d],
        };
        Ok(((0..rank).map(axis).collect(), margins))
    }

    /// Checks that `x` is `[batch.., *spatial, cin]`.
    pub(crate) fn check_input(&self, layer: &str, x: &Tensor, cin: usize) -> Result<()> {
        if x.rank() > self.rank() && x.dims().last() == Some(&cin) {
            return Ok(());
        }
        let spatial = ["width", "height, width", "depth, height, width"];
        let named = self.rank().checked_sub(1).and_then(|index| spatial.get(index));
        let spatial = named.unwrap_or(&"spatial dimensions");
        let found = x.dims();
        Err(Error::shape(format!("`{layer}` got an input of the wrong shape"))
            .expected(format!("[batch, {spatial}, {cin}]"))
            .found(format!("{found:?}"))
            .remedy(
                "channels come last: `x.permute(..)?` moves them there, `x.unsqueeze(D::Minus1)?` makes one",
            ))
    }

    /// `x`, `[batch.., *spatial, channels]`, with its batch dimensions merged; and these dimensions.
    pub(crate) fn flat_batch<'x>(
        &self,
        x: &'x Tensor,
        dtype: DType,
    ) -> candle_core::Result<(Tensor, &'x [usize])> {
        let (batch, item) = x.dims().split_at(x.rank() - self.rank() - 1);
        let flat = x.to_dtype(dtype)?.reshape([&[batch.iter().product()], item].concat())?;
        Ok((flat, batch))
    }
}

/// `kernel`, multiplied by the mask of its shape, if any.
pub(crate) fn masked(layer: &str, kernel: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let Some(mask) = mask else { return Ok(kernel) };
    if mask.dims() != kernel.dims() {
        return Err(Error::shape(format!("`{layer}` has a mask of the wrong shape"))
            .expected(format!("that of the kernel, {:?}", kernel.dims()))
            .found(format!("{:?}", mask.dims())));
    }
    let mask = transfer(mask, kernel.device(), "make the mask on the device of the kernel")?;
    Ok((mask.to_dtype(kernel.dtype())? * kernel)?)
}

/// `y`, `[flat batch, *positions, cout]`, with `bias` added and the batch dimensions that the input had. A
/// bias is `[cout]` or `[*positions, cout]`.
pub(crate) fn with_bias(y: &Tensor, bias: Option<&Tensor>, batch: &[usize]) -> Result<Tensor> {
    let y = y.reshape([batch, &y.dims()[1..]].concat())?;
    match bias {
        Some(bias) => add(&y, &bias.to_dtype(y.dtype())?),
        None => Ok(y),
    }
}

/// `window_options!(Conv);` gives the layer the options of its [`Window`], or the listed ones with their own
/// docs. After each, `declared` declares the parameters again, since their shapes may depend on it.
macro_rules! window_options {
    ($layer:ident) => {
        $crate::layers::convolution::window::window_options!($layer {
            /// The step from one position of the kernel to the next; default: 1.
            strides: $crate::spatial::sizes::Sizes,
            /// The padding of the input; default: [`Padding::Same`](crate::Padding::Same).
            padding: $crate::spatial::padding::Padding,
            /// The step from one element of the input to the next, with zeros between; default: 1. Requires
            /// explicit padding, as in Flax.
            input_dilation: $crate::spatial::sizes::Sizes,
            /// The step from one tap of the kernel to the next; default: 1.
            kernel_dilation: $crate::spatial::sizes::Sizes,
        });
    };
    ($layer:ident { $($(#[$doc:meta])* $option:ident: $type:path),* $(,)? }) => {
        impl $layer {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $option(mut self, $option: impl Into<$type>) -> Self {
                    self.window.$option = $option.into();
                    self.declared()
                }
            )*

            /// A mask that multiplies the kernel: a tensor of its shape.
            #[must_use]
            pub fn mask(self, mask: candle_core::Tensor) -> Self {
                Self { mask: Some(mask), ..self }
            }
        }
    };
}

/// `declared_by_channels!(Conv);` gives a layer with the fields `cin` and `cout` the method `declared`, which
/// declares the shapes of its parameters as far as they are known.
macro_rules! declared_by_channels {
    ($layer:ident) => {
        impl $layer {
            fn declared(self) -> Self {
                let layer = Self { bias: self.bias.map(|bias| bias.with_shape(self.cout)), ..self };
                match layer.cin.map(|cin| layer.kernel_shape(cin)) {
                    Some(shape) => Self { kernel: layer.kernel.with_shape(shape), ..layer },
                    None => layer,
                }
            }
        }
    };
}

/// `convolution_call!(Conv);` gives a layer the call, by its method `convolved`.
macro_rules! convolution_call {
    ($layer:ident) => {
        impl candle_core::Module for $layer {
            fn forward(&self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
                let y = self.convolved(x).map_err(|error| error.of(self.identity()))?;
                treex_core::record(self, x, &y);
                Ok(y)
            }
        }
    };
}

pub(crate) use {convolution_call, declared_by_channels, window_options};
