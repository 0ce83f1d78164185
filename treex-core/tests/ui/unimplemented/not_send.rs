//! A tree that is not `Send`.

use std::rc::Rc;

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
struct Model {
    kernel: Leaf<Parameter>,
    #[tree(skip)]
    shared: Rc<u32>,
}

fn main() {}
