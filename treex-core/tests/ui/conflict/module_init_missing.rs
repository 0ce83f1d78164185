//! A `module_init` that is missing, and one with a wrong signature.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
#[tree(module_init)]
struct Missing {
    a: Leaf<Parameter>,
}

#[derive(TreeObject)]
#[tree(module_init)]
struct Other {
    a: Leaf<Parameter>,
}

impl Other {
    fn module_init(&mut self) {}
}

fn main() {}
