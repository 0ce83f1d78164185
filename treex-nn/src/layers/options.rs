//! The options that layers with parameters share.

use candle_core::DType;
use treex_core::{Kind, Leaf};

use crate::initializers::InitFn;

/// An uninitialized parameter, or an optional one.
pub(crate) trait Declared {
    fn with_init(self, init: impl InitFn) -> Self;
    fn with_dtype(self, dtype: DType) -> Self;
}

impl<K: Kind> Declared for Leaf<K> {
    fn with_init(self, init: impl InitFn) -> Self {
        Self::with_init(self, init)
    }

    fn with_dtype(self, dtype: DType) -> Self {
        Self::with_dtype(self, dtype)
    }
}

impl<K: Kind> Declared for Option<Leaf<K>> {
    fn with_init(self, init: impl InitFn) -> Self {
        self.map(|leaf| leaf.with_init(init))
    }

    fn with_dtype(self, dtype: DType) -> Self {
        self.map(|leaf| leaf.with_dtype(dtype))
    }
}

/// `parameter_options!(Linear { kernel: kernel_init, bias: bias_init });` gives the layer a method for the
/// initializer of each parameter, and `param_dtype` and `dtype`. A layer with its own method for a
/// parameter's initializer names the parameter alone.
macro_rules! parameter_options {
    ($layer:ident { $($parameter:ident $(: $init:ident)?),* $(,)? }) => {
        impl $layer {
            $($(
                #[doc = concat!("The initializer of the ", stringify!($parameter), ".")]
                #[must_use]
                pub fn $init(mut self, init: impl $crate::initializers::InitFn) -> Self {
                    self.$parameter = $crate::layers::options::Declared::with_init(self.$parameter, init);
                    self
                }
            )?)*

            /// The element type of the parameters; default: `F32`.
            #[must_use]
            pub fn param_dtype(mut self, dtype: candle_core::DType) -> Self {
                $(self.$parameter = $crate::layers::options::Declared::with_dtype(self.$parameter, dtype);)*
                self
            }

            /// The element type of the output; default: the smallest that holds the input and the parameters,
            /// as in Flax.
            #[must_use]
            pub fn dtype(self, dtype: candle_core::DType) -> Self {
                Self { dtype: Some(dtype), ..self }
            }
        }
    };
}

/// `bias_option!(Conv);` gives a layer with the fields `kernel` and `bias` the option `use_bias`. After it,
/// `declared` declares the shape of the bias, as far as it is known.
macro_rules! bias_option {
    ($layer:ident) => {
        impl $layer {
            /// Whether to add a bias; default: true.
            #[must_use]
            pub fn use_bias(mut self, use_bias: bool) -> Self {
                let dtype = self.kernel.dtype().unwrap_or(candle_core::DType::F32);
                let bias = self.bias.take();
                let bias =
                    bias.unwrap_or_else(|| treex_core::Leaf::unshaped($crate::initializers::zeros, dtype));
                Self { bias: use_bias.then_some(bias), ..self }.declared()
            }
        }
    };
}

pub(crate) use {bias_option, parameter_options};
