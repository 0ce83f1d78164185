//! Flax Linen's keys: derived from a stream's root key, the path of the module and a counter.
//!
//! A model whose fields are named like the attributes of a Flax module gets the same weights from
//! [`init_linen`](crate::Tree::init_linen), and the same dropout masks afterwards:
//!
//! - The key number `n` of a module is `fold_in(root, h)`, where `h` is the first four bytes of the SHA-1 of
//!   the module's path and of `n` (big-endian, without leading zeros). A module counts from 1: its parameters
//!   in the order of the fields first, then its other leaves.
//! - Path names are field names, or those given by `#[tree(rename = "Dense_0")]`. An element of a list is
//!   `layers_0`, an entry of a map is `heads_key`, as in Flax. The root has no name.
//! - A [`Leaf::stream`](crate::Leaf::stream) draws from the root key of its stream, or from that of `params` if
//!   [`Rngs`](crate::Rngs) has no such stream. It stores root, path and counter, so the counter advances from call to call;
//!   [`set_rngs`](crate::Tree::set_rngs) resets it, as each `apply(rngs={..})` does in Flax.
//! - Each leaf has its own counter (in Flax, the leaves of a module share one). If several leaves of a module draw
//!   from one root, the path of all but the first therefore includes the name of the leaf.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::random::Key;
use crate::random::stream::{PARAMS, RngStream};
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, Rng};
use crate::tree::object::TreeObject;
use crate::tree::walk::try_walk_mut;

/// See [`Tree::set_rngs`](crate::Tree::set_rngs).
pub(crate) fn set_rngs<T: TreeObject + ?Sized>(tree: &mut T, stream: &str, root: Key) -> Result<()> {
    let (mut found, mut others) = (false, BTreeSet::new());
    try_walk_mut(tree, |_, kind, leaf| {
        let value = leaf.value().filter(|_| kind.is(KindTag::of::<Rng>()));
        let Some(position) = value.and_then(RngStream::from_tensor) else { return Ok(()) };
        if position.stream == stream || (position.falls_back && stream == PARAMS) {
            found = true;
            let falls_back = position.stream != stream;
            let restarted =
                Handle::from_copy(&RngStream { root, counter: 0, falls_back, ..position }.to_tensor()?)?;
            leaf.replace(restarted);
        } else {
            others.insert(position.stream);
        }
        Ok(())
    })?;
    if found {
        return Ok(());
    }
    let expected =
        if others.is_empty() { "a tree with streams".to_owned() } else { format!("one of {others:?}") };
    Err(Error::argument(format!("no random leaf of this tree is in the stream `{stream}`"))
        .expected(expected)
        .found(stream)
        .remedy("initialize the model with `init_linen`: `init` makes keys without streams"))
}
