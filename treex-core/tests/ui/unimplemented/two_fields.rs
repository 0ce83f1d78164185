//! Two fields at once that are no trees: a map without an order, and a type of one's own.

use std::collections::HashMap;

use treex_core::{Leaf, Parameter, TreeObject};

struct Config {
    width: usize,
}

#[derive(TreeObject)]
struct Model {
    heads: HashMap<String, Leaf<Parameter>>,
    config: Config,
}

#[derive(TreeObject)]
enum Layer {
    Custom(Config),
}

fn main() {}
