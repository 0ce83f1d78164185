//! SM3's rescaling.

use candle_core::Tensor;
use treex_core::extrema::broadcast_minimum;
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{check_decay, check_not_negative, each_update, leaf_at, store_at, zeros_like};
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_sm3`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleBySm3State {
    /// For each axis, the largest sums along it: vectors, f32 (f64 for f64 parameters). Empty for a
    /// leaf with fewer axes.
    pub mu: Vec<Leaves>,
    /// The average of the rescaled gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
}

/// See [`scale_by_sm3`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleBySm3 {
    b1: f64,
    b2: f64,
    eps: f64,
}

/// Divides by the root of a sum of squares that is stored as one vector per axis:
///
/// ```text
/// sum  = min over the axes of mu[axis] + g^2                  b2 * min + (1 - b2) * g^2 if b2 is not 1
/// nu   = b1 * nu + (1 - b1) * g / sqrt(sum + eps)             g / ... is 0 where sum is 0
/// u    = nu
/// mu[axis] = the largest of sum over the other axes
/// ```
///
/// with `b1 = 0.9`, `b2 = 1` and `eps = 1e-8`. For an (m, n) matrix `mu` takes m + n numbers, not m times n.
/// A scalar leaf counts as a vector with one element; Optax fails on it.
///
/// Anil et al., [Memory-efficient adaptive optimization](https://arxiv.org/abs/1901.11150), 2019.
#[must_use]
pub fn scale_by_sm3() -> ScaleBySm3 {
    ScaleBySm3 { b1: 0.9, b2: 1., eps: 1e-8 }
}

builder!(ScaleBySm3 {
    /// The decay rate of the average of the rescaled gradients.
    b1: f64,
    /// The decay rate of the sum of squares; 1 for a plain sum.
    b2: f64,
    /// Added inside the square root.
    eps: f64,
});

impl GradientTransformation for ScaleBySm3 {
    type State = ScaleBySm3State;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        if self.b2 != 1. {
            check_decay("b2", self.b2)?;
        }
        check_not_negative("eps", self.eps)?;
        let nu = zeros_like(params)?;
        let rank = nu.tensors().map(|leaf| axes(leaf).len()).max().unwrap_or_default();
        let along = |axis: usize| {
            let vector = |leaf: &Tensor| {
                let size = axes(leaf).get(axis).copied();
                size.map(|size| Tensor::zeros(size, leaf.dtype(), leaf.device())).transpose()
            };
            nu.rebuild(|index| Ok(nu.get(index).map(vector).transpose()?.flatten()))
        };
        Ok(ScaleBySm3State { mu: (0..rank).map(along).collect::<Result<_>>()?, nu })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let ScaleBySm3State { mu, nu } = state;
        let rescaled =
            updates.each_step(|updates, _| each_update(&updates, |index, g| self.rescaled(g, mu, index)));
        rescaled.map(Average::raw(self.b1), [nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// The sizes of the axes; a scalar has one axis.
fn axes(leaf: &Tensor) -> &[usize] {
    if leaf.rank() == 0 { &[1] } else { leaf.dims() }
}

impl ScaleBySm3 {
    fn rescaled(&self, g: &Tensor, mu: &mut [Leaves], index: usize) -> Result<Tensor> {
        let (shape, g) = (g.shape(), g.reshape(axes(g))?);
        let mut least: Option<Tensor> = None;
        for (axis, mu) in mu.iter().enumerate().take(g.rank()) {
            let mut along = vec![1; g.rank()];
            along[axis] = g.dim(axis)?;
            let mu = leaf_at(mu, index)?.to_dtype(g.dtype())?.reshape(along)?;
            least = Some(match least {
                Some(least) => broadcast_minimum(&least, &mu)?,
                None => mu,
            });
        }
        let new = if self.b2 == 1. { g.sqr()? } else { (g.sqr()? * (1. - self.b2))? };
        let sum = match least {
            Some(least) => new.broadcast_add(&(least * self.b2)?)?,
            None => new,
        };
        for (axis, mu) in mu.iter_mut().enumerate().take(g.rank()) {
            let mut others = (0..g.rank()).rev().filter(|&other| other != axis);
            let largest = others.try_fold(sum.clone(), |sum, other| sum.max(other))?;
            store_at(mu, index, &largest)?;
        }
        let scaled = (g / (&sum + self.eps)?.sqrt()?)?;
        // 0 without any gradient yet, NaN for NaN.
        Ok(sum.gt(0.)?.where_cond(&scaled, &(&sum * 0.)?)?.reshape(shape)?)
    }
}
