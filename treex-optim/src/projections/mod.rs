//! Projections: the nearest tree that a constraint allows. They have Optax's names and arguments.
//!
//! | onto | |
//! |---|---|
//! | intervals, elementwise | [`projection_non_negative`], [`projection_box`], [`projection_hypercube`], [`projection_linf_ball`] |
//! | sums of all elements | [`projection_simplex`], [`projection_l1_sphere`], [`projection_l1_ball`] |
//! | Euclidean norms | [`projection_l2_sphere`], [`projection_l2_ball`] |
//! | vectors and planes | [`projection_vector`], [`projection_hyperplane`], [`projection_halfspace`] |
//!
//! A tree counts as one vector. Any tree can be projected: choose leaves by a filter; filtered-out leaves
//! stay out. After a step of an optimizer this is projected gradient descent:
//!
//! ```
//! # use candle_core::{Device, Tensor};
//! use treex_core::{Leaf, Parameter, prelude::*};
//! use treex_optim::projections::projection_simplex;
//!
//! let mut model = Leaf::<Parameter>::new(Tensor::new(&[0.5f32, 1.5, -3.], &Device::Cpu)?)?;
//! let projected = projection_simplex(&model.filter(Parameter), 1.)?;
//! model.update(&projected)?;
//! assert_eq!(model.get()?.to_vec1::<f32>()?, [0., 1., 0.]);
//! # Ok::<(), treex_core::Error>(())
//! ```
//!
//! They are differentiable. Those that depend on sums are of floats; the others project integers too.

use treex_core::{Error, ErrorKind, Result, Tree};

use crate::transfer::to_f64;
use crate::tree::{self, Order};

mod boxes;
mod l2;
mod planes;
mod simplex;

pub use boxes::{Bound, projection_box, projection_hypercube, projection_linf_ball, projection_non_negative};
pub use l2::{projection_l2_ball, projection_l2_sphere};
pub use planes::{projection_halfspace, projection_hyperplane, projection_vector};
pub(crate) use simplex::{Simplex, simplex};
pub use simplex::{projection_l1_ball, projection_l1_sphere, projection_simplex};

/// An error unless `scale` is finite and above 0.
fn check_scale(projection: &str, scale: f64) -> Result<()> {
    if scale.is_finite() && scale > 0. {
        return Ok(());
    }
    Err(Error::argument(format!("`scale` of `{projection}` is out of range"))
        .expected("a finite number above 0")
        .found(scale))
}

/// An error unless the leaves hold floats: a sum of integers overflows, and a scaled one is none.
fn check_floats<T: Tree>(projection: &str, tree: &T) -> Result<()> {
    let leaves = tree.flatten();
    let not_float = leaves.iter().find(|leaf| leaf.dtype().is_some_and(|dtype| !dtype.is_float()));
    match not_float {
        Some(leaf) => {
            Err(Error::new(ErrorKind::DType, format!("`{projection}` got a leaf that does not hold floats"))
                .at(leaf.segments())
                .expected("a float type")
                .found(leaf.dtype().map_or("none", |dtype| dtype.as_str()))
                .remedy("choose leaves by a filter, `tree.filter(Parameter)`, or cast them"))
        }
        None => Ok(()),
    }
}

/// A power of two to divide a tree by, so that squares of its elements neither overflow nor vanish in f32; 1 unless
/// they would.
fn unit<T: Tree>(tree: &T) -> Result<f64> {
    let largest = to_f64(&tree::norm(tree, Order::Inf)?)?;
    let is_ordinary = (1e-15..=1e15).contains(&largest) || largest == 0. || !largest.is_finite();
    Ok(if is_ordinary { 1. } else { largest.log2().round().exp2() })
}
