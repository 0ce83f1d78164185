//! Each kernel against that of the CPU, at sizes around those at which threads share the work in another way.

pub(crate) mod attention;
mod cross_entropy;
mod decide;
pub(crate) mod elements;
mod embedding;
mod group_norm;
mod layer_norm;
pub(crate) mod recurrent;
mod softmax;
mod sum_axis0;
mod tables;
pub(crate) mod windows;

use crate::host::{Host, Parameter};
use crate::text::Text;

/// Rows and columns: a thread for an element, then several elements for a thread, all threads of a group for a row, and more
/// elements than they keep.
const ROWS: [(usize, usize); 4] = [(65, 3), (9, 33), (3, 515), (2, 4100)];

/// A kernel, and all that it is launched with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) text: Text,
    pub(crate) name: &'static str,
    pub(crate) groups: usize,
    pub(crate) parameters: Vec<Parameter>,
}

impl Launch {
    /// What it writes, in the order of its parameters.
    fn run(&self, host: &mut Host) -> Vec<Vec<u8>> {
        host.launch(&self.text, self.name, self.groups, &self.parameters)
    }
}

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

/// A test for each program, and the list of all kernels that they launch.
macro_rules! programs {
    ($($name:ident: $($kernel:literal)+;)*) => {
        /// The kernels that run in host form.
        pub(crate) const KERNELS: &[&str] = &[$($($kernel),+),*];

        $(
            #[test]
            fn $name() {
                Host::check(stringify!($name), &[$($kernel),+], $name::check);
            }
        )*
    };
}

programs! {
    attention: "attention_gradient" "attention_weights";
    cross_entropy: "integer_cross_entropy" "integer_cross_entropy_backward";
    decide: "decide";
    elements: "add" "dropout" "elementwise";
    embedding: "gather_rows" "scatter_rows";
    group_norm: "group_gradients" "group_moments" "group_norm" "group_norm_backward" "norm_gradient_sums" "norm_moment_sums";
    layer_norm: "layer_norm" "layer_norm_backward";
    recurrent: "recurrent_step" "recurrent_step_backward";
    softmax: "log_softmax_backward" "softmax" "softmax_backward";
    sum_axis0: "sum_axis0";
    tables: "bernoulli" "sums" "sweep" "totals";
    windows: "col2im" "im2col" "pool" "pool_backward";
}
