//! A union.

use treex_core::TreeObject;

#[derive(TreeObject)]
union Either {
    a: u32,
    b: f32,
}

fn main() {}
