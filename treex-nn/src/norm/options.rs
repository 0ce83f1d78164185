//! What the normalizations have in common to be made and called by, written once.

/// `normalization_options!(LayerNorm, epsilon "1e-6", use_fast_variance, { scale: use_scale ones });` gives a
/// layer with the fields `features` and `how: Normalization`, made by `of`, the options of all normalizations.
macro_rules! normalization_options {
    ($layer:ident, epsilon $epsilon:literal $(, $fast:ident)?, {
        $($parameter:ident: $use:ident $init:ident),* $(,)?
    }) => {
        impl Default for $layer {
            fn default() -> Self {
                Self::of(None)
            }
        }

        impl $layer {
            #[doc = concat!("What is added to the variance; ", $epsilon, " unless said.")]
            #[must_use]
            pub fn epsilon(mut self, epsilon: f64) -> Self {
                self.how.epsilon = epsilon;
                self
            }

            $(
                #[doc = concat!("Whether there is a ", stringify!($parameter), "; true unless said.")]
                #[must_use]
                pub fn $use(mut self, $use: bool) -> Self {
                    let parameter = self.$parameter.take();
                    let parameter = parameter
                        .unwrap_or_else(|| $crate::norm::declared(self.features.as_ref(), $init));
                    Self { $parameter: $use.then_some(parameter), ..self }
                }
            )*

            $(
                /// Whether the variance is computed in one pass as `mean(x²) - mean(x)²`, and cut at 0; true
                /// unless said. It loses digits where the mean is far from 0.
                #[must_use]
                pub fn $fast(mut self, use_fast_variance: bool) -> Self {
                    self.how.use_fast_variance = use_fast_variance;
                    self
                }
            )?

            /// Whether the statistics of half precision are in `F32`; true unless said. Otherwise they are
            /// rounded to half precision; sums are in `F32` all the same.
            #[must_use]
            pub fn force_float32_reductions(mut self, force_float32_reductions: bool) -> Self {
                self.how.force_float32_reductions = force_float32_reductions;
                self
            }

            /// How to average a tensor over ranks that each see a part of the batch: Flax's `axis_name`. It is
            /// applied to the means of `x` and of its squares, on all ranks the same number of times, while
            /// shapes are inferred too; gradients flow through it.
            #[must_use]
            pub fn pmean<F>(mut self, pmean: F) -> Self
            where
                F: Fn(&candle_core::Tensor) -> treex_core::Result<candle_core::Tensor> + Send + Sync + 'static,
            {
                self.how.pmean = Some($crate::norm::pmean::Pmean::new(pmean));
                self
            }
        }
    };
}

/// The constructor of a layer, made by `of`, whose features are on any axes.
macro_rules! features_option {
    ($layer:ident) => {
        impl $layer {
            /// Normalizes `features` features, a number for each of `feature_axes`. [`default`](Self::default) finds
            /// them in the first input, see [`init_with`](treex_core::Tree::init_with).
            #[must_use]
            pub fn new(features: impl Into<Shape>) -> Self {
                Self::of(Some(features.into()))
            }
        }
    };
}

/// What calls the method `normalized` of a layer without state.
macro_rules! masked_call {
    ($layer:ident) => {
        impl $layer {
            /// The call, with statistics of only the elements where `mask` is not 0; all are normalized. The
            /// mask has the shape of `x`, or one that broadcasts to it. Of no element at all, as in Flax, the
            /// statistics are not numbers.
            ///
            /// # Errors
            /// If the input is not what the layer was made for, or the mask does not fit.
            pub fn call_masked<'m>(
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
                Ok(self.call_masked(x, None)?)
            }
        }
    };
}

pub(super) use {features_option, masked_call, normalization_options};
