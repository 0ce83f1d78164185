//! Unknown attributes, on a struct and on fields: similar to a known one, dissimilar, and in the wrong place.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
#[tree(module_inti, crate = "treex_core")]
struct Model {
    #[tree(skipp)]
    a: Leaf<Parameter>,
    #[tree(frozen = true, kin = Parameter)]
    b: Leaf<Parameter>,
    #[tree(static_(x, y))]
    c: Leaf<Parameter>,
    #[tree(module_init)]
    d: Leaf<Parameter>,
}

#[derive(TreeObject)]
#[tree(skip)]
struct Skipped;

fn main() {}
