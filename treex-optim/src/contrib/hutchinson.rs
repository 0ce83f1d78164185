//! Hutchinson's estimator of the diagonal of a Hessian.

use treex_core::random::Key;
use treex_core::{Error, Leaf, Leaves, OptState, Result, TreeObject};

use crate::engine::Updates;
use crate::transformation::{GradientTransformation, Member};
use crate::tree::random_like;

/// The state of [`hutchinson_estimator_diag_hessian`].
#[derive(Clone, Debug, TreeObject)]
pub struct HutchinsonState {
    /// The key for the steps to come: two u32.
    pub key: Leaf<OptState>,
}

/// See [`hutchinson_estimator_diag_hessian`].
#[derive(Clone, Debug, PartialEq)]
pub struct Hutchinson {
    key: Key,
}

/// Replaces the gradients by an estimate of the diagonal of the Hessian of the loss, unbiased and of high variance:
///
/// ```text
/// u = r * (H r)                                   r = -1 or 1, equally likely
/// ```
///
/// Step with [`Optimizer::minimize`](crate::Optimizer::minimize), which gives it products with the Hessian, after
/// [`enable_nested_gradients`](treex_core::enable_nested_gradients). The signs have JAX's bits, for f64
/// those of its 64-bit mode.
///
/// Hutchinson, [A stochastic estimator of the trace of the influence
/// matrix](https://doi.org/10.1080/03610918908812806), 1989.
#[must_use]
pub fn hutchinson_estimator_diag_hessian(key: impl Into<Key>) -> Hutchinson {
    Hutchinson { key: key.into() }
}

impl GradientTransformation for Hutchinson {
    type State = HutchinsonState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(HutchinsonState { key: Leaf::new(self.key.to_tensor()?)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let hvp_fn = updates.extra().hvp_fn.ok_or_else(|| {
            Error::argument("Hutchinson's estimator needs the loss")
                .expected("products with its Hessian")
                .remedy("step with `optimizer.minimize(&mut model, |model| ...)`, or set `Extra::hvp_fn`")
        })?;
        let [next, now] = Key::from_tensor(&state.key.get()?)?.split2();
        state.key.set(next.to_tensor()?)?;
        Ok(updates.tensors(move |_, params| {
            let signs = random_like(now, params, |key, shape, dtype| key.rademacher(shape, dtype))?;
            signs.combine(&hvp_fn(&signs)?, |sign, product| Ok((product.to_dtype(sign.dtype())? * sign)?))
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}
