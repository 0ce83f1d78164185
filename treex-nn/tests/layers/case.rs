//! The cases of a fixture, and the call of any layer.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{DType, Tensor};
use dyn_clone::DynClone;
use serde_json::Value;
use treex_core::{ModuleId, Result, TreeObject, Visitor, VisitorMut};
use treex_testing::oracle::parse;
pub(crate) use treex_testing::{
    compare::assert_tensors_close as assert_close,
    oracle::{typed_tensor as tensor_of, usize_of},
};

/// A case of `fixtures/layers/*.json`; `oracle.py` there documents its fields.
pub(crate) struct Case {
    pub(crate) layer: String,
    pub(crate) name: String,
    all: Value,
}

impl Case {
    /// All cases of a fixture.
    pub(crate) fn all(fixture: &str) -> Vec<Self> {
        let fixture = parse(fixture);
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let case =
            |case: &Value| Self { layer: text(&case["layer"]), name: text(&case["name"]), all: case.clone() };
        fixture["cases"].as_array().unwrap().iter().map(case).collect()
    }

    pub(crate) fn config(&self, key: &str) -> &Value {
        &self.all["config"][key]
    }

    pub(crate) fn usize(&self, key: &str) -> usize {
        usize_of(self.config(key))
    }

    pub(crate) fn sizes(&self, key: &str) -> Vec<usize> {
        self.config(key).as_array().unwrap().iter().map(usize_of).collect()
    }

    pub(crate) fn f64(&self, key: &str) -> f64 {
        self.config(key).as_f64().unwrap()
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        self.config(key).as_bool().unwrap()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.all.get(key).is_some()
    }

    /// Whether a tensor of the case has no elements.
    pub(crate) fn has_no_elements(&self) -> bool {
        fn is_empty(value: &Value) -> bool {
            match value {
                Value::Object(map) => {
                    let shape = map.get("shape").and_then(Value::as_array);
                    shape.is_some_and(|dims| dims.iter().any(|dim| dim == 0)) || map.values().any(is_empty)
                }
                Value::Array(values) => values.iter().any(is_empty),
                _ => false,
            }
        }
        is_empty(&self.all)
    }

    /// The tensors of a list (`inputs`, `outputs`, ..) in an element type; integers keep theirs, null is none.
    pub(crate) fn list(&self, key: &str, dtype: DType) -> Vec<Option<Tensor>> {
        let list = self.all.get(key).and_then(Value::as_array);
        list.into_iter().flatten().map(|value| (!value.is_null()).then(|| tensor_of(value, dtype))).collect()
    }

    /// [`list`](Self::list) without null.
    pub(crate) fn tensors(&self, key: &str, dtype: DType) -> Vec<Tensor> {
        self.list(key, dtype).into_iter().map(Option::unwrap).collect()
    }

    /// The tensors of a map (`params`, `dparams`, ..) by path, in F64.
    pub(crate) fn map(&self, key: &str) -> BTreeMap<String, Tensor> {
        let tensors = self.all.get(key).and_then(Value::as_object);
        tensors
            .into_iter()
            .flatten()
            .map(|(path, value)| (path.clone(), tensor_of(value, DType::F64)))
            .collect()
    }
}

/// A layer with the call of the case. It is transparent in a tree.
pub(crate) trait Subject: TreeObject + DynClone {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;
}

dyn_clone::clone_trait_object!(Subject);

#[derive(Clone)]
struct Called<L, F> {
    layer: L,
    call: F,
}

/// `layer`, called by `call`.
pub(crate) fn subject<L, F>(layer: L, call: F) -> Box<dyn Subject>
where
    L: TreeObject + Clone + 'static,
    F: Fn(&mut L, &[Tensor]) -> Result<Vec<Tensor>> + Clone + Send + Sync + 'static,
{
    Box::new(Called { layer, call })
}

/// A layer of one input and one output.
pub(crate) fn module<L: treex_core::Module + Clone + 'static>(layer: L) -> Box<dyn Subject> {
    subject(layer, |layer, inputs| Ok(vec![layer.call(&inputs[0])?]))
}

impl<L, F> Subject for Called<L, F>
where
    L: TreeObject + Clone,
    F: Fn(&mut L, &[Tensor]) -> Result<Vec<Tensor>> + Clone + Send + Sync,
{
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        (self.call)(&mut self.layer, inputs)
    }
}

impl<L: TreeObject, F: Send + Sync> TreeObject for Called<L, F> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.layer.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.layer.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        self.layer.identity()
    }

    fn initialize_module(&mut self, key: &mut treex_core::ModuleKey) -> Result<()> {
        self.layer.initialize_module(key)
    }
}

impl fmt::Debug for dyn Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a layer")
    }
}
