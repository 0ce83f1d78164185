//! A skipped field with a kind or a name.

use treex_core::{OptState, TreeObject};

#[derive(TreeObject)]
struct Model {
    #[tree(skip, kind = OptState)]
    a: u32,
    #[tree(rename = "c")]
    #[tree(skip)]
    b: u32,
}

fn main() {}
