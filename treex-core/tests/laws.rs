//! The algebraic laws, over generated trees.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::BTreeMap;
use std::fmt;

use candle_core::Tensor;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use treex_core::{
    BatchStat, Cache, Filter, Initializer, Key, KindTag, Leaf, LeafRef, Load, OptState, Parameter, Rng,
    State, TreePart, exactly, kind, path, prelude::*,
};
use treex_testing::{NO_ELEMENTS, device, skip};

kind!(Lora: Parameter);

/// Every form of a tree.
#[derive(Clone, Debug, PartialEq, TreeObject)]
enum Node {
    Parameter(Leaf<Parameter>),
    Lora(Leaf<Lora>),
    Stat(Leaf<BatchStat>),
    Key(Leaf<Rng>),
    Cache(Leaf<Cache>),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
    Pair { left: Box<Node>, right: Option<Box<Node>> },
    Retagged(#[tree(kind = OptState)] Box<Node>, u32),
    Empty,
}

fn tensor(values: Vec<f32>) -> Tensor {
    let len = values.len();
    Tensor::from_vec(values, (1, len), device()).unwrap()
}

/// Of the values of a leaf; on another device than the CPU, Candle's kernels refuse tensors without elements.
fn lengths() -> std::ops::Range<usize> {
    usize::from(skip("leaves without elements in the laws", NO_ELEMENTS))..4
}

fn leaf<K: treex_core::Kind>() -> impl Strategy<Value = Leaf<K>> {
    prop_oneof![
        6 => vec(-9f32..9., lengths()).prop_map(|values| Leaf::new(tensor(values)).unwrap()),
        1 => Just(Leaf::nothing()),
        1 => Just(Initializer::new(|key| key.uniform(2, candle_core::DType::F32)).with_shape(2).into()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaves = prop_oneof![
        leaf().prop_map(Node::Parameter),
        leaf().prop_map(Node::Lora),
        leaf().prop_map(Node::Stat),
        leaf().prop_map(Node::Cache),
        (0..9i32).prop_map(|seed| Node::Key(Leaf::new(Key::from(seed).to_tensor().unwrap()).unwrap())),
        Just(Node::Empty),
    ];
    leaves.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Node::List),
            btree_map("[a-c]{1,2}", inner.clone(), 0..3).prop_map(Node::Map),
            (inner.clone(), proptest::option::of(inner.clone()))
                .prop_map(|(left, right)| Node::Pair { left: Box::new(left), right: right.map(Box::new) }),
            inner.prop_map(|node| Node::Retagged(Box::new(node), 7)),
        ]
    })
}

/// A filter chosen at run time.
#[derive(Clone, Debug)]
enum AnyFilter {
    Parameter,
    State,
    Either,
    NotState,
    ExactlyParameter,
    Glob(String),
    Everything,
    Nothing,
}

