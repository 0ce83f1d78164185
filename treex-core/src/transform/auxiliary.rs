//! Auxiliary outputs: what a differentiated function hands out beside its loss is a constant.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Shape, Tensor};

use crate::transform::differentiation::Differentiation;
use crate::transform::scope::Scope;
use crate::tree::flat::Leaves;
use crate::tree::handle::Handle;
use crate::tree::kind::Kind;
use crate::tree::leaf::Leaf;
use crate::tree::mode::Mode;
use crate::tree::module::Module;
use crate::tree::object::TreeObject;
use crate::tree::walk::walk_mut;

/// A value that a differentiated function may hand out beside its loss
/// ([`value_and_grad_aux`](crate::Tree::value_and_grad_aux)): tensors, trees, numbers, strings, and containers of these. It
/// is detached at the end, so that a hidden state that is carried to the next step brings no graph along. Only an outer
/// function that is being differentiated, and on which the value depends, still sees it as its own.
///
/// `#[derive(TreeObject)]` implements it for trees; `#[derive(Aux)]` does for other structs and enums:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Aux, Leaf, Parameter, prelude::*};
///
/// #[derive(Aux)]
/// struct Outputs {
///     logits: Tensor,
///     correct: usize,
/// }
///
/// let mut w = Leaf::<Parameter>::new(Tensor::new(&[1f32, -2.], &Device::Cpu)?)?;
/// let ((_, outputs), _) = w.value_and_grad_aux(Parameter, |w| {
///     let logits = (w.get()? * 3.)?;
///     Ok((logits.sum_all()?, Outputs { logits, correct: 1 }))
/// })?;
/// assert!(!outputs.logits.track_op() && outputs.correct == 1);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be handed out of a differentiated function",
    label = "not a tensor, a tree, a number, a string or a container of these",
    note = "derive `Aux` for a struct or an enum of your own"
)]
pub trait Aux {
    /// Replaces each tensor for which `constant` returns another, a constant.
    fn detach_where(&mut self, constant: &dyn Fn(&Tensor) -> Option<Tensor>);
}

/// `x` outside of any graph: `jax.lax.stop_gradient`, for a tensor, a tree or a container of these.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, grad, stop_gradient};
///
/// let x = Leaf::<Parameter>::new(Tensor::new(3f32, &Device::Cpu)?)?;
/// let dx = grad(&x, |x| Ok((x.get()? * stop_gradient(&x.get()?))?))?;
/// assert_eq!(dx.get()?.to_scalar::<f32>()?, 3.);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn stop_gradient<A: Aux + Clone>(x: &A) -> A {
    let mut constant = x.clone();
    constant.detach_where(&|tensor| Some(tensor.detach()));
    constant
}

/// Detaches what no open scope owns, in memory that no later step of `differentiation`'s leaves writes.
pub(crate) fn detach_unowned(aux: &mut impl Aux, differentiation: &Differentiation) {
    aux.detach_where(&|tensor| match Scope::owner_of(tensor) {
        Some(owner) => {
            differentiation.retire(&owner);
            None
        }
        None => Some(differentiation.of_its_own(tensor).unwrap_or_else(|_| tensor.detach())),
    });
}

/// [`Aux::detach_where`] of a tree.
#[doc(hidden)]
pub fn detach_tree<T: TreeObject + ?Sized>(tree: &mut T, constant: &dyn Fn(&Tensor) -> Option<Tensor>) {
    walk_mut(tree, |_, _, leaf| {
        // The leaf may carry a scope that has just closed: an outer one then takes it over.
        let value = leaf.scoped_value().filter(|value| value.track_op() && constant(value).is_none());
        match value.map(Scope::owner_of) {
            Some(owner) => leaf.set_scope(owner),
            None => leaf.release_graph(),
        }
    });
}

/// Implements [`Aux`](crate::Aux) for types that implement `TreeObject` by hand; its derive includes it. Generic
/// parameters stand in brackets: `tree_aux!([T: TreeObject] Wrapper<T>)`.
#[macro_export]
macro_rules! tree_aux {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> $crate::Aux for $type {
            fn detach_where(&mut self, constant: &dyn Fn(&$crate::candle::Tensor) -> Option<$crate::candle::Tensor>) {
                $crate::detach_tree(self, constant);
            }
        }
    )*};
}

tree_aux!([K: Kind] Leaf<K>, [] Handle, [] Leaves, [] Mode, [] dyn Module);

impl Aux for Tensor {
    fn detach_where(&mut self, constant: &dyn Fn(&Tensor) -> Option<Tensor>) {
        if let Some(constant) = constant(self) {
            *self = constant;
        }
    }
}

macro_rules! constants {
    ($($type:ty),*) => {$(
        impl Aux for $type {
            fn detach_where(&mut self, _: &dyn Fn(&Tensor) -> Option<Tensor>) {}
        }
    )*};
}

constants!(bool, char, f32, f64, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);
constants!(String, &str, DType, Device, Shape, std::time::Duration, std::time::Instant);

macro_rules! containers {
    ($([$($generics:tt)*] $type:ty: $each:ident,)*) => {$(
        impl<$($generics)*> Aux for $type {
            fn detach_where(&mut self, constant: &dyn Fn(&Tensor) -> Option<Tensor>) {
                self.$each().for_each(|element| element.detach_where(constant));
            }
        }
    )*};
}

containers! {
    [A: Aux] Option<A>: iter_mut,
    [A: Aux] Vec<A>: iter_mut,
    [A: Aux] [A]: iter_mut,
    [A: Aux, const N: usize] [A; N]: iter_mut,
    [K, A: Aux] BTreeMap<K, A>: values_mut,
    [K, A: Aux, S] HashMap<K, A, S>: values_mut,
}

impl<A: Aux + ?Sized> Aux for Box<A> {
    fn detach_where(&mut self, constant: &dyn Fn(&Tensor) -> Option<Tensor>) {
        (**self).detach_where(constant);
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<$($name: Aux),*> Aux for ($($name,)*) {
            fn detach_where(&mut self, _constant: &dyn Fn(&Tensor) -> Option<Tensor>) {
                $(self.$index.detach_where(_constant);)*
            }
        }
    )*};
}

tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
