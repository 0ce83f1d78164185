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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use candle_core::{Device, Tensor};
use sha1::Digest as _;

use crate::error::{Error, Result};
use crate::kind::{KindTag, Rng};
use crate::leaf::Handle;
use crate::object::TreeObject;
use crate::path::Segment;
use crate::random::Key;
use crate::walk::try_walk_mut;

/// The stream that parameters are made from, and that stands in for those that are missing.
pub(crate) const PARAMS: &str = "params";

/// Root keys by the name of their stream: what Flax's `init(rngs, ..)` takes. A seed or a [`Key`] alone is
/// the stream `params`.
///
/// ```
/// use treex_core::Rngs;
///
/// let rngs = Rngs::new(0).stream("dropout", 1); // {"params": PRNGKey(0), "dropout": PRNGKey(1)}
/// assert_eq!(rngs.key("noise"), rngs.key("params"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rngs {
    params: Key,
    others: BTreeMap<String, Key>,
}

impl Rngs {
    /// The stream `params` alone.
    pub fn new(params: impl Into<Key>) -> Self {
        Self { params: params.into(), others: BTreeMap::new() }
    }

    /// With another stream.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>, key: impl Into<Key>) -> Self {
        match name.into() {
            name if name == PARAMS => self.params = key.into(),
            name => drop(self.others.insert(name, key.into())),
        }
        self
    }

    /// The root key of a stream: that of `params` if there is none of this name.
    #[must_use]
    pub fn key(&self, stream: &str) -> Key {
        *self.others.get(stream).unwrap_or(&self.params)
    }

    /// `f` of each root key.
    pub(crate) fn map(&self, f: impl Fn(Key) -> Key) -> Self {
        let others = self.others.iter().map(|(name, key)| (name.clone(), f(*key))).collect();
        Self { params: f(self.params), others }
    }

    /// Where a leaf of `scope` starts in its stream.
    pub(crate) fn start(&self, stream: &str, scope: &str) -> Position {
        let falls_back = stream != PARAMS && !self.others.contains_key(stream);
        Position {
            root: self.key(stream),
            counter: 0,
            falls_back,
            stream: stream.into(),
            scope: scope.into(),
        }
    }
}

macro_rules! from_params {
    ($($type:ty),*) => {$(
        impl From<$type> for Rngs {
            fn from(params: $type) -> Self {
                Self::new(params)
            }
        }
    )*};
}

from_params!(Key, i32, u32, i64, u64);

/// The name of a module for hashing: Flax joins the names of a path without a separator, and the places
/// inside of one attribute by `_`.
pub(crate) fn scope_name(path: &[Segment]) -> String {
    let mut name = String::new();
    for segment in path {
        let separator = if matches!(segment, Segment::Field(_)) || name.is_empty() { "" } else { "_" };
        // Writing to a string cannot fail.
        let _ = write!(name, "{separator}{segment}");
    }
    name
}

