//! What the parts of a tree are, where that is more than their structure: the state of one optimizer has the leaves of
//! another's.

use std::collections::BTreeMap;

use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::object::{ChildInfo, TreeObject, Visitor};
use crate::tree::path::Path;

/// [`TreeObject::origin`] of the parts that have one, by their paths.
pub(super) fn origins_of<T: TreeObject>(tree: &T) -> BTreeMap<String, String> {
    let mut origins = Origins { path: Path::default(), found: BTreeMap::new() };
    origins.child(ChildInfo::new(&[]), tree);
    origins.found
}

struct Origins {
    path: Path,
    found: BTreeMap<String, String>,
}

impl<'a> Visitor<'a> for Origins {
    fn leaf(&mut self, _: KindTag, _: &'a Handle) {}

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        if let Some(origin) = child.origin() {
            self.found.insert(self.path.to_string(), origin);
        }
        child.visit(self);
        self.path.truncate(depth);
    }
}
