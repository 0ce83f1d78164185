//! The key of one module during initialization.

use crate::random::Key;
use crate::random::stream::{Rngs, derive};
use crate::tree::path::Path;

/// The key of a module during initialization, and a counter of the keys derived from it.
#[derive(Clone, Debug)]
pub struct ModuleKey {
    pub(super) root: Key,
    /// Under `init_linen`, the root keys of all streams.
    pub(super) rngs: Option<Rngs>,
    pub(super) path: Path,
    pub(super) scope: String,
    pub(super) counter: u32,
    /// The root keys from which a random leaf of the module draws under the module's own name.
    pub(super) drawn_from: Vec<Key>,
}

impl ModuleKey {
    /// The module's key itself, the same at each call.
    #[must_use]
    pub fn key(&self) -> Key {
        derive(self.root, &self.scope, 0)
    }

    /// The next derived key, as Flax's `make_rng("params")`: increments the counter, then folds the hash of path and
    /// counter into the root key. The path is used under `init_linen` only.
    pub fn make_rng(&mut self) -> Key {
        self.counter += 1;
        derive(self.root, &self.scope, self.counter)
    }
}
