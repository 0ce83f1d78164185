//! The exact text of the table.

#![allow(clippy::unwrap_used)] // a test says where it failed

use candle_core::{DType, Tensor};
use treex_core::{BatchStat, Initializer, Leaf, OptState, Parameter, Result, prelude::*, record};
use treex_testing::device;

#[derive(Clone, Debug, TreeObject)]
struct Linear {
    kernel: Leaf<Parameter>,
}

impl Linear {
    fn new(din: usize, dout: usize) -> Self {
        let kernel = Initializer::new(move |key| key.normal((din, dout), DType::F32));
        Self { kernel: kernel.with_shape((din, dout)).with_dtype(DType::F32).into() }
    }
}

impl Module for Linear {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.kernel.get()?)?;
        record(self, x, &y);
        Ok(y)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Net {
    layers: Vec<Box<dyn Module>>,
    first: Linear,
    mean: Leaf<BatchStat>,
    #[tree(kind = OptState)]
    moments: (Leaf<Parameter>, Linear),
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = self.first.call(x)?;
        self.layers.iter_mut().try_fold(x, |x, layer| layer.call(&x))
    }
}

fn net() -> Net {
    let leaf = |n: usize| Tensor::zeros(n, DType::F64, device()).unwrap();
    Net {
        layers: vec![Box::new(Linear::new(1000, 20)), Box::new(Linear::new(20, 2))],
        first: Linear::new(3, 1000),
        mean: Leaf::new(leaf(5)).unwrap(),
        moments: (Leaf::new(leaf(7)).unwrap(), Linear::new(1, 1)),
    }
}

#[test]
fn a_column_for_each_kind_and_a_row_for_each_module() {
    let table = net().tabulate();
    let rows: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.starts_with(['─', '═']))
        .collect();
    assert_eq!(
        rows,
        [
            "path module Parameter BatchStat OptState",
            "* Net 5 40 B 7 56 B",
            "layers.0 Linear 20,000 80.0 KB",
            "layers.1 Linear 40 160 B",
            "first Linear 3,000 12.0 KB",
            "moments.1 Linear 1 4 B",
            "total 23,040 92.2 KB 5 40 B 8 60 B",
        ]
    );
}

#[test]
fn shapes_of_calls_of_boxed_modules_too() {
    let net = net().init(0, device()).unwrap();
    let table = net.tabulate_with(&Tensor::zeros((4, 3), DType::F32, device()).unwrap()).unwrap();
    for row in [
        "layers.0 Linear [4, 1000] [4, 20]",
        "layers.1 Linear [4, 20] [4, 2]",
        "first Linear [4, 3] [4, 1000]",
    ] {
        let found =
            table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(row));
        assert!(found, "{row} is not in\n{table}");
    }
}

#[test]
fn a_tree_without_modules_has_a_row_for_the_root() {
    let pair = (net().mean, net().mean);
    assert!(pair.tabulate().contains("10  80 B"), "{}", pair.tabulate());
    assert!(().tabulate().contains("total"));
}

#[test]
fn a_boxed_module_prints_its_leaves() {
    let boxed: Box<dyn Module> = Box::new(Linear::new(1, 2));
    assert_eq!(format!("{boxed:?}"), "Linear { kernel: Initializer }");
    assert_eq!(format!("{:?}", boxed.clone()), "Linear { kernel: Initializer }");
}

/// What is below the depth counts for the module above it, and the total stays.
#[test]
fn a_depth_folds_modules_into_those_above() {
    let words = |table: &str| -> Vec<Vec<String>> {
        let rows = table.lines().filter(|line| !line.contains(['─', '═']));
        rows.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let net = net();
    let (whole, folded) = (words(&net.tabulate()), words(&net.tabulate_depth(1)));
    let paths: Vec<&str> = folded.iter().map(|row| &*row[0]).collect();
    assert_eq!(paths, ["path", "*", "first", "total"]);
    assert_eq!(folded.last(), whole.last());
    assert_eq!(net.tabulate_depth(usize::MAX), net.tabulate());
}

#[test]
fn a_long_tree_has_a_short_table() {
    let table = vec![Linear::new(2, 3); 5000].tabulate();
    let rows = table.lines().filter(|line| !line.contains(['─', '═'])).count();
    assert_eq!(rows, 1003, "the header, 1,000 modules, the others and the total");
    let row = |start: &str| table.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
    assert!(row("... 4,000 more").contains("24,000  96.0 KB"), "{}", row("..."));
    assert!(row("total").contains("30,000  120.0 KB"), "{}", row("total"));
    let module: Box<dyn Module> = Box::new(Long(vec![Linear::new(2, 3); 5000]));
    let text = format!("{module:?}");
    assert!(text.starts_with("Long { 0.0.kernel") && text.ends_with(".. }"), "{}", &text[..200]);
    assert!(text.len() < 100_000, "{}", text.len());
}

#[derive(Clone, Debug, TreeObject)]
struct Long(Vec<Linear>);

impl Module for Long {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

/// A declared shape that no memory holds is printed, not multiplied out.
#[test]
fn sizes_beyond_memory() {
    let huge = Linear::new(usize::MAX, 2);
    assert!(vec![huge; 2].tabulate().contains("18,446,744,073,709,551,615"));
}
