//! Types of the standard library that cannot be a part of a tree: each error tells what to use instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use treex_core::{Leaf, Parameter, TreeObject};

#[derive(TreeObject)]
struct Model {
    shared: Arc<Leaf<Parameter>>,
    locked: Mutex<Leaf<Parameter>>,
    closure: Box<dyn Fn(f32) -> f32 + Send + Sync>,
    numbered: BTreeMap<u32, Leaf<Parameter>>,
}

fn main() {}
