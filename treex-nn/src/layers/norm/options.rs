//! Constructors, options and calls that normalization layers share.

/// `normalization_options!(LayerNorm, epsilon "1e-6", use_fast_variance, { scale: use_scale ones });` gives a
/// layer with the fields `features` and `normalization: Normalization`, constructed by `of`, the options of all
/// normalizations.
macro_rules! normalization_options {
    ($layer:ident, epsilon $epsilon:literal $(, $fast:ident)?, {
        $($parameter:ident: $use:ident $init:ident),* $(,)?
    }) => {
        impl $layer {
            /// Like `new`, with [lazy](crate#lazy-layers) features.
            #[must_use]
            pub fn lazy() -> Self {
                Self::of(None)
            }

            #[doc = concat!("Added to the variance; default: ", $epsilon, ".")]
            #[must_use]
            pub fn epsilon(mut self, epsilon: f64) -> Self {
                self.normalization.epsilon = epsilon;
                self
            }

            $(
                #[doc = concat!("Whether to use a ", stringify!($parameter), "; default: true.")]
                #[must_use]
                pub fn $use(mut self, $use: bool) -> Self {
                    let parameter = self.$parameter.take();
                    let parameter = parameter
                        .unwrap_or_else(|| $crate::layers::norm::features::declared(self.features.as_ref(), $init));
                    Self { $parameter: $use.then_some(parameter), ..self }
                }
            )*

            $(
                /// Whether the variance is computed in one pass as `mean(x²) - mean(x)²`, clipped at 0;
                /// default: true. It loses digits where the mean is far from 0.
                #[must_use]
                pub fn $fast(mut self, use_fast_variance: bool) -> Self {
                    self.normalization.use_fast_variance = use_fast_variance;
                    self
                }
            )?

            /// Whether the statistics of half precision are in `F32`; default: true. Otherwise they are
            /// rounded to half precision; sums are in `F32` all the same.
            #[must_use]
            pub fn force_float32_reductions(mut self, force_float32_reductions: bool) -> Self {
                self.normalization.force_float32_reductions = force_float32_reductions;
                self
            }

            /// The average of a tensor over ranks that each have a part of the batch: Flax's `axis_name`. It
            /// is applied to the means of `x` and of its squares, the same number of times on all ranks, also
            /// during shape inference; gradients flow through it.
            #[must_use]
            pub fn pmean<F>(mut self, pmean: F) -> Self
            where
                F: Fn(&candle_core::Tensor) -> treex_core::Result<candle_core::Tensor> + Send + Sync + 'static,
            {
                self.normalization.pmean = Some($crate::functional::pmean::Pmean::new(pmean));
                self
            }
        }
    };
}

/// The constructor of a layer whose features are on any axes.
macro_rules! features_option {
    ($layer:ident) => {
        impl $layer {
            /// Normalizes `features` features, a number for each of `feature_axes`.
            #[must_use]
            pub fn new(features: impl Into<Shape>) -> Self {
                Self::of(Some(features.into()))
            }
        }
    };
}

/// The calls of a layer without state, by its method `normalized`.
macro_rules! masked_call {
    ($layer:ident) => {
        impl $layer {
            /// The call with statistics of only the elements where `mask` is not 0; all elements are
            /// normalized. The mask broadcasts to `x`. If it hides all elements, the statistics are NaN, as
            /// in Flax.
            ///
            /// # Errors
            /// If the input has other features than the layer, or the mask does not fit.
            pub fn call_with<'m>(
                &self,
                x: &candle_core::Tensor,
                mask: impl Into<Option<&'m candle_core::Tensor>>,
            ) -> treex_core::Result<candle_core::Tensor> {
                let y = self.normalized(x, mask.into()).map_err(|error| error.of(self.identity()))?;
                treex_core::record(self, x, &y);
                Ok(y)
            }
        }

        impl candle_core::Module for $layer {
            fn forward(&self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
                Ok(self.call_with(x, None)?)
            }
        }
    };
}

pub(super) use {features_option, masked_call, normalization_options};
