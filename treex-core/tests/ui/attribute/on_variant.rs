//! An attribute on a variant.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
enum Layer {
    #[tree(rename = "linear")]
    Linear(Leaf<Parameter>),
    Identity,
}

fn main() {}
