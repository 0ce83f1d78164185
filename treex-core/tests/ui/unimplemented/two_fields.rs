//! Two fields that are not trees: an unordered map, and a user's type.

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
