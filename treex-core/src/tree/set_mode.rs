//! The traversal that switches modules between training and evaluation.

use super::handle::Handle;
use super::kind::KindTag;
use super::mode::Mode;
use super::object::{ChildInfo, TreeObject, VisitorMut};

/// Sets every mode of `tree`.
pub(crate) fn set_training<T: TreeObject + ?Sized>(tree: &mut T, training: bool) {
    tree.visit_mut(&mut SetTraining(training));
}

struct SetTraining(bool);

impl<'a> VisitorMut<'a> for SetTraining {
    fn leaf(&mut self, _: KindTag, _: &'a mut Handle) {}

    fn mode(&mut self, mode: &'a mut Mode) {
        mode.training = self.0;
    }

    fn child(&mut self, _: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        child.visit_mut(self);
    }
}
