//! A type that is not a kind.

use treex_core::{Leaf, Parameter, TreeObject};

struct NotAKind;

#[derive(TreeObject)]
struct Model {
    #[tree(kind = NotAKind)]
    a: Leaf<Parameter>,
    #[tree(kind = Unknown)]
    b: Leaf<Parameter>,
}

fn main() {}
