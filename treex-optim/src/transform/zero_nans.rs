//! Updates without NaN.

use candle_core::{Device, Tensor};
use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Terms, Updates};
use crate::numerics::store_scalar_at;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`zero_nans`].
#[derive(Clone, Debug, TreeObject)]
pub struct ZeroNansState {
    /// Whether each leaf had a NaN at the last step: a scalar u8, 1 or 0.
    pub found_nan: Leaves,
}

/// See [`zero_nans`].
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroNans;

/// `u = 0` where `g` is NaN, elsewhere `g`. Infinities stay. The state records which leaves had a NaN at the
/// last step.
#[must_use]
pub fn zero_nans() -> ZeroNans {
    ZeroNans
}

impl GradientTransformation for ZeroNans {
    type State = ZeroNansState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let found_nan = params.apply(|_| Ok(Tensor::new(0u8, &Device::Cpu)?))?;
        Ok(ZeroNansState { found_nan })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let on: Vec<_> = (0..updates.len()).filter(|&index| updates.has(index)).collect();
        updates.measure(Nans, [], move |nans| {
            for index in on {
                store_scalar_at(&mut state.found_nan, index, f64::from(nans.leaf(index, 0) > 0.))?;
            }
            Ok(WithoutNans)
        })
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}

/// 1 for each NaN.
struct Nans;

impl Terms<1> for Nans {
    #[inline(always)]
    fn terms<N: Number>(&self, g: N, _: N) -> [N; 1] {
        [g.if_nan(N::constant(1.), N::constant(0.))]
    }
}

/// `u = 0` where `g` is NaN, elsewhere `g`.
struct WithoutNans;

impl Rule<0> for WithoutNans {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (g.clone().if_nan(N::constant(0.), g), [])
    }
}
