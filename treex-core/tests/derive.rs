//! The derived implementations: leaves, their order, paths and kinds.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use treex_core::{
    BatchStat, Kind, Leaf, Mode, ModuleKey, OptState, Parameter, Result, Rng, TreePart, prelude::*,
};
use treex_testing::device;

fn leaf<K: Kind>() -> Leaf<K> {
    Leaf::new(Tensor::zeros(1, DType::F32, device()).unwrap()).unwrap()
}

/// Paths and kinds, `path: Kind`, in order.
fn leaves(tree: &(impl TreeObject + Clone)) -> Vec<String> {
    tree.leaves().into_iter().map(|(path, kind, _)| format!("{path}: {kind}")).collect()
}

#[derive(Clone, TreeObject)]
struct Named {
    z: Leaf<Parameter>,
    a: Leaf<BatchStat>,
    r#type: Leaf<Rng>,
    #[tree(rename = "renamed")]
    b: Leaf<Parameter>,
    #[tree(skip)]
    _skipped: Option<std::sync::mpsc::SyncSender<u8>>,
}

fn named() -> Named {
    Named { z: leaf(), a: leaf(), r#type: leaf(), b: leaf(), _skipped: None }
}

#[test]
fn field_order_names_and_attributes() {
    assert_eq!(leaves(&named()), ["z: Parameter", "a: BatchStat", "type: Rng", "renamed: Parameter"]);
    assert_eq!(TreeObject::module_name(&named()), Some("Named"));
}

#[derive(Clone, TreeObject)]
struct Tuple(Leaf<Parameter>, u32, #[tree(skip)] u8, Named);

#[derive(Clone, TreeObject)]
struct Unit;

#[test]
fn tuple_and_unit_structs() {
    let tuple = Tuple(leaf(), 1, 2, named());
    assert_eq!(leaves(&tuple)[..2], ["0: Parameter", "3.z: Parameter"]);
    assert!(leaves(&Unit).is_empty());
    assert_eq!((tuple.1, tuple.2), (1, 2));
}

#[derive(Clone, TreeObject)]
struct Containers {
    list: Vec<Leaf<Parameter>>,
    array: [Leaf<BatchStat>; 2],
    pair: (Leaf<Parameter>, Box<Leaf<Rng>>),
    some: Option<Leaf<Parameter>>,
    none: Option<Leaf<Parameter>>,
    map: BTreeMap<String, Vec<Leaf<Parameter>>>,
    constants: (bool, f64, String, DType, PhantomData<u8>),
    function: fn(&Tensor) -> Result<Tensor>,
    mode: Mode,
}

/// Constants of the standard library, none of which needs `skip`.
#[derive(Clone, TreeObject)]
struct Constants<T> {
    leaf: Leaf<Parameter>,
    count: std::num::NonZeroUsize,
    small: Option<std::num::NonZeroI8>,
    time: std::time::Duration,
    file: std::path::PathBuf,
    rows: std::ops::Range<usize>,
    closed: std::ops::RangeInclusive<i64>,
    shared: Arc<str>,
    boxed: Box<str>,
    either: std::borrow::Cow<'static, str>,
    maps: (BTreeMap<Arc<str>, u8>, BTreeMap<&'static str, u8>),
    by_value: fn(f32, [u8; 3]) -> f32,
    mixed: fn(&str, usize, &mut Vec<T>) -> Option<T>,
    unsafe_one: unsafe extern "C" fn(*const u8),
}

#[test]
fn constants_have_no_leaves() {
    fn mixed(_: &str, _: usize, list: &mut Vec<u8>) -> Option<u8> {
        list.pop()
    }
    unsafe extern "C" fn foreign(_: *const u8) {}
    let constants = Constants {
        leaf: leaf(),
        count: std::num::NonZeroUsize::MIN,
        small: None,
        time: std::time::Duration::from_secs(1),
        file: "file".into(),
        rows: 0..3,
        closed: -1..=1,
        shared: "a".into(),
        boxed: "b".into(),
        either: "c".into(),
        maps: (BTreeMap::from([("d".into(), 1)]), BTreeMap::from([("e", 2)])),
        by_value: |x, _| x,
        mixed,
        unsafe_one: foreign,
    };
    assert_eq!(leaves(&constants), ["leaf: Parameter"]);
    assert_eq!((constants.by_value)(2., [0; 3]), 2.);
    assert_eq!((constants.mixed)("", 0, &mut vec![3]), Some(3));
    let _ = constants.unsafe_one;
}

/// A string of one's own as the key of a map.
#[test]
fn keys_of_maps_are_strings() {
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Name(String);
    impl treex_core::MapKey for Name {
        fn segment(&self) -> &str {
            &self.0
        }
    }
    let tree = BTreeMap::from([(Name("b".into()), leaf::<Parameter>()), (Name("a".into()), leaf())]);
    assert_eq!(leaves(&tree), ["a: Parameter", "b: Parameter"]);
}

#[test]
fn containers_and_constants() {
    let tree = Containers {
        list: vec![leaf(), leaf()],
        array: [leaf(), leaf()],
        pair: (leaf(), Box::new(leaf())),
        some: Some(leaf()),
        none: None,
        map: BTreeMap::from([("y".into(), vec![leaf()]), ("x".into(), vec![leaf()])]),
        constants: (true, 0.5, "text".into(), DType::F32, PhantomData),
        function: |x| Ok(x.clone()),
        mode: Mode::default(),
    };
    let expected = [
        "list.0: Parameter",
        "list.1: Parameter",
        "array.0: BatchStat",
        "array.1: BatchStat",
        "pair.0: Parameter",
        "pair.1: Rng",
        "some: Parameter",
        "map.x.0: Parameter",
        "map.y.0: Parameter",
    ];
    assert_eq!(leaves(&tree), expected);
    assert!((tree.function)(&tree.some.unwrap().get().unwrap()).is_ok());
}

#[derive(Clone, TreeObject)]
enum Layer {
    Inner(Named),
    Boxed(Box<Layer>),
    Retagged(#[tree(kind = OptState)] Named),
    Skipped(
        #[tree(skip)]
        #[allow(dead_code)]
        u8,
    ),
    Two(Leaf<Parameter>, Leaf<BatchStat>),
    Fields {
        left: Leaf<Parameter>,
        #[tree(rename = "other")]
        right: Leaf<Parameter>,
    },
    Unit,
}

#[derive(Clone, TreeObject)]
enum Never {}

#[test]
fn an_enum_is_transparent() {
    let first = |layer: &Layer| leaves(layer).first().cloned().unwrap_or_default();
    let boxed = Layer::Boxed(Box::new(Layer::Inner(named())));
    assert_eq!(first(&boxed), "z: Parameter");
    assert_eq!(boxed.module_name(), Some("Named"));
    assert_eq!(leaves(&Layer::Retagged(named()))[..2], ["z: OptState", "a: OptState"]);
    assert_eq!(leaves(&Layer::Two(leaf(), leaf())), ["0: Parameter", "1: BatchStat"]);
    assert_eq!(
        leaves(&Layer::Fields { left: leaf(), right: leaf() }),
        ["left: Parameter", "other: Parameter"]
    );
    assert!(leaves(&Layer::Unit).is_empty() && leaves(&Layer::Skipped(1)).is_empty());
    assert_eq!(Layer::Unit.module_name(), None);
    assert!(leaves(&None::<Never>).is_empty());
}

#[derive(Clone, TreeObject)]
struct Generic<'a, K, M, const N: usize>
where
    M: Clone,
{
    kind: Leaf<K>,
    inner: [M; N],
    name: &'a Label,
    nested: Option<Box<Generic<'a, K, M, N>>>,
    #[tree(skip)]
    _function: PhantomData<M>,
}

/// A constant behind a reference needs a manual implementation.
#[derive(Clone)]
struct Label;

impl TreeObject for &Label {
    fn visit<'t>(&'t self, _: &mut dyn treex_core::Visitor<'t>) {}
    fn visit_mut<'t>(&'t mut self, _: &mut dyn treex_core::VisitorMut<'t>) {}
}

#[derive(Clone, TreeObject)]
#[tree(bound = "T: Kind", crate = "treex_core")]
struct Bounded<T> {
    leaf: Leaf<T>,
}

#[test]
fn generics_lifetimes_and_recursion() {
    let inner = || Generic::<Parameter, Named, 1> {
        kind: leaf(),
        inner: [named()],
        name: &Label,
        nested: None,
        _function: PhantomData,
    };
    let outer = Generic { nested: Some(Box::new(inner())), ..inner() };
    let paths = leaves(&outer);
    assert_eq!(
        (paths[0].as_str(), paths[5].as_str(), paths[6].as_str()),
        ("kind: Parameter", "nested.kind: Parameter", "nested.inner.0.z: Parameter")
    );
    assert_eq!(leaves(&Bounded::<BatchStat> { leaf: leaf() }), ["leaf: BatchStat"]);
}

mod other {
    use treex_core::{Leaf, TreeObject};

    #[derive(Clone, TreeObject)]
    pub(crate) struct Node<K> {
        pub(crate) leaf: Leaf<K>,
    }
}

/// The bounds distinguish the type itself, which needs none, from the types beside it and from a namesake.
#[derive(Clone, TreeObject)]
struct Node<K, T> {
    namesake: other::Node<K>,
    children: Vec<(T, Node<K, T>)>,
    #[tree(skip)]
    _parent: Option<Arc<Node<K, T>>>,
}

/// A lifetime name that generated code might use.
#[derive(Clone, TreeObject)]
enum Either<'tree, T> {
    Leaf(T),
    Pair(Box<(Either<'tree, T>, Either<'tree, T>)>),
    Name(PhantomData<&'tree str>),
}

#[test]
fn bounds_of_recursive_types() {
    let node =
        |children| Node::<BatchStat, _> { namesake: other::Node { leaf: leaf() }, children, _parent: None };
    let either = Either::Pair(Box::new((Either::Leaf(leaf::<Parameter>()), Either::Name(PhantomData))));
    let expected =
        ["namesake.leaf: BatchStat", "children.0.0.0: Parameter", "children.0.1.namesake.leaf: BatchStat"];
    assert_eq!(leaves(&node(vec![(either, node(vec![]))])), expected);
}

#[derive(Clone, TreeObject)]
struct Outer {
    #[tree(kind = OptState)]
    state: Inner,
    model: Inner,
}

#[derive(Clone, TreeObject)]
struct Inner {
    #[tree(kind = Rng)]
    keys: Vec<Leaf<Parameter>>,
    weight: Leaf<Parameter>,
}

#[test]
fn the_outermost_kind_wins() {
    let inner = || Inner { keys: vec![leaf()], weight: leaf() };
    let tree = Outer { state: inner(), model: inner() };
    let expected =
        ["state.keys.0: OptState", "state.weight: OptState", "model.keys.0: Rng", "model.weight: Parameter"];
    assert_eq!(leaves(&tree), expected);
    assert_eq!(tree.filter(OptState).leaves().len(), 2);
    assert_eq!(tree.filter(TreePart).leaves().len(), 4);
}

#[derive(Clone, Debug, TreeObject)]
#[tree(module_init)]
struct Late {
    own: Leaf<Parameter>,
    sum: Leaf<Parameter>,
}

impl Late {
    fn new() -> Self {
        let own = Leaf::param(|key, shape, dtype| key.uniform(shape, dtype), 3, DType::F32);
        Self { own, sum: Leaf::uninitialized() }
    }

    fn module_init(&mut self, _: &mut ModuleKey) -> Result<()> {
        self.sum.set(self.own.get()?.sum_all()?)
    }
}

/// Enum and struct defined in a function, with names that the generated code might use.
#[test]
fn module_init_runs_through_containers_and_the_code_is_hygienic() {
    #[derive(Clone, Debug, TreeObject)]
    #[allow(non_camel_case_types)]
    enum visitor {
        key(Late),
    }
    #[derive(Clone, Debug, TreeObject)]
    struct Result {
        visitor: visitor,
        some: Option<Box<Late>>,
        r#struct: r#struct,
    }
    #[derive(Clone, Debug, TreeObject)]
    #[allow(non_camel_case_types)]
    struct r#struct;
    // Where these are in scope, a pattern `visitor` or `key` compares instead of binding.
    #[allow(dead_code, non_upper_case_globals)]
    const visitor: () = ();
    #[allow(dead_code, non_upper_case_globals)]
    const key: () = ();
    let tree = Result { visitor: visitor::key(Late::new()), some: Some(Box::new(Late::new())), r#struct };
    assert_eq!(tree.r#struct.module_name(), Some("struct"));
    let tree = tree.init(0, device()).unwrap();
    assert!(tree.initialized());
    let visitor::key(first) = &tree.visitor;
    let second = tree.some.as_deref().unwrap();
    assert_ne!(first.own, second.own);
    let sum: f32 = first.own.get().unwrap().to_vec1::<f32>().unwrap().iter().sum();
    assert!((first.sum.get().unwrap().to_scalar::<f32>().unwrap() - sum).abs() < 1e-6);
}
