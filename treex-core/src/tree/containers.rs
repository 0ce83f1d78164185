//! `TreeObject` for types of the standard library: containers of trees, and constants, which have no leaves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroUsize,
};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::init::module_key::ModuleKey;
use crate::tree::kind::{Kind, KindTag};
use crate::tree::leaf::Leaf;
use crate::tree::map_key::MapKey;
use crate::tree::mode::Mode;
use crate::tree::object::{ChildInfo, TreeObject, Visitor, VisitorMut};
use crate::tree::path::{ModuleId, Segment};

impl<K: Kind> TreeObject for Leaf<K> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.leaf(KindTag::of::<K>(), &self.handle);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        visitor.leaf(KindTag::of::<K>(), &mut self.handle);
    }
}

impl TreeObject for Mode {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.mode(self);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        visitor.mode(self);
    }
}

/// Transparent: a box adds no path segment.
impl<T: TreeObject + ?Sized> TreeObject for Box<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        (**self).visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        (**self).visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        (**self).identity()
    }

    fn origin(&self) -> Option<String> {
        (**self).origin()
    }

    fn initialize_module(&mut self, key: &mut ModuleKey) -> Result<()> {
        (**self).initialize_module(key)
    }
}

/// Transparent: `Some` adds no path segment, `None` has no leaves.
impl<T: TreeObject> TreeObject for Option<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        if let Some(tree) = self {
            tree.visit(visitor);
        }
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        if let Some(tree) = self {
            tree.visit_mut(visitor);
        }
    }

    fn identity(&self) -> Option<ModuleId> {
        self.as_ref().and_then(T::identity)
    }

    fn origin(&self) -> Option<String> {
        self.as_ref().and_then(T::origin)
    }

    fn initialize_module(&mut self, key: &mut ModuleKey) -> Result<()> {
        self.as_mut().map_or(Ok(()), |tree| tree.initialize_module(key))
    }
}

macro_rules! sequence {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> TreeObject for $type {
            fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
                for (index, tree) in self.iter().enumerate() {
                    visitor.child(ChildInfo::new(&[Segment::Index(index)]), tree);
                }
            }

            fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
                for (index, tree) in self.iter_mut().enumerate() {
                    visitor.child(ChildInfo::new(&[Segment::Index(index)]), tree);
                }
            }
        }
    )*};
}

sequence!([T: TreeObject] Vec<T>, [T: TreeObject, const N: usize] [T; N]);

/// Children in key order; the keys become path segments.
impl<K: MapKey, T: TreeObject> TreeObject for BTreeMap<K, T> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        for (key, tree) in self {
            visitor.child(ChildInfo::new(&[Segment::Key(Arc::from(key.segment()))]), tree);
        }
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        for (key, tree) in self {
            visitor.child(ChildInfo::new(&[Segment::Key(Arc::from(key.segment()))]), tree);
        }
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<$($name: TreeObject),*> TreeObject for ($($name,)*) {
            fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
                $(visitor.child(ChildInfo::new(&[Segment::Index($index)]), &self.$index);)*
            }

            fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
                $(visitor.child(ChildInfo::new(&[Segment::Index($index)]), &mut self.$index);)*
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

macro_rules! constant {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> TreeObject for $type {
            fn visit<'a>(&'a self, _: &mut dyn Visitor<'a>) {}
            fn visit_mut<'a>(&'a mut self, _: &mut dyn VisitorMut<'a>) {}
        }
    )*};
}

constant!([] (), [] bool, [] char, [] String, [] &'static str);
constant!([] u8, [] u16, [] u32, [] u64, [] u128, [] usize);
constant!([] i8, [] i16, [] i32, [] i64, [] i128, [] isize);
constant!([] f32, [] f64, [] half::f16, [] half::bf16);
constant!([] candle_core::DType, [] candle_core::Device, [] candle_core::Shape);
constant!([T: Send + Sync] PhantomData<T>);
constant!([] str, [] Arc<str>, [] Cow<'static, str>, [] PathBuf, [] Duration);
constant!([] NonZeroU8, [] NonZeroU16, [] NonZeroU32, [] NonZeroU64, [] NonZeroUsize);
constant!([] NonZeroI8, [] NonZeroI16, [] NonZeroI32, [] NonZeroI64, [] NonZeroIsize);
constant!([T: Send + Sync] Range<T>, [T: Send + Sync] RangeInclusive<T>);
constant!([R] fn() -> R, [A: ?Sized, R] fn(&A) -> R, [A: ?Sized, B: ?Sized, R] fn(&A, &B) -> R);
