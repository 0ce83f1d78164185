//! Where the random keys of a step come from: derivations from the keys that its trees hold, so that those of later steps are
//! known.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::random::Key;
use crate::random::log::Derived;
use crate::random::stream::RngStream;

/// What a leaf of random state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Key(Key),
    Stream(RngStream),
}

impl Root {
    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        match self {
            Self::Key(key) => key.to_tensor(),
            Self::Stream(position) => position.to_tensor(),
        }
    }
}

/// How a key is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It is held by this leaf.
    Root(usize),
    /// The block of another key at an index: a part of a split, or a number folded in.
    Block(usize, u64),
    /// The key of this leaf's stream so many positions on.
    Stream(usize, u32),
}

/// The keys of a step.
#[derive(Debug, Default)]
pub(super) struct Keys {
    roots: Vec<Option<Root>>,
    /// Each key, behind the keys that it comes from, with every way in which it was derived.
    derived: Vec<(Key, Vec<Origin>)>,
    numbers: HashMap<Key, usize>,
}

impl Keys {
    /// The keys that these leaves hold; `None` is a leaf of another kind.
    pub(super) fn new(roots: Vec<Option<Root>>) -> Self {
        let mut keys = Self::default();
        for (leaf, root) in roots.iter().enumerate() {
            if let Some(Root::Key(key)) = root {
                keys.add(*key, Origin::Root(leaf));
            }
        }
        Self { roots, ..keys }
    }

    fn add(&mut self, key: Key, origin: Origin) {
        let number = self.number(key);
        let origins = &mut self.derived[number].1;
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }

    /// Adds what was derived.
    pub(super) fn read(&mut self, log: Vec<Derived>) {
        for derived in log {
            match derived {
                Derived::Block { parent, index, child } => {
                    self.block(Key::from_words(parent), index, Key::from_words(child));
                }
                Derived::Drawn { position, child } => {
                    if let Some(position) = RngStream::from_words(&position) {
                        self.drawn(&position, Key::from_words(child));
                    }
                }
            }
        }
    }

    /// `child` is the block of `parent` at `index`.
    fn block(&mut self, parent: Key, index: u64, child: Key) {
        if let Some(&parent) = self.numbers.get(&parent) {
            self.add(child, Origin::Block(parent, index));
        }
    }

    /// `key` was drawn from a stream, which is now at `position`.
    fn drawn(&mut self, position: &RngStream, key: Key) {
        let leaf = self.roots.iter().position(
            |root| matches!(root, Some(Root::Stream(start)) if position.steps_from(start).is_some()),
        );
        if let Some(leaf) = leaf
            && let Some(Root::Stream(start)) = &self.roots[leaf]
            && let Some(steps) = position.steps_from(start)
        {
            self.add(key, Origin::Stream(leaf, steps));
        }
    }

    /// The number of a key. One that comes from no root is the same in each step.
    pub(super) fn number(&mut self, key: Key) -> usize {
        *self.numbers.entry(key).or_insert_with(|| {
            self.derived.push((key, Vec::new()));
            self.derived.len() - 1
        })
    }

    /// What the leaf at a position holds in the next step, if `held` is what it held behind this one. `None` if that does not come
    /// from a root.
    pub(super) fn next(&self, leaf: usize, held: &Root) -> Option<Next> {
        match (held, self.roots.get(leaf)?.as_ref()?) {
            (Root::Key(key), _) => self.numbers.get(key).copied().map(Next::Key),
            (Root::Stream(position), Root::Stream(start)) => position.steps_from(start).map(Next::Steps),
            (Root::Stream(_), Root::Key(_)) => None,
        }
    }

    /// All keys, if the leaves hold `roots`.
    fn values(&self, roots: &[Option<Root>]) -> Result<Vec<Key>> {
        let mut values: Vec<Key> = Vec::with_capacity(self.derived.len());
        for (key, origins) in &self.derived {
            let of = |origin: &Origin| match *origin {
                Origin::Root(leaf) => match &roots[leaf] {
                    Some(Root::Key(key)) => *key,
                    _ => *key,
                },
                Origin::Block(parent, index) => values[parent].block_at(index),
                Origin::Stream(leaf, steps) => match &roots[leaf] {
                    Some(Root::Stream(start)) => start.key_after(steps),
                    _ => *key,
                },
            };
            let mut all = origins.iter().map(of);
            let value = all.next().unwrap_or(*key);
            if all.any(|other| other != value) {
                let message =
                    "a random key of a captured step is that of two leaves, which go different ways";
                return Err(Error::new(ErrorKind::Argument, message)
                    .found(format!("{:?}", key.words()))
                    .remedy("give each leaf a key of its own, by `split`"));
            }
            values.push(value);
        }
        Ok(values)
    }

