//! The transformations, one per file, each with its state directly above it.

/// Adds builder methods for options: `builder!(Trace { /// The docs. nesterov: bool });`.
macro_rules! builder {
    ($transformation:ident { $($(#[$doc:meta])* $option:ident: $type:ty),* $(,)? }) => {
        impl $transformation {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $option(mut self, $option: $type) -> Self {
                    self.$option = $option.into();
                    self
                }
            )*
        }
    };
}

pub(crate) use builder;

pub(crate) mod adaptive_grad_clip;
pub(crate) mod add_decayed_weights;
pub(crate) mod add_noise;
pub(crate) mod apply_every;
pub(crate) mod average;
pub(crate) mod centralize;
pub(crate) mod clip;
pub(crate) mod clip_by_block_rms;
pub(crate) mod clip_by_global_norm;
pub(crate) mod ema;
pub(crate) mod identity;
pub(crate) mod keep_params_nonnegative;
pub(crate) mod normalize_by_update_norm;
pub(crate) mod scale;
pub(crate) mod scale_by_adadelta;
pub(crate) mod scale_by_adam;
pub(crate) mod scale_by_adamax;
pub(crate) mod scale_by_adan;
pub(crate) mod scale_by_amsgrad;
pub(crate) mod scale_by_belief;
pub(crate) mod scale_by_distance_over_gradients;
pub(crate) mod scale_by_factored_rms;
pub(crate) mod scale_by_learning_rate;
pub(crate) mod scale_by_lion;
pub(crate) mod scale_by_novograd;
pub(crate) mod scale_by_optimistic_gradient;
pub(crate) mod scale_by_param_block_norm;
pub(crate) mod scale_by_param_block_rms;
pub(crate) mod scale_by_polyak;
pub(crate) mod scale_by_radam;
pub(crate) mod scale_by_rms;
pub(crate) mod scale_by_rprop;
pub(crate) mod scale_by_rss;
pub(crate) mod scale_by_schedule;
pub(crate) mod scale_by_sign;
pub(crate) mod scale_by_sm3;
pub(crate) mod scale_by_trust_ratio;
pub(crate) mod scale_by_yogi;
pub(crate) mod set_to_zero;
pub(crate) mod trace;
pub(crate) mod zero_nans;
