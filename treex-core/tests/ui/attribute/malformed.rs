//! Attributes with missing, surplus or invalid content.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
#[tree]
struct Model {
    #[tree = "skip"]
    a: Leaf<Parameter>,
    #[tree()]
    b: Leaf<Parameter>,
    #[tree(skip = true)]
    c: Leaf<Parameter>,
    #[tree(rename)]
    d: Leaf<Parameter>,
    #[tree(rename = weight, skip, knd = Parameter)] // three on one field, two of them wrong
    e: Leaf<Parameter>,
    #[tree(kind = "Parameter")]
    f: Leaf<Parameter>,
    #[tree("skip")]
    g: Leaf<Parameter>,
}

fn main() {}
