//! Orthogonal matrices.

use candle_core::{DType, Device, Shape, Tensor};
use nalgebra::DMatrix;

use super::continuous::wrong_type;
use super::{Key, count};
use crate::error::Result;

impl Key {
    /// Matrices of shape `[*shape, n, m]`, uniform (Haar measure) over those with orthonormal rows if
    /// `n <= m` and orthonormal columns if `n >= m`. Default for `m`: `n`, the orthogonal group.
    /// `jax.random.orthogonal(key, n, shape, dtype, m)`.
    ///
    /// The Q of the QR factorization of a normal matrix, with the signs that make the diagonal of R positive
    /// (Mezzadri, "How to generate random matrices from the classical compact groups", 2007). Factorized in
    /// `F64` for both types, so that `F32` agrees with JAX to its rounding error, 1e-6.
    ///
    /// ```
    /// use candle_core::DType;
    /// use treex_core::random::Key;
    ///
    /// let q = Key::from(42).orthogonal(2, 5, DType::F64, Some(3))?;
    /// assert_eq!(q.dims(), [5, 2, 3]);
    /// let product = q.matmul(&q.transpose(1, 2)?)?.get(0)?.to_vec2::<f64>()?;
    /// assert!((product[0][0] - 1.).abs() < 1e-15 && product[0][1].abs() < 1e-15);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `dtype` is neither `F32` nor `F64`: as in JAX, 16-bit types have no factorization.
    pub fn orthogonal(
        self,
        n: usize,
        shape: impl Into<Shape>,
        dtype: DType,
        m: Option<usize>,
    ) -> Result<Tensor> {
        let m = m.unwrap_or(n);
        let (rows, columns) = (n.max(m), n.min(m));
        let dims = |last: [usize; 2], shape: &Shape| [shape.dims(), &last].concat();
        let shape = shape.into();
        let normal = self.normal(dims([rows, columns], &shape), dtype)?;
        if columns > 0 && !matches!(dtype, DType::F32 | DType::F64) {
            return Err(wrong_type("orthogonal", "`f32` or `f64`", dtype).remedy("draw `f32` and cast it"));
        }
        if normal.elem_count() == 0 {
            let empty = Shape::from(dims([n, m], &shape));
            count(&empty)?;
            return Ok(normal.reshape(empty)?);
        }
        let mut values = normal.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        for matrix in values.chunks_exact_mut(rows * columns) {
            // This QR gives a non-negative diagonal of R, so the signs of Q need no change.
            let q = DMatrix::from_row_slice(rows, columns, matrix).qr().q();
            // Its storage is column-major, which is row-major for the transpose.
            let rows_of = if n < m { q } else { q.transpose() };
            matrix.copy_from_slice(rows_of.as_slice());
        }
        Ok(Tensor::from_vec(values, dims([n, m], &shape), &Device::Cpu)?.to_dtype(dtype)?)
    }
}
