//! An attribute given twice, in one list and in two.

use treex_core::{Leaf, OptState, Parameter, TreeObject};

#[derive(TreeObject)]
struct Model {
    #[tree(rename = "a", rename = "b")]
    a: Leaf<Parameter>,
    #[tree(kind = OptState)]
    #[tree(kind = OptState)]
    b: Leaf<Parameter>,
}

fn main() {}
