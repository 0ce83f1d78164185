//! The trees that a captured step holds.

use crate::tree::object::TreeObject;

/// The types of the trees that a [captured step](crate::capture()) holds, and how its function gets them.
pub trait Trees: 'static {
    /// A mutable reference to each.
    type Refs<'r>;
}

/// Trees that are held by mutable references: one, or a tuple of up to four.
pub trait Held {
    /// The types of the trees.
    type Trees: Trees;

    /// The same references for a shorter time.
    fn again(&mut self) -> <Self::Trees as Trees>::Refs<'_>;

    /// The trees, to read.
    fn trees(&self) -> Vec<&dyn TreeObject>;

    /// The trees, to write.
    fn trees_mut(&mut self) -> Vec<&mut dyn TreeObject>;
}

impl<A: TreeObject + 'static> Trees for (A,) {
    type Refs<'r> = &'r mut A;
}

impl<A: TreeObject + 'static> Held for &mut A {
    type Trees = (A,);

    fn again(&mut self) -> &mut A {
        self
    }

    fn trees(&self) -> Vec<&dyn TreeObject> {
        vec![&**self]
    }

    fn trees_mut(&mut self) -> Vec<&mut dyn TreeObject> {
        vec![&mut **self]
    }
}

macro_rules! tuples {
    ($($(($type:ident $field:tt))*;)*) => {$(
        impl<$($type: TreeObject + 'static),*> Trees for ($($type,)*) {
            type Refs<'r> = ($(&'r mut $type,)*);
        }

        impl<$($type: TreeObject + 'static),*> Held for ($(&mut $type,)*) {
            type Trees = ($($type,)*);

            fn again(&mut self) -> ($(&mut $type,)*) {
                ($(&mut *self.$field,)*)
            }

            fn trees(&self) -> Vec<&dyn TreeObject> {
                vec![$(&*self.$field),*]
            }

            fn trees_mut(&mut self) -> Vec<&mut dyn TreeObject> {
                vec![$(&mut *self.$field),*]
            }
        }
    )*};
}

tuples! {
    (A 0) (B 1);
    (A 0) (B 1) (C 2);
    (A 0) (B 1) (C 2) (D 3);
}
