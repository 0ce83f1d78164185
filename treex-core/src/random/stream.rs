//! Named random streams: root keys, and the keys that Flax Linen derives from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use candle_core::{Device, Tensor};
use sha1::Digest as _;

use super::{Key, log};
use crate::error::Result;
use crate::tree::path::Segment;

/// The stream of the parameters, and the fallback for streams that [`Rngs`] does not have.
pub(crate) const PARAMS: &str = "params";

/// Root keys by stream name: the argument of Flax's `init(rngs, ..)`. A seed or a [`Key`] alone is the stream
/// `params`.
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
    /// Only the stream `params`.
    pub fn new(params: impl Into<Key>) -> Self {
        Self { params: params.into(), others: BTreeMap::new() }
    }

    /// Adds a stream, or replaces one.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>, key: impl Into<Key>) -> Self {
        match name.into() {
            name if name == PARAMS => self.params = key.into(),
            name => drop(self.others.insert(name, key.into())),
        }
        self
    }

    /// The root key of a stream. Default: that of `params`.
    #[must_use]
    pub fn key(&self, stream: &str) -> Key {
        *self.others.get(stream).unwrap_or(&self.params)
    }

    /// Applies `f` to each root key.
    pub(crate) fn map(&self, f: impl Fn(Key) -> Key) -> Self {
        let others = self.others.iter().map(|(name, key)| (name.clone(), f(*key))).collect();
        Self { params: f(self.params), others }
    }

    /// The start of a stream for a leaf in `scope`.
    pub(crate) fn start(&self, stream: &str, scope: &str) -> RngStream {
        let falls_back = stream != PARAMS && !self.others.contains_key(stream);
        RngStream {
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

/// The name of a module for hashing: Flax joins the names of a path without a separator, and the indices in one
/// attribute with `_`.
pub(crate) fn scope_name(path: &[Segment]) -> String {
    let mut name = String::new();
    for segment in path {
        let separator = if matches!(segment, Segment::Field(_)) || name.is_empty() { "" } else { "_" };
        // Writing to a string cannot fail.
        let _ = write!(name, "{separator}{segment}");
    }
    name
}

/// Flax's key number `counter` of the module named `scope`; 0 is the module's own key.
pub(crate) fn derive(root: Key, scope: &str, counter: u32) -> Key {
    let counter_bytes = counter.to_be_bytes();
    let counter_bytes = &counter_bytes[counter.leading_zeros() as usize / 8..];
    if scope.is_empty() && counter_bytes.is_empty() {
        return root;
    }
    let digest = sha1::Sha1::new().chain_update(scope).chain_update(counter_bytes).finalize();
    root.fold_in(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// The position of a random leaf in its stream. As a tensor: the two words of the root key, the counter, whether the
/// root is that of `params` because [`Rngs`] lacks the stream, the lengths of the names of stream and
/// scope, and these names, four bytes a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RngStream {
    pub(crate) root: Key,
    pub(crate) counter: u32,
    pub(crate) falls_back: bool,
    pub(crate) stream: String,
    pub(crate) scope: String,
}

impl RngStream {
    /// The next key of the stream.
    pub(crate) fn advance(&mut self) -> Key {
        self.counter += 1;
        let key = derive(self.root, &self.scope, self.counter);
        log::write(|| log::Derived::Drawn { position: self.to_words(), child: key.words() });
        key
    }

    /// How many positions behind `start` of the same stream this is.
    pub(crate) fn steps_from(&self, start: &Self) -> Option<u32> {
        let steps = self.counter.checked_sub(start.counter)?;
        (Self { counter: start.counter, ..self.clone() } == *start).then_some(steps)
    }

    /// The key so many positions on.
    pub(crate) fn key_after(&self, steps: u32) -> Key {
        derive(self.root, &self.scope, self.counter.wrapping_add(steps))
    }

    pub(crate) fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.to_words(), &Device::Cpu)?)
    }

    fn to_words(&self) -> Vec<u32> {
        let mut names = [self.stream.as_bytes(), self.scope.as_bytes()].concat();
        names.resize(names.len().next_multiple_of(4), 0);
        let (names, _) = names.as_chunks();
        let mut words = self.root.words().to_vec();
        let lengths = [self.stream.len() as u32, self.scope.len() as u32];
        words.extend([self.counter, u32::from(self.falls_back)].into_iter().chain(lengths));
        words.extend(names.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        words
    }

    /// `None` if the tensor is not a stream, for instance a key.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Option<Self> {
        Self::from_words(&tensor.to_vec1::<u32>().ok()?)
    }

    /// `None` if the words are not those of a stream.
    pub(crate) fn from_words(words: &[u32]) -> Option<Self> {
        let (&[k0, k1, counter, falls_back, stream, scope], names) = words.split_first_chunk()?;
        let names: Vec<u8> = names.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (stream, rest) = names.split_at_checked(stream as usize)?;
        let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (stream, scope) = (name(stream)?, name(rest.get(..scope as usize)?)?);
        Some(Self { root: Key::from_words([k0, k1]), counter, falls_back: falls_back != 0, stream, scope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_is_that_of_flax() {
        let fixture: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/flax.json"))
            .expect("the fixture is JSON");
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
    fn a_stream_round_trips_through_a_tensor() -> Result<()> {
        for (stream, scope) in [("dropout", ""), ("", "layers_0"), ("dropout", "größe"), ("", "")] {
            let mut position = Rngs::new(3).start(stream, scope);
            position.advance();
            assert_eq!(RngStream::from_tensor(&position.to_tensor()?), Some(position));
        }
        assert_eq!(RngStream::from_tensor(&Key::from(3).to_tensor()?), None);
        let cut = Rngs::new(3).start("dropout", "layers_0").to_tensor()?.narrow(0, 0, 9)?;
        assert_eq!(RngStream::from_tensor(&cut), None);
        Ok(())
    }
}
