//! Each kernel against that of the CPU, at sizes around those at which threads share the work in another way.

mod cross_entropy;
pub(crate) mod elements;
mod embedding;
mod group_norm;
mod layer_norm;
mod softmax;
mod sum_axis0;
mod tables;

/// Rows and columns: a thread for an element, then several elements for a thread, all threads of a group for a row, and more
/// elements than they keep.
const ROWS: [(usize, usize); 4] = [(65, 3), (9, 33), (3, 1025), (2, 8200)];

/// Calls a generic function for each element type.
macro_rules! for_each_type {
    ($check:ident($host:expr)) => {{
        $check::<f32>($host);
        $check::<f64>($host);
        $check::<half::f16>($host);
        $check::<half::bf16>($host);
    }};
}
use for_each_type;
