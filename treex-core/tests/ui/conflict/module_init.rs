//! `module_init` on an enum.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
#[tree(module_init)]
enum Layer {
    Linear(Leaf<Parameter>),
}

fn main() {}
