//! An attribute where it has no meaning.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
enum Layer {
    #[tree(rename = "linear")]
    Linear(Leaf<Parameter>),
    Identity,
}

fn main() {}
