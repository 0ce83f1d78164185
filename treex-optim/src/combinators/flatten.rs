//! All leaves as one vector.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Leaf, Leaves, Parameter, Result, TreeObject, prelude::*};

use super::in_place_of;
use crate::engine::Updates;
use crate::numerics::wide;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`flatten`].
#[derive(Clone, Debug, TreeObject)]
pub struct FlattenState<S> {
    /// The inner state, over one leaf with an empty path.
    pub inner_state: S,
    /// The shape of each leaf in the vector.
    #[tree(skip)]
    shapes: Vec<Option<Shape>>,
}

/// See [`flatten`].
#[derive(Clone, Debug, PartialEq)]
pub struct Flatten<T> {
    inner: T,
}

/// Runs the inner transformation on one vector of all elements, so that a transformation of each leaf becomes
/// one of the whole: `flatten(clip_by_block_rms(1.0))` clips by the root mean square of all elements.
///
/// In Optax it also saves time; here any chain costs one pass over memory, and this adds copies. A leaf
/// without a gradient is unchanged, and its gradient is zeros in the vector.
#[must_use]
pub fn flatten<T: GradientTransformation>(inner: T) -> Flatten<T> {
    Flatten { inner }
}

/// The leaves with these shapes as one vector, zeros for missing ones.
fn join(leaves: &Leaves, shapes: &[Option<Shape>]) -> Result<Leaves> {
    let Some(first) = leaves.tensors().next() else {
        return Ok(Leaf::<Parameter>::nothing().flatten());
    };
    let dtype = leaves
        .tensors()
        .map(Tensor::dtype)
        .fold(DType::F32, |all, own| if wide(own) == DType::F64 { DType::F64 } else { all });
    let mut parts = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        match (leaves.get(index), shape) {
            (Some(leaf), Some(_)) => parts.push(leaf.flatten_all()?.to_dtype(dtype)?),
            (None, Some(shape)) => parts.push(Tensor::zeros(shape.elem_count(), dtype, first.device())?),
            (_, None) => {}
        }
    }
    Ok(Leaf::<Parameter>::new(Tensor::cat(&parts, 0)?)?.flatten())
}

/// The inverse of [`join`], at the positions of `like`.
fn split(joined: &Leaves, shapes: &[Option<Shape>], like: &Leaves) -> Result<Leaves> {
    let mut start = 0;
    like.rebuild(|index| {
        let (Some(Some(shape)), Some(joined)) = (shapes.get(index), joined.get(0)) else { return Ok(None) };
        let own = joined.narrow(0, start, shape.elem_count())?;
        start += shape.elem_count();
        Ok(like.get(index).map(|_| own.reshape(shape)).transpose()?)
    })
}

impl<T: GradientTransformation> GradientTransformation for Flatten<T> {
    type State = FlattenState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let shapes: Vec<_> =
            (0..params.len()).map(|index| params.get(index).map(|param| param.shape().clone())).collect();
        Ok(FlattenState { inner_state: self.inner.init(&join(params, &shapes)?)?, shapes })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, params| {
            let joined = Updates::new(join(&grads, &state.shapes)?, join(params, &state.shapes)?);
            let joined = self.inner.update(joined.with_extra(extra), &mut state.inner_state)?.compute()?;
            split(&joined, &state.shapes, &grads)
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let own = self.inner.eval_params(&state.inner_state, &join(params, &state.shapes)?)?;
        own.map(|own| in_place_of(params, &split(&own, &state.shapes, params)?)).transpose()
    }
}
