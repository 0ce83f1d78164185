//! Kinds: the role of a leaf, as a type.
//!
//! ```text
//! TreePart                      the root: every leaf is one
//! ├── Parameter                 trained; the only built-in kind with gradients
//! └── State                     written by the module itself
//!     ├── Rng                   a random key
//!     ├── BatchStat             running statistics
//!     ├── Cache                 the state of autoregressive decoding
//!     ├── Intermediate          values recorded in the last call
//!     ├── MetricState           the accumulators of a metric
//!     └── OptState              the state of an optimizer
//! ```
//!
//! A kind selects itself and everything below it: `model.filter(State)` holds keys, statistics and
//! caches; [`exactly`](crate::exactly) stops at the kind itself. [`kind!`](crate::kind!) adds one.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

/// The role of a leaf, as a zero-sized type that is also a value (and a [`Filter`](crate::Filter)).
///
/// Declare kinds with [`kind!`](crate::kind!), which writes the implementation and the operators.
pub trait Kind: Copy + Send + Sync + 'static {
    /// The kind above; the root is its own parent.
    type Parent: Kind;
    /// The name in tables, checkpoints and messages.
    const NAME: &'static str;
    /// Whether leaves of this kind can have gradients. Default: as the parent.
    const DIFFERENTIABLE: bool = <Self::Parent as Kind>::DIFFERENTIABLE;
}

/// A [`Kind`] at run time: comparable, printable, with access to its parents.
#[derive(Clone, Copy)]
pub struct KindTag(&'static KindInfo);

/// The constants of a kind; a tag points to it.
struct KindInfo {
    id: TypeId,
    name: &'static str,
    differentiable: bool,
    parent: fn() -> KindTag,
}

/// Holds the [`KindInfo`] of `K`.
struct InfoOf<K>(PhantomData<K>);

impl<K: Kind> InfoOf<K> {
    const INFO: &'static KindInfo = &KindInfo {
        id: TypeId::of::<K>(),
        name: K::NAME,
        differentiable: K::DIFFERENTIABLE,
        parent: KindTag::of::<K::Parent>,
    };
}

impl KindTag {
    /// The tag of `K`.
    #[must_use]
    pub fn of<K: Kind>() -> Self {
        Self(InfoOf::<K>::INFO)
    }

    /// The name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether leaves of this kind can have gradients.
    #[must_use]
    pub fn is_differentiable(self) -> bool {
        self.0.differentiable
    }

    /// The kind above, or `None` at the root.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        let parent = (self.0.parent)();
        (parent != self).then_some(parent)
    }

    /// Whether this is `kind` or below it.
    #[must_use]
    pub fn is(self, kind: Self) -> bool {
        let mut at = self;
        while at != kind {
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        true
    }
}

impl PartialEq for KindTag {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.0.id == other.0.id
    }
}

impl Eq for KindTag {}

impl fmt::Debug for KindTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for KindTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

/// Declares a kind: `kind!(pub LoraParam: Parameter);`.
///
/// A kind is differentiable if its parent is; `kind!(pub Ema: State, differentiable = true);` overrides
/// that. Doc comments and attributes are kept.
///
/// ```
/// use treex_core::{Leaf, Parameter, Path, TreePart, kind, prelude::*};
///
/// kind!(
///     /// Past observations of an agent.
///     pub Memory: TreePart
/// );
///
/// #[derive(Clone, Debug, TreeObject)]
/// struct Agent {
///     policy: Leaf<Parameter>,
///     memory: Leaf<Memory>,
/// }
///
/// let zeros = candle_core::Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu)?;
/// let agent = Agent { policy: Leaf::new(&zeros)?, memory: Leaf::new(&zeros)? };
/// assert!(agent.filter(Memory).policy.is_nothing());
/// assert!(!agent.filter(Memory).memory.is_nothing());
/// # Ok::<(), treex_core::Error>(())
/// ```
#[macro_export]
macro_rules! kind {
    ($(#[$meta:meta])* $vis:vis $name:ident : $parent:ty $(, differentiable = $diff:expr)? $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        $vis struct $name;

        impl $crate::Kind for $name {
            type Parent = $parent;
            const NAME: &'static str = ::std::stringify!($name);
            $(const DIFFERENTIABLE: bool = $diff;)?
        }

        $crate::__filter_operators!($name);
    };
}

kind!(
    /// The root of all kinds: `filter(TreePart)` selects every leaf. Never differentiated by itself.
    pub TreePart: TreePart,
    differentiable = false
);
kind!(
    /// Trained values. Written by an optimizer, saved, differentiated; excluded from training by
    /// [`freeze`](crate::Tree::freeze).
    pub Parameter: TreePart,
    differentiable = true
);
kind!(
    /// State that a module writes itself, through `&mut self`. Saved, not differentiated, read-only after
    /// [`freeze`](crate::Tree::freeze).
    pub State: TreePart
);
kind!(
    /// A random key ([`Key`](crate::random::Key)), on the host. Advanced by each draw, and saved, so that
    /// resumed training draws the same numbers.
    pub Rng: State
);
kind!(
    /// Running statistics of a normalization layer. Written in training, read in evaluation, saved.
    pub BatchStat: State
);
kind!(
    /// The state of autoregressive decoding. Written at each step, saved if selected.
    pub Cache: State
);
kind!(
    /// Values that a module records in a call: Flax's collection `intermediates`. Exclude them
    /// from a checkpoint with `model.filter(!Intermediate)`.
    pub Intermediate: State
);
kind!(
    /// The accumulators of a metric.
    pub MetricState: State
);
kind!(
    /// The state of an optimizer: moments, counts, schedules. Written by its `update`, saved.
    pub OptState: State
);

#[cfg(test)]
mod tests {
    use super::*;

    kind!(Lora: Parameter);
    kind!(Trained: State, differentiable = true);

    #[test]
    fn hierarchy() {
        let [root, parameter, state, rng, lora] = [
            KindTag::of::<TreePart>(),
            KindTag::of::<Parameter>(),
            KindTag::of::<State>(),
            KindTag::of::<Rng>(),
            KindTag::of::<Lora>(),
        ];
        assert!(rng.is(state) && rng.is(root) && !rng.is(parameter) && !state.is(rng));
        assert!(lora.is(parameter) && !parameter.is(lora));
        assert_eq!(root.parent(), None);
        assert_eq!(lora.parent(), Some(parameter));
    }

    #[test]
    fn differentiable_defaults_to_the_parents() {
        assert!(KindTag::of::<Lora>().is_differentiable());
        assert!(KindTag::of::<Trained>().is_differentiable());
        for tag in [KindTag::of::<TreePart>(), KindTag::of::<Rng>(), KindTag::of::<OptState>()] {
            assert!(!tag.is_differentiable(), "{tag}");
        }
    }
}
