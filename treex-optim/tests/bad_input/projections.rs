//! Projections, of trees of one tensor and of two.

use candle_core::Tensor;
use treex_core::{Leaf, Parameter, Result};
use treex_optim::projections::*;
use treex_testing::bad_input::{NUMBERS, Row, huge, tensors};

type Model = Vec<Leaf<Parameter>>;
type Scaled = fn(&Model, f64) -> Result<Model>;
type Plane = fn(&Model, &Model, f64) -> Result<Model>;

/// A tree without leaves, of one tensor, and of the same twice.
fn trees(x: &Tensor) -> Result<[Model; 3]> {
    let leaf = || Leaf::new(x);
    Ok([vec![], vec![leaf()?], vec![leaf()?, leaf()?]])
}

fn scaled(names: &'static str, functions: &'static [Scaled]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            for scale in NUMBERS {
                for (name, x) in tensors().into_iter().chain(huge()) {
                    let Ok(trees) = trees(&x) else { continue };
                    for tree in &trees {
                        let label = format!("function {number} of {} times {name}, {scale}", tree.len());
                        cases.call(&label, || function(tree, scale));
                    }
                }
            }
        }
    })
}

fn planes(names: &'static str, functions: &'static [Plane]) -> Row {
    Row::new(names, |cases| {
        for (function, number) in functions.iter().zip(0..) {
            for b in NUMBERS {
                cases.pairs(&format!("function {number}, {b}"), |x, a| {
                    function(&trees(x)?[1], &trees(a)?[1], b)?;
                    function(&trees(x)?[2], &trees(a)?[2], b)
                });
                cases.tensors(&format!("function {number}, {b}, other structure"), |x| {
                    function(&trees(x)?[1], &trees(x)?[2], b)?[0].get()
                });
            }
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        scaled(
            "projections::boxes projection_non_negative projection_box projection_hypercube projection_linf_ball",
            &[
                |tree, _| projection_non_negative(tree),
                |tree, bound| projection_box(tree, bound, 1.),
                |tree, bound| projection_box(tree, -1., bound),
                |tree, bound| projection_hypercube(tree, bound),
                projection_linf_ball,
            ],
        ),
        Row::new("projections::boxes Bound::at_least Bound::at_most", |cases| {
            cases.pairs("bounds", |x, bound| {
                let (tree, bound) = (&trees(x)?[1], &trees(bound)?[1]);
                projection_box(tree, bound, bound)
            });
        }),
        scaled(
            "projections::l2 projection_l2_sphere projection_l2_ball",
            &[projection_l2_sphere, projection_l2_ball],
        ),
        planes(
            "projections::planes projection_vector projection_hyperplane projection_halfspace",
            &[|x, a, _| projection_vector(x, a), projection_hyperplane, projection_halfspace],
        ),
        scaled(
            "projections::simplex projection_simplex projection_l1_sphere projection_l1_ball",
            &[projection_simplex, projection_l1_sphere, projection_l1_ball],
        ),
    ]
}
