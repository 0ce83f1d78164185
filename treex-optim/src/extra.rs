//! Extra arguments of a step.

use std::fmt;

use treex_core::{Error, Leaves, Result};

/// The arguments of a step besides gradients and parameters: Optax's `extra_args`.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Extra<'a> {
    /// The value of the loss.
    pub value: Option<f64>,
    /// The gradient before any transformation, set by [`Optimizer::minimize`](crate::Optimizer::minimize).
    pub gradient: Option<&'a Leaves>,
    /// The loss and its gradient at other parameters, for a line search; set by `minimize`.
    pub value_fn: Option<&'a ValueFn<'a>>,
    /// Products of the Hessian of the loss with a vector, at the model's parameters; set by `minimize`.
    pub hvp_fn: Option<&'a HvpFn<'a>>,
    /// The gradient of the loss at labels that are sampled from the model's own predictions, for
    /// [`gauss_newton_bartlett`](crate::gauss_newton_bartlett).
    pub sampled_gradient_fn: Option<&'a GradientFn<'a>>,
}

/// A gradient that is computed if it is needed.
pub type GradientFn<'a> = dyn Fn() -> Result<Leaves> + 'a;

/// The value and the gradient of a loss at some parameters.
pub type ValueFn<'a> = dyn Fn(&Leaves) -> Result<(f64, Leaves)> + 'a;

/// The product of a Hessian with a vector, zeros where that has no value.
pub type HvpFn<'a> = dyn Fn(&Leaves) -> Result<Leaves> + 'a;

impl fmt::Debug for Extra<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extra").field("value", &self.value).finish_non_exhaustive()
    }
}

impl<'a> Extra<'a> {
    /// Extra arguments with the value of the loss.
    #[must_use]
    pub fn value(value: f64) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// Sets [`sampled_gradient_fn`](Self::sampled_gradient_fn).
    #[must_use]
    pub fn with_sampled_gradient(self, f: &'a GradientFn<'a>) -> Self {
        Self { sampled_gradient_fn: Some(f), ..self }
    }

    /// The value of the loss, which the transformation `name` requires.
    pub(crate) fn loss(&self, name: &str) -> Result<f64> {
        self.value.ok_or_else(|| {
            Error::argument(format!("`{name}` needs the value of the loss"))
                .expected("`Extra::value(loss)`")
                .remedy(
                    "step with `optimizer.update_with(&grads, &mut model, &Extra::value(loss))` or `minimize`",
                )
        })
    }
}
