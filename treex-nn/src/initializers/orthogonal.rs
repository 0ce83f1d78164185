//! Orthogonal initializers.

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::{Error, Key, Result};

use super::{InitFn, scalar, times};
use crate::axes::position;

/// A uniformly distributed orthogonal matrix times `scale` (Saxe et al., "Exact solutions to the nonlinear
/// dynamics of learning in deep linear networks", 2013): orthonormal columns, or rows if there are fewer
/// rows. The last axis is the columns, all other axes together are the rows; JAX's default scale is 1. For
/// another axis of columns: [`Orthogonal`].
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::orthogonal(1.);
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// let kernel = kernel.to_dtype(DType::F64)?;
/// let product = kernel.matmul(&kernel.t()?)?;
/// assert_eq!(product.dims(), [3, 3]);
/// assert!((product.sum_all()?.to_scalar::<f64>()? - 3.).abs() < 1e-5);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn orthogonal(scale: f64) -> impl InitFn {
    Orthogonal::new(scale).build()
}

/// The kernel of a norm-preserving convolution: zeros, with an [`orthogonal`] matrix in the center (Xiao et
/// al., "Dynamical isometry and a mean field theory of CNNs", 2018). JAX's default scale is 1.
///
/// Shapes are `[*spatial, inputs, outputs]` with one to three spatial axes and no more inputs than outputs;
/// any other is an error, as in JAX.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::delta_orthogonal(1.);
/// let kernel = init(&Key::from(42), &(3, 2, 4).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [3, 2, 4]);
/// assert_eq!(kernel.get(0)?.to_vec2::<f32>()?, [[0.; 4]; 2]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn delta_orthogonal(scale: f64) -> impl InitFn {
    Orthogonal::new(scale).build_delta()
}

/// [`orthogonal`] and [`delta_orthogonal`] with a choice of the column axis. A negative axis counts from the
/// end.
///
/// ```
/// use candle_core::DType;
/// use treex_core::Key;
/// use treex_nn::initializers::Orthogonal;
///
/// let init = Orthogonal::new(1.).column_axis(0).build();
/// let kernel = init(&Key::from(42), &(2, 3, 5).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [2, 3, 5]);
/// let rows = kernel.flatten_from(1)?;
/// let product = rows.matmul(&rows.t()?)?.to_vec2::<f32>()?;
/// assert!((product[0][0] - 1.).abs() < 1e-6 && product[0][1].abs() < 1e-6);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Orthogonal {
    scale: f64,
    column_axis: isize,
}

impl Orthogonal {
    /// The last axis as columns.
    #[must_use]
    pub fn new(scale: f64) -> Self {
        Self { scale, column_axis: -1 }
    }

    /// The axis that is the columns.
    #[must_use]
    pub fn column_axis(self, column_axis: isize) -> Self {
        Self { column_axis, ..self }
    }

    /// The initializer: [`orthogonal`]. As in JAX, it fails for fewer than two axes, a type other than `F32`
    /// and `F64`, or an axis out of range; an empty shape fails only for fewer than two axes.
    #[must_use]
    pub fn build(self) -> impl InitFn {
        move |key: &Key, shape: &Shape, dtype| self.matrix(key, shape.dims(), dtype)
    }

    /// The initializer: [`delta_orthogonal`]. The column axis must be -1 or -2.
    #[must_use]
    pub fn build_delta(self) -> impl InitFn {
        move |key: &Key, shape: &Shape, dtype| self.delta(key, shape, dtype)
    }

    fn matrix(self, key: &Key, shape: &[usize], dtype: DType) -> Result<Tensor> {
        if shape.len() < 2 {
            return Err(bad_shape("`orthogonal` needs a matrix", "at least 2 axes", shape));
        }
        if shape.contains(&0) {
            return Ok(Tensor::zeros(shape, dtype, &Device::Cpu)?);
        }
        let axis = position(self.column_axis, shape.len())
            .ok_or_else(|| bad_shape("`orthogonal` has no such axis", self.column_axis, shape))?;
        let columns = shape[axis];
        let rest = [&shape[..axis], &shape[axis + 1..]].concat();
        let rows = rest.iter().fold(1, |rows: usize, &dim| rows.saturating_mul(dim));
        let q = key.orthogonal(rows, (), dtype, Some(columns))?;
        let q = times(&q, &scalar(self.scale, dtype)?)?.reshape([rest, vec![columns]].concat())?;
        // Moves the columns from the last axis to theirs.
        let last = shape.len() - 1;
        let order: Vec<usize> = (0..axis).chain([last]).chain(axis..last).collect();
        Ok(q.permute(order)?.contiguous()?)
    }

    fn delta(self, key: &Key, shape: &Shape, dtype: DType) -> Result<Tensor> {
        let dims = shape.dims();
        let (spatial, matrix) = match dims {
            [spatial @ .., inputs, outputs] if (1..=3).contains(&spatial.len()) => {
                (spatial, [*inputs, *outputs])
            }
            _ => return Err(bad_shape("`delta_orthogonal` needs a kernel", "3, 4 or 5 axes", dims)),
        };
        if matrix[1] < matrix[0] || spatial.contains(&0) {
            let expected = "spatial axes that are not empty, and no more inputs than outputs";
            return Err(bad_shape("`delta_orthogonal` cannot keep lengths", expected, dims));
        }
        let mut kernel = self.matrix(key, &matrix, dtype)?;
        // Pads the kernel by one spatial axis after another, from the last one.
        for size in spatial.iter().rev() {
            let before = (size - 1) / 2;
            kernel = kernel.unsqueeze(0)?.pad_with_zeros(0, before, size - 1 - before)?;
        }
        Ok(kernel.contiguous()?)
    }
}

fn bad_shape(message: &str, expected: impl std::fmt::Display, shape: &[usize]) -> Error {
    Error::shape(message).expected(expected).found(format!("shape {shape:?}"))
}
