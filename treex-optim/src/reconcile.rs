//! An optimizer for a changed model.

use std::collections::BTreeMap;

use treex_core::{Path, Result, TreeObject, by, prelude::*};

use crate::optimizer::Optimizer;
use crate::transformation::GradientTransformation;

/// The report of [`Optimizer::reconcile`], as paths in the optimizer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Reconciled {
    /// State that was kept.
    pub kept: Vec<Path>,
    /// State that was initialized: of new leaves, and of those with another shape or type.
    pub initialized: Vec<Path>,
    /// State of leaves that the model no longer has.
    pub dropped: Vec<Path>,
}

impl<T: GradientTransformation> Optimizer<T> {
    /// The optimizer for a model after surgery: a new head, one layer more, a wider table. State with the
    /// same path, shape and type is kept, counts included; the rest is initialized. A leaf that was trained and is
    /// frozen now keeps its state, for when it is unfrozen.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use treex_core::{Leaf, Parameter, prelude::*};
    /// # use treex_optim::{Optimizer, adam};
    /// # let leaf = |len: usize| Leaf::<Parameter>::new(Tensor::ones(len, candle_core::DType::F32, &Device::Cpu)?);
    /// let mut layers = vec![leaf(2)?];
    /// let optimizer = Optimizer::new(adam(1e-3)).init(&layers)?;
    /// layers.push(leaf(3)?);
    /// let (optimizer, report) = optimizer.reconcile(&layers)?;
    /// let names: Vec<_> = report.initialized.iter().map(|path| path.to_string()).collect();
    /// assert_eq!(names, ["state.0.mu.1", "state.0.nu.1"]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub fn reconcile<M: TreeObject + Clone>(&self, model: &M) -> Result<(Self, Reconciled)> {
        let mut next = self.clone().init(&self.without_frozen_of_mine(model)?)?;
        let mut report = Reconciled::default();
        let mut known: BTreeMap<_, _> =
            self.leaves().into_iter().map(|(path, _, leaf)| (path, leaf)).collect();
        for leaf in next.leaves_mut().iter_mut().filter(|leaf| leaf.as_ref().value().is_some()) {
            let path = leaf.path().clone();
            match known.remove(&path) {
                Some(old) if old.shape() == leaf.handle().shape() && old.dtype() == leaf.handle().dtype() => {
                    *leaf.handle() = old.clone();
                    report.kept.push(path);
                }
                _ => report.initialized.push(path),
            }
        }
        let initialized = |path: &Path| report.initialized.contains(path);
        report.dropped = known.into_keys().filter(|path| !initialized(path)).collect();
        Ok((next, report))
    }

    /// The model, with those of its frozen leaves not frozen that this optimizer has trained.
    fn without_frozen_of_mine<M: TreeObject + Clone>(&self, model: &M) -> Result<M> {
        let trained = self.trained();
        let mine = by(|leaf| leaf.is_frozen() && trained.contains(&leaf.path()));
        let mut model = model.clone();
        if model.flatten().iter().any(|leaf| mine.selects(&leaf)) {
            model.unfreeze(mine)?;
        }
        Ok(model)
    }
}
