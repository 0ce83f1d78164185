//! A method that is announced: on an enum, missing, and with another signature.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
#[tree(module_init)]
enum Layer {
    Linear(Leaf<Parameter>),
}

fn main() {}
