//! Batches and results of a captured step.

use candle_core::{DType, Shape, Tensor};

/// Tensors in a form that does not change from step to step: a tensor, nothing, or a tuple, an array, a `Vec` or an `Option` of
/// such. A batch of a [captured step](crate::capture()), and its result.
pub trait Tensors: Sized {
    /// Passes each tensor to `each`, in order.
    fn each<'t>(&'t self, each: &mut dyn FnMut(&'t Tensor));

    /// The same form with other tensors, one from `next` for each. `None` if there are too few.
    #[must_use]
    fn with(&self, next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self>;
}

/// The element types and shapes of all tensors.
pub(super) type Form = Vec<(DType, Shape)>;

pub(super) fn form<T: Tensors>(tensors: &T) -> Form {
    all(tensors).into_iter().map(|x| (x.dtype(), x.shape().clone())).collect()
}

/// All tensors, in order.
pub(super) fn all<T: Tensors>(tensors: &T) -> Vec<&Tensor> {
    let mut all = Vec::new();
    tensors.each(&mut |tensor| all.push(tensor));
    all
}

/// The same form with these tensors.
pub(super) fn with<T: Tensors>(form: &T, tensors: Vec<Tensor>) -> Option<T> {
    let mut tensors = tensors.into_iter();
    form.with(&mut || tensors.next())
}

impl Tensors for Tensor {
    fn each<'t>(&'t self, each: &mut dyn FnMut(&'t Tensor)) {
        each(self);
    }

    fn with(&self, next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self> {
        next()
    }
}

impl<T: Tensors> Tensors for Vec<T> {
    fn each<'t>(&'t self, each: &mut dyn FnMut(&'t Tensor)) {
        self.iter().for_each(|part| part.each(each));
    }

    fn with(&self, next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self> {
        self.iter().map(|part| part.with(next)).collect()
    }
}

impl<T: Tensors> Tensors for Option<T> {
    fn each<'t>(&'t self, each: &mut dyn FnMut(&'t Tensor)) {
        self.iter().for_each(|part| part.each(each));
    }

    fn with(&self, next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self> {
        match self {
            Some(part) => part.with(next).map(Some),
            None => Some(None),
        }
    }
}

impl<T: Tensors, const N: usize> Tensors for [T; N] {
    fn each<'t>(&'t self, each: &mut dyn FnMut(&'t Tensor)) {
        self.iter().for_each(|part| part.each(each));
    }

    fn with(&self, next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self> {
        let parts: Option<Vec<_>> = self.iter().map(|part| part.with(next)).collect();
        parts?.try_into().ok()
    }
}

macro_rules! tuples {
    ($($(($type:ident $field:tt))*;)*) => {$(
        impl<$($type: Tensors),*> Tensors for ($($type,)*) {
            fn each<'t>(&'t self, _each: &mut dyn FnMut(&'t Tensor)) {
                $(self.$field.each(_each);)*
            }

            fn with(&self, _next: &mut dyn FnMut() -> Option<Tensor>) -> Option<Self> {
                Some(($(self.$field.with(_next)?,)*))
            }
        }
    )*};
}

tuples! {
    ;
    (A 0);
    (A 0) (B 1);
    (A 0) (B 1) (C 2);
    (A 0) (B 1) (C 2) (D 3);
    (A 0) (B 1) (C 2) (D 3) (E 4);
    (A 0) (B 1) (C 2) (D 3) (E 4) (F 5);
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_form_takes_other_tensors_in_order() {
        let scalar = |x: f32| Tensor::new(x, &Device::Cpu).expect("a scalar");
        let form = (scalar(0.), [Some(scalar(1.)), None], vec![((), scalar(2.))]);
        let other = with(&form, vec![scalar(3.), scalar(4.), scalar(5.)]).expect("three");
        let numbers: Vec<f32> = all(&other).into_iter().map(|x| x.to_scalar().expect("a scalar")).collect();
        assert_eq!(numbers, [3., 4., 5.]);
        assert!(other.1[1].is_none() && with(&form, vec![scalar(3.)]).is_none());
    }
}