impl Filter for AnyFilter {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        match self {
            Self::Parameter => Parameter.selects(leaf),
            Self::State => State.selects(leaf),
            Self::Either => (BatchStat, Lora).selects(leaf),
            Self::NotState => (!State).selects(leaf),
            Self::ExactlyParameter => (Parameter & exactly(Parameter)).selects(leaf),
            Self::Glob(glob) => path(glob).selects(leaf),
            Self::Everything => TreePart.selects(leaf),
            Self::Nothing => (!TreePart).selects(leaf),
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn filter() -> impl Strategy<Value = AnyFilter> {
    prop_oneof![
        Just(AnyFilter::Parameter),
        Just(AnyFilter::State),
        Just(AnyFilter::Either),
        Just(AnyFilter::NotState),
        Just(AnyFilter::ExactlyParameter),
        "(\\*\\*|\\*|[a-c]|[0-3]|left)(\\.(\\*\\*|\\*|[a-c]|[0-3]|right))?".prop_map(AnyFilter::Glob),
        Just(AnyFilter::Everything),
        Just(AnyFilter::Nothing),
    ]
}

/// The storage address of each value, in order.
fn addresses(tree: &Node) -> Vec<usize> {
    let address = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
    tree.leaves().iter().filter_map(|(_, _, leaf)| leaf.value().map(address)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn update_reverses_filter(tree in node(), filter in filter()) {
        prop_assert_eq!(&tree.updated(&tree.filter(filter)).unwrap(), &tree);
    }

    #[test]
    fn filter_is_idempotent(tree in node(), filter in filter()) {
        let once = tree.filter(filter.clone());
        prop_assert_eq!(&once.filter(filter), &once);
    }

    #[test]
    fn filter_keeps_exactly_the_selected_leaves(tree in node(), filter in filter()) {
        let expected: Vec<_> = tree.flatten().iter()
            .filter(|leaf| filter.selects(leaf) && (leaf.shape().is_some() || leaf.value().is_some()))
            .map(|leaf| leaf.path()).collect();
        let kept: Vec<_> = tree.filter(filter).leaves().into_iter().map(|(path, _, _)| path).collect();
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn partition_has_two_halves(tree in node(), filter in filter()) {
        let (selected, rest) = tree.partition(filter.clone());
        prop_assert_eq!(&selected, &tree.filter(filter));
        prop_assert_eq!(selected.leaves().len() + rest.leaves().len(), tree.leaves().len());
        prop_assert_eq!(&rest.updated(&selected).unwrap(), &tree);
        prop_assert_eq!(&selected.updated(&rest).unwrap(), &tree);
    }

    #[test]
    fn kinds_partition_the_leaves(tree in node()) {
        let kinds = [
            tree.filter(exactly(Parameter)), tree.filter(exactly(Lora)), tree.filter(exactly(BatchStat)),
            tree.filter(exactly(Rng)), tree.filter(exactly(Cache)), tree.filter(exactly(OptState)),
        ];
        prop_assert_eq!(kinds.iter().map(|part| part.leaves().len()).sum::<usize>(), tree.leaves().len());
        let mut whole = tree.filter(!TreePart);
        for part in &kinds {
            whole.update(part).unwrap();
        }
        prop_assert_eq!(&whole, &tree);
        prop_assert_eq!(tree.filter(Parameter).leaves().len(), kinds[0].leaves().len() + kinds[1].leaves().len());
        prop_assert_eq!(tree.filter(State).leaves().len(), kinds[2..].iter().map(|part| part.leaves().len()).sum::<usize>());
    }

    #[test]
    fn unflatten_undoes_flatten(tree in node()) {
        prop_assert_eq!(&tree.unflatten(&tree.flatten()).unwrap(), &tree);
        // Temporaries in a flat tree are copied when written into a tree.
        let passed_on = tree.unflatten(&tree.flatten().apply(|x| Ok(x.clone())).unwrap()).unwrap();
        for (a, b) in addresses(&passed_on).iter().zip(addresses(&tree)) {
            prop_assert_ne!(*a, b);
        }
    }

    #[test]
    fn a_flat_tree_is_a_tree_with_the_same_leaves(tree in node()) {
        let flat = tree.flatten();
        let names = |leaves: Vec<(treex_core::Path, KindTag, &treex_core::Handle)>| {
            leaves.into_iter().map(|(path, kind, _)| (path.to_string(), kind)).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(flat.leaves()), names(tree.leaves()));
        prop_assert_eq!(&flat.flatten(), &flat);
    }

    #[test]
    fn map_keeps_the_structure_and_identity_shares_no_storage(tree in node()) {
        let same = tree.map(|x| Ok(x.clone())).unwrap();
        prop_assert_eq!(&same, &tree);
        for (a, b) in addresses(&same).iter().zip(addresses(&tree)) {
            prop_assert_ne!(*a, b);
        }
        let zipped = tree.zip_map(&tree, |x, _| Ok(x.reshape(x.elem_count())?.reshape(x.shape())?)).unwrap();
        prop_assert_eq!(&zipped, &tree);
        for (a, b) in addresses(&zipped).iter().zip(addresses(&tree)) {
            prop_assert_ne!(*a, b);
        }
        let doubled = tree.map(|x| Ok((x + x)?)).unwrap();
        let paths = |tree: &Node| tree.leaves().into_iter().map(|(path, _, _)| path).collect::<Vec<_>>();
        prop_assert_eq!(paths(&doubled), paths(&tree));
    }

    #[test]
    fn a_clone_is_a_snapshot(tree in node()) {
        let (snapshot, copy) = (tree.clone(), tree.map(|x| Ok(x.clone())).unwrap());
        let mut tree = tree;
        for mut leaf in tree.leaves_mut() {
            if let Some(value) = leaf.handle().value().cloned() {
                leaf.handle().write(&value.ones_like().unwrap()).unwrap();
            }
        }
        prop_assert_eq!(&snapshot, &copy);
    }

    #[test]
    fn unstack_undoes_stack(tree in node(), n in 1..4usize) {
        let tree = tree.init(0, device()).unwrap();
        let trees: Vec<_> = (0..n).map(|i| tree.map(|x| Ok((x + x.ones_like()?.to_dtype(x.dtype())?.broadcast_mul(&Tensor::new(i as u32, x.device())?.to_dtype(x.dtype())?)?)?)).unwrap()).collect();
        let stacked = Node::stack(&trees).unwrap();
        if !stacked.leaves().is_empty() {
            prop_assert_eq!(stacked.unstack().unwrap(), trees);
        }
    }

    #[test]
    fn load_undoes_save(tree in node()) {
        let tree = tree.init(3, device()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tree.safetensors");
        // Two leaves can have the same name only if a key looks like a path; generated keys do not.
        let saved = tree.save(&file);
        if tree.leaves().is_empty() {
            prop_assert_eq!(saved.is_ok(), tree.flatten().is_empty(), "a tree whose values are gone");
            return Ok(());
        }
        saved.unwrap();
        let mut other = tree.map(|x| Ok(x.zeros_like()?)).unwrap();
        other.load(&file).unwrap();
        prop_assert_eq!(&other, &tree);
        let mut nothing = tree.filter(!TreePart);
        prop_assert!(nothing.save(folder.path().join("nothing")).is_err());
        let report = nothing.load_with(&file, &Load::strict().allow_unused()).unwrap();
        prop_assert_eq!(report.unused.len(), tree.leaves().len());
    }

    #[test]
    fn init_is_repeatable_and_keeps_values(tree in node(), seed in 0..5i32) {
        let first = tree.clone().init(seed, device()).unwrap();
        prop_assert!(first.initialized());
        prop_assert_eq!(&first, &tree.clone().init(seed, device()).unwrap());
        prop_assert_eq!(&first.clone().init(seed + 1, device()).unwrap(), &first);
        for ((path, _, before), (_, _, after)) in tree.leaves().into_iter().zip(first.leaves()) {
            if before.value().is_some() {
                prop_assert_eq!(format!("{before:?}"), format!("{after:?}"), "at {}", path);
            }
        }
    }
}
