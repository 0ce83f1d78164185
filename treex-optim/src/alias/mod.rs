//! Named optimizers. Each is one chain: its state is a tuple, and its options are methods of that type of
//! chain.

/// Adds the options of its members to a chain: `options!(Adam: 0 ScaleByAdam { b1: f64 });`.
macro_rules! options {
    ($chain:ty: $($index:tt $member:ident { $($option:ident: $type:ty),* $(,)? })*) => {
        impl $chain {
            $($(
                #[doc = concat!("[`", stringify!($member), "::", stringify!($option), "`]")]
                #[must_use]
                pub fn $option(mut self, $option: $type) -> Self {
                    self.0.$index = self.0.$index.$option($option);
                    self
                }
            )*)*
        }
    };
}

/// Adds the option `weight_decay_mask` to a chain: `weight_decay_mask!(AdamW: 1);`, with the position of its
/// [`AddDecayedWeights`].
///
/// [`AddDecayedWeights`]: crate::AddDecayedWeights
macro_rules! weight_decay_mask {
    ($chain:ty: $index:tt) => {
        impl $chain {
            /// Only parameters that `filter` selects decay: `path("**.kernel")` excludes biases and scales.
            #[must_use]
            pub fn weight_decay_mask(
                mut self,
                filter: impl treex_core::Filter + Send + Sync + 'static,
            ) -> Self {
                self.0.$index = self.0.$index.mask(filter);
                self
            }
        }
    };
}

pub(crate) mod adabelief;
pub(crate) mod adadelta;
pub(crate) mod adafactor;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod adamax;
pub(crate) mod adamaxw;
pub(crate) mod adamw;
pub(crate) mod adan;
pub(crate) mod amsgrad;
pub(crate) mod fromage;
pub(crate) mod lamb;
pub(crate) mod lars;
pub(crate) mod lion;
pub(crate) mod nadam;
pub(crate) mod nadamw;
pub(crate) mod noisy_sgd;
pub(crate) mod novograd;
pub(crate) mod optimistic_adam;
pub(crate) mod optimistic_adam_v2;
pub(crate) mod optimistic_gradient_descent;
pub(crate) mod polyak_sgd;
pub(crate) mod radam;
pub(crate) mod rmsprop;
pub(crate) mod rprop;
pub(crate) mod sgd;
pub(crate) mod sign_sgd;
pub(crate) mod signum;
pub(crate) mod sm3;
pub(crate) mod yogi;
