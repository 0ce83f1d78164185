//! The optimizers with names. Each is one chain, so its state is a plain tuple, and its options are methods of
//! that type of chain.

/// Gives a chain the options of its members: `options!(Adam: 0 ScaleByAdam { b1: f64 });`.
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

pub(crate) mod adam;
pub(crate) mod adamw;
pub(crate) mod sgd;
