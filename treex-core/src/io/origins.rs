//! What the parts of a tree are, where that is more than their structure: the state of one optimizer has the leaves of
//! another's.

use std::collections::BTreeMap;
use std::iter;

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

/// The path and the origin of the innermost part that has one and holds the leaf of this name.
pub(super) fn origin_of<'o>(origins: &'o BTreeMap<String, String>, name: &str) -> Option<(&'o str, &'o str)> {
    let above = iter::successors(Some(name), |path| path.rsplit_once('.').map(|(above, _)| above));
    let root = Path::default().to_string();
    let mut found = above.chain([&*root]).filter_map(|path| origins.get_key_value(path));
    found.next().map(|(path, origin)| (path.as_str(), origin.as_str()))
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
