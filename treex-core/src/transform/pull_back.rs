//! Backward passes from several roots, and through the variables of inner scopes.

use candle_core::{Device, Tensor};

use crate::autograd::{BackwardContext, Operation, OwnedStorage, accumulate, attach};
use crate::error::Result;
use crate::transform::scope::Link;

/// The gradients of the sum of `outputs · cotangents` with respect to `variables`. See [`accumulate::gradients`] for
/// `is_last`.
pub(crate) fn pull_back(
    outputs: &[Tensor],
    cotangents: &[Option<Tensor>],
    variables: &[Tensor],
    is_last: bool,
) -> Result<Vec<Option<Tensor>>> {
    let device = outputs.first().map_or(&Device::Cpu, Tensor::device);
    let outputs: Vec<_> = outputs.iter().collect();
    let root = attach(Root(cotangents.to_vec()), &outputs, OwnedStorage::placeholder(device)?)?;
    if !root.track_op() {
        return Ok(vec![None; variables.len()]);
    }
    accumulate::gradients(&root, variables.iter(), is_last)
}

/// The root of a backward pass from given cotangents.
pub(crate) struct Root(pub(crate) Vec<Option<Tensor>>);

impl Operation for Root {
    fn name(&self) -> &'static str {
        "cotangents"
    }

    fn is_differentiable(&self) -> bool {
        true
    }

    fn backward(&self, _: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        Ok(self.0.clone())
    }
}

/// [`accumulate::gradients`], also through `links`, oldest first: the cotangent of a link's variable goes on from the
/// value for which the variable stands. One pass more for each inner scope, the youngest first, since its values may
/// depend on the variables of older ones.
pub(crate) fn through_links(
    loss: &Tensor,
    variables: &[Tensor],
    links: &[Link],
) -> Result<Vec<Option<Tensor>>> {
    let all: Vec<_> = variables.iter().chain(links.iter().map(|link| &link.variable)).cloned().collect();
    let mut sums = accumulate::gradients(loss, all.iter(), false)?;
    let mut end = links.len();
    while let Some(last) = links[..end].last() {
        let of_scope = links[..end].iter().rev().take_while(|link| link.scope == last.scope).count();
        let start = end - of_scope;
        let values: Vec<_> = links[start..end].iter().map(|link| link.value.clone()).collect();
        let at = variables.len() + start;
        let cotangents: Vec<_> = sums[at..at + of_scope].iter_mut().map(Option::take).collect();
        if cotangents.iter().any(Option::is_some) {
            for (sum, term) in sums.iter_mut().zip(pull_back(&values, &cotangents, &all, false)?) {
                add(sum, term)?;
            }
        }
        end = start;
    }
    sums.truncate(variables.len());
    Ok(sums)
}

/// Adds a gradient to a sum of gradients.
fn add(sum: &mut Option<Tensor>, term: Option<Tensor>) -> Result<()> {
    *sum = match (sum.take(), term) {
        (Some(sum), Some(term)) => Some((sum + term)?),
        (sum, term) => sum.or(term),
    };
    Ok(())
}