    /// For each of `steps` steps, from the one that was recorded on: all keys, and what the leaves hold behind it, where `next`
    /// says how.
    pub(super) fn ahead(&self, steps: usize, next: &[Option<Next>]) -> Result<Vec<Step>> {
        let mut roots = self.roots.clone();
        (0..steps)
            .map(|_| {
                let keys = self.values(&roots)?;
                for (root, next) in roots.iter_mut().zip(next) {
                    match (next, &mut *root) {
                        (Some(Next::Key(number)), root) => *root = Some(Root::Key(keys[*number])),
                        (Some(Next::Steps(steps)), Some(Root::Stream(position))) => position.counter += steps,
                        _ => {}
                    }
                }
                Ok(Step { keys, held: roots.clone() })
            })
            .collect()
    }
}

/// How what a leaf holds goes on from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the key of this number.
    Key(usize),
    /// Its stream is so many positions on.
    Steps(u32),
}

/// The keys of a step, and what leaves hold behind it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) keys: Vec<Key>,
    pub(super) held: Vec<Option<Root>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Rngs;

    /// A step that draws from a key by `split`, twice, and folds a number in.
    fn draw(keys: &mut Keys, held: Key) -> (Key, Key) {
        let mut split = |key: Key| {
            let parts = [0, 1].map(|index| key.block_at(index));
            (0..2).for_each(|index| keys.block(key, index, parts[index as usize]));
            parts
        };
        let [_, kept] = split(held);
        let [used, kept] = split(kept);
        let folded = used.block_at(7);
        keys.block(used, 7, folded);
        (folded, kept)
    }

    #[test]
    fn keys_of_later_steps_are_those_of_steps_one_by_one() -> Result<()> {
        let mut keys = Keys::new(vec![None, Some(Root::Key(Key::from(3)))]);
        let (folded, kept) = draw(&mut keys, Key::from(3));
        let next = [None, keys.next(1, &Root::Key(kept))];
        let (folded, mut held) = (keys.number(folded), Key::from(3));
        for step in keys.ahead(5, &next)? {
            let expected = draw(&mut Keys::default(), held);
            assert_eq!((step.keys[folded], &step.held[1]), (expected.0, &Some(Root::Key(expected.1))));
            held = expected.1;
        }
        let fixed = keys.number(Key::from(4));
        assert!(keys.ahead(3, &next)?.iter().all(|step| step.keys[fixed] == Key::from(4)));
        Ok(())
    }

    #[test]
    fn keys_of_streams() -> Result<()> {
        let start = Rngs::new(3).start("dropout", "layers_0");
        let mut keys = Keys::new(vec![Some(Root::Stream(start.clone()))]);
        let mut position = start.clone();
        let drawn = [position.advance(), position.advance()];
        let mut at = start.clone();
        for key in drawn {
            at.advance();
            keys.drawn(&at, key);
        }
        let next = [keys.next(0, &Root::Stream(position))];
        assert_eq!(next, [Some(Next::Steps(2))]);
        let mut expected = start;
        for step in keys.ahead(3, &next)? {
            let both = drawn.map(|key| step.keys[keys.number(key)]);
            assert_eq!(both, [expected.advance(), expected.advance()]);
            assert_eq!(step.held, [Some(Root::Stream(expected.clone()))]);
        }
        Ok(())
    }

    #[test]
    fn one_key_in_two_leaves_that_go_different_ways_is_an_error() -> Result<()> {
        let root = Some(Root::Key(Key::from(3)));
        let mut keys = Keys::new(vec![root.clone(), root]);
        let (_, kept) = draw(&mut keys, Key::from(3));
        let on = keys.next(0, &Root::Key(kept));
        assert_eq!(keys.ahead(4, &[on, on])?.len(), 4);
        let error = keys.ahead(4, &[on, None]).expect_err("they differ").to_string();
        assert!(error.contains("two leaves") && error.contains("`split`"), "{error}");
        Ok(())
    }
}