/// Flax's key number `counter` of the module called `scope`; 0 is the module itself.
pub(crate) fn derive(root: Key, scope: &str, counter: u32) -> Key {
    let counter_bytes = counter.to_be_bytes();
    let counter_bytes = &counter_bytes[counter.leading_zeros() as usize / 8..];
    if scope.is_empty() && counter_bytes.is_empty() {
        return root;
    }
    let digest = sha1::Sha1::new().chain_update(scope).chain_update(counter_bytes).finalize();
    root.fold_in(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// Where a random leaf is in its stream. As a tensor: the two words of the root key, the counter, whether the
/// root is that of `params` for want of the leaf's own, the lengths of the names of stream and scope, and these
/// names, four bytes a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) root: Key,
    counter: u32,
    falls_back: bool,
    stream: String,
    scope: String,
}

impl Position {
    /// The next key of the stream.
    pub(crate) fn advance(&mut self) -> Key {
        self.counter += 1;
        derive(self.root, &self.scope, self.counter)
    }

    pub(crate) fn to_tensor(&self) -> Result<Tensor> {
        let mut names = [self.stream.as_bytes(), self.scope.as_bytes()].concat();
        names.resize(names.len().next_multiple_of(4), 0);
        let (names, _) = names.as_chunks();
        let mut words = self.root.words().to_vec();
        let lengths = [self.stream.len() as u32, self.scope.len() as u32];
        words.extend([self.counter, u32::from(self.falls_back)].into_iter().chain(lengths));
        words.extend(names.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        Ok(Tensor::new(words, &Device::Cpu)?)
    }

    /// `None` if the tensor is something else: a key alone, say.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Option<Self> {
        let words = tensor.to_vec1::<u32>().ok()?;
        let (&[k0, k1, counter, falls_back, stream, scope], names) = words.split_first_chunk()?;
        let names: Vec<u8> = names.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (stream, rest) = names.split_at_checked(stream as usize)?;
        let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (stream, scope) = (name(stream)?, name(rest.get(..scope as usize)?)?);
        Some(Self { root: Key::from_words([k0, k1]), counter, falls_back: falls_back != 0, stream, scope })
    }
}

/// See [`Tree::set_rngs`](crate::Tree::set_rngs).
pub(crate) fn set_rngs<T: TreeObject + ?Sized>(tree: &mut T, stream: &str, root: Key) -> Result<()> {
    let (mut found, mut others) = (false, BTreeSet::new());
    try_walk_mut(tree, |_, kind, leaf| {
        let value = leaf.value().filter(|_| kind.is(KindTag::of::<Rng>()));
        let Some(position) = value.and_then(Position::from_tensor) else { return Ok(()) };
        if position.stream == stream || (position.falls_back && stream == PARAMS) {
            found = true;
            let falls_back = position.stream != stream;
            *leaf = Handle::own(&Position { root, counter: 0, falls_back, ..position }.to_tensor()?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_is_that_of_flax() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/flax.json")).expect("the fixture is JSON");
        let cases = fixture["fold_in_static_key42"].as_array().expect("a list");
        assert_eq!(cases.len(), 10);
        for case in cases {
            let path = case["path"].as_array().expect("a list");
            let scope: String = path.iter().filter_map(|part| part.as_str()).collect();
            let counter = path.last().and_then(|part| part.as_u64()).expect("a number last");
            let key: [u32; 2] = serde_json::from_value(case["key"].clone()).expect("two words");
            assert_eq!(derive(Key::from(42), &scope, counter as u32).words(), key, "{path:?}");
        }
        assert_eq!(derive(Key::from(42), "", 0), Key::from(42));
    }

    #[test]
    fn names() {
        let field = Segment::Field;
        assert_eq!(scope_name(&[]), "");
        assert_eq!(scope_name(&[field("layers"), Segment::Index(2)]), "layers_2");
        assert_eq!(scope_name(&[field("d"), Segment::Key("a".into()), Segment::Index(0)]), "d_a_0");
        assert_eq!(scope_name(&[field("a"), field("b"), field("c")]), "abc");
        assert_eq!(scope_name(&[Segment::Index(1), field("w")]), "1w");
    }

    #[test]
    fn a_position_survives_as_a_tensor() -> Result<()> {
        for (stream, scope) in [("dropout", ""), ("", "layers_0"), ("dropout", "größe"), ("", "")] {
            let mut position = Rngs::new(3).start(stream, scope);
            position.advance();
            assert_eq!(Position::from_tensor(&position.to_tensor()?), Some(position));
        }
        assert_eq!(Position::from_tensor(&Key::from(3).to_tensor()?), None);
        let cut = Rngs::new(3).start("dropout", "layers_0").to_tensor()?.narrow(0, 0, 9)?;
        assert_eq!(Position::from_tensor(&cut), None);
        Ok(())
    }
}
