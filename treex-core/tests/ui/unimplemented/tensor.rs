//! A plain tensor, whose kind is unknown.

use candle_core::Tensor;
use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
struct Model {
    kernel: Leaf<Parameter>,
    mean: Tensor,
}

fn main() {}
