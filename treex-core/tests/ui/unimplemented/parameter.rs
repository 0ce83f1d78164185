//! A generic model used with a type that is not a tree.

use treex_core::{Leaf, Parameter, TreeObject, prelude::*};

#[derive(Clone, TreeObject)]
struct Wrapper<M> {
    inner: M,
    scale: Leaf<Parameter>,
}

fn main() {
    fn count<M: Clone>(wrapper: &Wrapper<M>) -> usize
    where
        Wrapper<M>: TreeObject,
    {
        wrapper.count(Parameter)
    }
    let _ = count::<std::rc::Rc<u32>>;
}
