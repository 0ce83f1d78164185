//! Keys as Flax Linen derives them: from a stream's root key, the path of the module and a counter.
//!
//! A model whose fields are named like the attributes of a Flax module gets that module's weights from
//! [`init_linen`](crate::Tree::init_linen), and its masks from then on:
//!
//! - The key number `n` of a module is `fold_in(root, h)`, where `h` is the first four bytes of the SHA-1 of
//!   the module's path and of `n` (big-endian, without leading zeros). A module counts from 1: its parameters
//!   in the order of the fields first, then its other leaves.
//! - The names on a path are those of the fields, or what `#[tree(rename = "Dense_0")]` says. An element of a
//!   list is `layers_0`, an entry of a map is `heads_key`, as in Flax. The model at the top has no name.
//! - A [`Leaf::stream`](crate::Leaf::stream) draws from the root key of its stream, and from that of `params` where [`Rngs`] has
//!   none of that name. It remembers root, path and counter, so the counter goes on from call to call;
//!   [`set_rngs`](crate::Tree::set_rngs) starts again, as each `apply(rngs={..})` does in Flax.
//! - Each leaf counts for itself. So where a module has several leaves that draw from one root, all but the
//!   first have the name of the leaf in their path too, lest they draw the same: there Flax shares a counter.

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
    Err(Error::argument(format!("no random leaf of this tree draws from the stream `{stream}`"))
        .expected(format!("one of {others:?}"))
        .found(stream)
        .remedy("initialize the model with `init_linen`: `init` makes keys without streams"))
}
