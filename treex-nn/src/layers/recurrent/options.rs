//! Constructors and options that recurrent cells share.

/// The constructors of a cell of [`Linear`](crate::Linear) layers, by its `with_inputs`, and its options: the
/// layers that read the input, the layers that read the carry, the initializers of biases with their layers,
/// and the functions.
macro_rules! cell_options {
    ($cell:ident {
        inputs: [$($input:ident),*],
        hidden: [$($hidden:ident),*],
        biases: { $($bias_init:ident: [$($biased:ident),*] = $bias_default:literal),* },
        functions: { $($function:ident = $default:literal),* },
    }) => {
        impl $cell {
            /// A cell from `din` to `features` features.
            #[must_use]
            pub fn new(din: usize, features: usize) -> Self {
                Self::with_inputs(features, || $crate::layers::linear::Linear::new(din, features))
            }

            /// A cell to `features` features, with [lazy](crate#lazy-layers) input features.
            #[must_use]
            pub fn lazy(features: usize) -> Self {
                Self::with_inputs(features, || $crate::layers::linear::Linear::lazy(features))
            }

            $(
                #[doc = concat!("`", stringify!($function), "` of the formula; default: `", $default, "`.")]
                #[must_use]
                pub fn $function(
                    self,
                    f: impl Fn(&candle_core::Tensor) -> treex_core::Result<candle_core::Tensor> + Send + Sync + 'static,
                ) -> Self {
                    Self { $function: $crate::layers::lambda::Lambda::of(f), ..self }
                }
            )*

            /// The initializer of the kernels that read the input; default: `lecun_normal`.
            #[must_use]
            pub fn kernel_init(mut self, init: impl $crate::initializers::InitFn) -> Self {
                $(self.$input = self.$input.kernel_init(init.clone());)*
                self
            }

            /// The initializer of the kernels that read the carry; default: `orthogonal`.
            #[must_use]
            pub fn recurrent_kernel_init(mut self, init: impl $crate::initializers::InitFn) -> Self {
                $(self.$hidden = self.$hidden.kernel_init(init.clone());)*
                self
            }

            $(
                #[doc = concat!("The initializer of the biases", $(" `", stringify!($biased), "`",)* "; default: ", $bias_default, ".")]
                #[must_use]
                pub fn $bias_init(mut self, init: impl $crate::initializers::InitFn) -> Self {
                    $(self.$biased = self.$biased.bias_init(init.clone());)*
                    self
                }
            )*

            /// The initializer of the carry; default: zeros.
            #[must_use]
            pub fn carry_init(self, init: impl $crate::initializers::InitFn) -> Self {
                Self { carry_init: treex_core::Initializer::param(init), ..self }
            }

            /// The element type of the parameters and of the first carry; default: `F32`.
            #[must_use]
            pub fn param_dtype(mut self, dtype: candle_core::DType) -> Self {
                $(self.$input = self.$input.param_dtype(dtype);)*
                $(self.$hidden = self.$hidden.param_dtype(dtype);)*
                self
            }

            /// The element type of the gates; default: the smallest that holds the input and the parameters.
            #[must_use]
            pub fn dtype(mut self, dtype: candle_core::DType) -> Self {
                $(self.$input = self.$input.dtype(dtype);)*
                $(self.$hidden = self.$hidden.dtype(dtype);)*
                self
            }
        }
    };
}

pub(super) use cell_options;
