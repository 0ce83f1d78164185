//! Names that are not path segments, and duplicate names.

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
struct Model {
    #[tree(rename = "")]
    a: Leaf<Parameter>,
    #[tree(rename = "encoder.kernel")]
    b: Leaf<Parameter>,
    #[tree(rename = "d")]
    c: Leaf<Parameter>,
    d: Leaf<Parameter>,
}

#[derive(TreeObject)]
enum Layer {
    Pair {
        left: Leaf<Parameter>,
        #[tree(rename = "left")]
        right: Leaf<Parameter>,
    },
}

#[derive(TreeObject)]
struct Tuple(Leaf<Parameter>, #[tree(rename = "0")] Leaf<Parameter>);

fn main() {}
