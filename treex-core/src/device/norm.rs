//! Normalization on a device.
//!
//! Rows that have statistics of their own: a launch forward, three backward. Groups of columns: three launches forward, five if
//! the variance is of differences from the mean, four backward.

use candle_core::{DType, Shape, Tensor};
use treex_kernels::dialect::{COLUMNS, ELEMENT, ROWS};
use treex_kernels::norm::group_norm::{self, BackwardOptions};
use treex_kernels::norm::layer_norm::{self, Moments};
use treex_kernels::norm::{Extent, STATISTICS};

use super::columns::{MOST_PIECES, Pieces};
use super::kernel::{Kernel, Launch, Value, real};
use super::rows::{MOST_COLUMNS, Rows};
use super::sum_axis0::sum_partial;
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

const OF_ROWS: &[&str] = &[ELEMENT, ROWS, STATISTICS, layer_norm::DIALECT];
static LAYER_NORM: Kernel = Kernel { name: "layer_norm", texts: OF_ROWS };
static LAYER_NORM_BACKWARD: Kernel = Kernel { name: "layer_norm_backward", texts: OF_ROWS };

const OF_PIECES: &[&str] = &[ELEMENT, COLUMNS, group_norm::DIALECT];
static MOMENT_SUMS: Kernel = Kernel { name: "norm_moment_sums", texts: OF_PIECES };
static GRADIENT_SUMS: Kernel = Kernel { name: "norm_gradient_sums", texts: OF_PIECES };
static GROUP_NORM: Kernel = Kernel { name: "group_norm", texts: OF_PIECES };
static GROUP_NORM_BACKWARD: Kernel = Kernel { name: "group_norm_backward", texts: OF_PIECES };

const OF_TOTALS: &[&str] = &[ELEMENT, ROWS, STATISTICS, group_norm::TOTALS];
static GROUP_MOMENTS: Kernel = Kernel { name: "group_moments", texts: OF_TOTALS };
static GROUP_GRADIENTS: Kernel = Kernel { name: "group_gradients", texts: OF_TOTALS };

/// An input that is normalized, `[outer, rows, groups, size]`, and its scale.
#[derive(Clone, Debug)]
pub struct Norm {
    x: Tensor,
    extent: Extent,
    /// In the type that is computed in, a number for each column.
    scale: Option<Tensor>,
}

/// What a normalization saves for its backward pass: three numbers of each group.
#[derive(Clone, Debug)]
pub struct Saved(Tensor);

/// The gradients of `x`, scale and bias; the last two in the type that is computed in.
#[derive(Debug)]
pub struct Gradients {
    /// That of `x`, where it was asked for.
    pub x: Option<Tensor>,
    /// `[columns]`.
    pub scale: Tensor,
    /// `[columns]`.
    pub bias: Tensor,
}

impl Norm {
    /// Whether there are not too many columns and groups for the kernels.
    #[must_use]
    pub fn fits(extent: Extent) -> bool {
        let is_short = extent.columns() <= MOST_COLUMNS / MOST_PIECES;
        extent.is_rows() || is_short && extent.outer.saturating_mul(extent.groups) <= MOST_COLUMNS
    }

    /// Of `x` with this extent.
    ///
    /// # Errors
    /// If the numbers of elements differ or are too many.
    pub fn new(x: &Tensor, extent: Extent, scale: Option<&Tensor>) -> Result<Self> {
        let Extent { outer, rows, groups, size } = extent;
        let len = [rows, groups, size].iter().try_fold(outer, |len, &size| len.checked_mul(size));
        if len != Some(x.elem_count()) || x.elem_count() == 0 || !Self::fits(extent) {
            return Err(Error::shape("a tensor cannot be normalized in this extent")
                .expected(format!("{extent:?}, at least one element"))
                .found(format!("{:?}", x.dims())));
        }
        let mut norm = Self { x: x.contiguous()?, extent, scale: None };
        norm.scale = scale.map(|scale| norm.of_columns(scale)).transpose()?;
        Ok(norm)
    }

    /// A number for each column, in the type that is computed in.
    fn of_columns(&self, parameter: &Tensor) -> Result<Tensor> {
        let columns = self.extent.columns();
        if parameter.elem_count() != columns {
            return Err(Error::shape("a parameter of a normalization has another size")
                .expected(columns)
                .found(format!("{:?}", parameter.dims())));
        }
        Ok(parameter.detach().to_dtype(real(self.x.dtype()))?.flatten_all()?.contiguous()?)
    }

    /// What takes the place of a tensor that is not there, and is not read.
    fn or_any<'t>(&'t self, tensor: Option<&'t Tensor>) -> (&'t Tensor, DType) {
        let tensor = tensor.unwrap_or(&self.x);
        (tensor, tensor.dtype())
    }

    fn element(&self) -> (&Tensor, DType) {
        (&self.x, self.x.dtype())
    }

    /// The rows, if each has statistics of its own.
    fn each_row(&self) -> Result<Rows> {
        if self.extent.is_rows() {
            return Rows::of(&[&self.x], self.extent.columns());
        }
        Err(Error::shape("rows share statistics")
            .expected("one row and one group")
            .found(format!("{:?}", self.extent)))
    }

    /// The number of groups, and the elements of each.
    fn groups(&self) -> (usize, f64) {
        let Extent { outer, rows, groups, size } = self.extent;
        (outer * groups, (rows * size) as f64)
    }

    /// Each row normalized by its own statistics.
    ///
    /// # Errors
    /// If the bias has another size, or a launch fails.
    pub fn rows(
        &self,
        bias: Option<&Tensor>,
        moments: Moments,
        epsilon: f64,
    ) -> Result<(OwnedStorage, Saved)> {
        let bias = bias.map(|bias| self.of_columns(bias)).transpose()?;
        let rows = self.each_row()?;
        let [lanes, each] = rows.defines();
        let is_fast = !matches!(moments, Moments::Centered { use_fast_variance: false });
        let wide = real(self.x.dtype());
        let launch = Launch {
            kernel: &LAYER_NORM,
            element: self.x.dtype(),
            defines: &[
                lanes,
                each,
                ("IS_CENTERED", is_centered(moments)),
                ("IS_FAST", is_fast.into()),
                ("HAS_SCALE", self.scale.is_some().into()),
                ("HAS_BIAS", bias.is_some().into()),
            ],
            groups: rows.groups(),
            reads: &[self.element(), self.or_any(self.scale.as_ref()), self.or_any(bias.as_ref())],
            writes: [(self.x.shape(), self.x.dtype()), (&(rows.rows, 3).into(), wide)],
            values: &[Value::Index(rows.rows), Value::Index(rows.columns), Value::Real(epsilon)],
        };
        // SAFETY: scale and bias have a number for each column, and three are saved of each row.
        #[expect(unsafe_code, reason = "a launch")]
        let [y, saved] = unsafe { launch.run() }?;
        Ok((y, Saved(saved.into_tensor())))
    }

    /// The gradients of [`rows`](Self::rows).
    ///
    /// # Errors
    /// If `dy` has another size, or a launch fails.
    pub fn rows_backward(&self, dy: &Tensor, saved: &Saved, moments: Moments) -> Result<Gradients> {
        let dy = &self.like_x(dy)?;
        let rows = self.each_row()?;
        let [lanes, each] = rows.defines();
        let launch = Launch {
            kernel: &LAYER_NORM_BACKWARD,
            element: self.x.dtype(),
            defines: &[
                lanes,
                each,
                ("IS_CENTERED", is_centered(moments)),
                ("IS_FAST", 0),
                ("HAS_SCALE", self.scale.is_some().into()),
                ("HAS_BIAS", 0),
            ],
            groups: rows.groups(),
            reads: &[
                self.element(),
                (dy, self.x.dtype()),
                self.or_any(self.scale.as_ref()),
                (self.saved(saved)?, real(self.x.dtype())),
            ],
            writes: [(self.x.shape(), self.x.dtype())],
            values: &[Value::Index(rows.rows), Value::Index(rows.columns)],
        };
        // SAFETY: `dy` has the elements of `x`, scale a number for each column, and three were saved of each row.
        #[expect(unsafe_code, reason = "a launch")]
        let [dx] = unsafe { launch.run() }?;
        let pieces = Pieces::of_sums(1, rows.rows, rows.columns);
        let sums = self.gradient_sums(dy, saved, pieces, true)?;
        let [scale, bias] = self.of_sums(&sums)?;
        Ok(Gradients { x: Some(dx.into_tensor()), scale, bias })
    }

    /// Groups normalized by statistics of the input, and mean and variance of each, in `F64`.
    ///
    /// # Errors
    /// If the bias has another size, or a launch fails.
    pub fn groups_of_input(
        &self,
        bias: Option<&Tensor>,
        use_fast_variance: bool,
        epsilon: f64,
    ) -> Result<(OwnedStorage, Saved, [Tensor; 2])> {
        let (mut saved, mut moments) = self.moments(None, epsilon)?;
        if !use_fast_variance {
            (saved, moments) = self.moments(Some(&saved), epsilon)?;
        }
        Ok((self.normalized(bias, &saved)?, saved, moments))
    }

    /// Groups normalized by mean and variance that are given.
    ///
    /// # Errors
    /// If their number is not that of the groups, the bias has another size, or a launch fails.
    pub fn groups_of(
        &self,
        bias: Option<&Tensor>,
        [mean, var]: [&Tensor; 2],
        epsilon: f64,
    ) -> Result<(OwnedStorage, Saved)> {
        let wide = real(self.x.dtype());
        let (count, _) = self.groups();
        if mean.elem_count() != count || var.elem_count() != count {
            return Err(Error::shape("there is not a mean and a variance for each group")
                .expected(count)
                .found(format!("{:?} and {:?}", mean.dims(), var.dims())));
        }
        let inv_std = (var.detach().to_dtype(DType::F64)?.flatten_all()? + epsilon)?.sqrt()?.recip()?;
        let mean = mean.detach().to_dtype(DType::F64)?.flatten_all()?;
        let saved = Tensor::stack(&[&mean, &inv_std, &inv_std], 1)?.to_dtype(wide)?;
        let saved = Saved(saved.contiguous()?);
        Ok((self.normalized(bias, &saved)?, saved))
    }

    /// The gradients of both.
    ///
    /// # Errors
    /// If `dy` has another size, or a launch fails.
    pub fn groups_backward(&self, dy: &Tensor, saved: &Saved, options: BackwardOptions) -> Result<Gradients> {
        let dy = &self.like_x(dy)?;
        let Extent { outer, rows, .. } = self.extent;
        let pieces = Pieces::of_sums(outer, rows, self.extent.columns());
        let sums = self.gradient_sums(dy, saved, pieces, false)?;
        let [scale, bias] = self.of_sums(&sums)?;
        let x = options.needs_dx.then(|| -> Result<_> {
            let terms =
                options.differentiates_moments.then(|| self.terms(&sums, saved, pieces)).transpose()?;
            self.of_x(dy, saved, terms.as_ref())
        });
        Ok(Gradients { x: x.transpose()?, scale, bias })
    }

    /// `dy`, contiguous.
    fn like_x(&self, dy: &Tensor) -> Result<Tensor> {
        if dy.elem_count() == self.x.elem_count() {
            return Ok(dy.contiguous()?);
        }
        Err(Error::shape("a gradient of a normalization has another size")
            .expected(format!("{:?}", self.x.dims()))
            .found(format!("{:?}", dy.dims())))
    }

    /// What was saved, if it is of these groups.
    fn saved<'s>(&self, saved: &'s Saved) -> Result<&'s Tensor> {
        let expected = 3 * self.groups().0;
        if saved.0.elem_count() == expected {
            return Ok(&saved.0);
        }
        Err(Error::shape("what a normalization saved is of another one")
            .expected(expected)
            .found(saved.0.elem_count()))
    }

    /// What is saved of the statistics of groups, and mean and variance of each; the variance of differences from the mean that
    /// was saved `before`, if it is there.
    fn moments(&self, before: Option<&Saved>, epsilon: f64) -> Result<(Saved, [Tensor; 2])> {
        let Extent { outer, rows, groups, size } = self.extent;
        let pieces = Pieces::of_sums(outer, rows, self.extent.columns());
        let before = before.map(|before| self.saved(before)).transpose()?;
        let wide = real(self.x.dtype());
        let is_centered = usize::from(before.is_some());
        let launch = Launch {
            kernel: &MOMENT_SUMS,
            element: self.x.dtype(),
            defines: &of_pieces(pieces, [0, is_centered, 0, 0, 0]),
            groups: pieces.groups(),
            reads: &[self.element(), self.or_any(before)],
            writes: [(&sums_shape(pieces), wide)],
            values: &of_pieces_and_size(pieces, size),
        };
        // SAFETY: `x` is as large as its extent, and two sums are written for each column of each piece.
        #[expect(unsafe_code, reason = "a launch")]
        let [sums] = unsafe { launch.run() }?.map(OwnedStorage::into_tensor);

        let (count, elements) = self.groups();
        let rows = Rows::new(count, pieces.pieces * size);
        let [lanes, each] = rows.defines();
        let each_of_two = Shape::from(count);
        let launch = Launch {
            kernel: &GROUP_MOMENTS,
            element: self.x.dtype(),
            defines: &[lanes, each, ("IS_CENTERED", is_centered), ("HAS_SCALE", 0)],
            groups: rows.groups(),
            reads: &[(&sums, wide), self.or_any(before)],
            writes: [(&(count, 3).into(), wide), (&each_of_two, DType::F64), (&each_of_two, DType::F64)],
            values: &[
                Value::Index(count),
                Value::Index(rows.columns),
                Value::Index(groups),
                Value::Index(size),
                Value::Index(pieces.pieces),
                Value::Real(elements),
                Value::Real(epsilon),
            ],
        };
        // SAFETY: there are two sums for each column of each piece, and each group has `size` columns of all pieces.
        #[expect(unsafe_code, reason = "a launch")]
        let written = unsafe { launch.run() }?;
        let [saved, mean, var] = written.map(OwnedStorage::into_tensor);
        Ok((Saved(saved), [mean, var]))
    }

    /// Groups normalized by what was saved.
    fn normalized(&self, bias: Option<&Tensor>, saved: &Saved) -> Result<OwnedStorage> {
        let bias = bias.map(|bias| self.of_columns(bias)).transpose()?;
        let Extent { outer, rows, size, .. } = self.extent;
        let pieces = Pieces::of_elements(outer, rows, self.extent.columns());
        let launch = Launch {
            kernel: &GROUP_NORM,
            element: self.x.dtype(),
            defines: &of_pieces(pieces, [0, 0, self.scale.is_some().into(), bias.is_some().into(), 0]),
            groups: pieces.groups(),
            reads: &[
                self.element(),
                self.or_any(self.scale.as_ref()),
                self.or_any(bias.as_ref()),
                (self.saved(saved)?, real(self.x.dtype())),
            ],
            writes: [(self.x.shape(), self.x.dtype())],
            values: &of_pieces_and_size(pieces, size),
        };
        // SAFETY: `x` is as large as its extent, scale and bias have a number for each column, and three were saved of each group.
        #[expect(unsafe_code, reason = "a launch")]
        let [written] = unsafe { launch.run() }?;
        Ok(written)
    }

    /// The sums of `dy (x - mean) / sqrt(var + epsilon)` and of `dy` for each column of each piece.
    fn gradient_sums(&self, dy: &Tensor, saved: &Saved, pieces: Pieces, is_of_rows: bool) -> Result<Tensor> {
        let wide = real(self.x.dtype());
        let launch = Launch {
            kernel: &GRADIENT_SUMS,
            element: self.x.dtype(),
            defines: &of_pieces(pieces, [is_of_rows.into(), 0, 0, 0, 0]),
            groups: pieces.groups(),
            reads: &[self.element(), (dy, self.x.dtype()), (self.saved(saved)?, wide)],
            writes: [(&sums_shape(pieces), wide)],
            values: &of_pieces_and_size(pieces, self.extent.size),
        };
        // SAFETY: `x` and `dy` are as large as the extent, three numbers were saved of each group, or of each row where it is one,
        // and two sums are written for each column of each piece.
        #[expect(unsafe_code, reason = "a launch")]
        let [sums] = unsafe { launch.run() }?;
        Ok(sums.into_tensor())
    }

    /// The gradients of scale and bias.
    fn of_sums(&self, sums: &Tensor) -> Result<[Tensor; 2]> {
        let columns = self.extent.columns();
        let both =
            sum_partial(sums, 2 * columns, real(self.x.dtype()))?.into_tensor().reshape((2, columns))?;
        Ok([both.get(0)?, both.get(1)?])
    }

    /// The two terms of each group in the gradient of `x`.
    fn terms(&self, sums: &Tensor, saved: &Saved, pieces: Pieces) -> Result<Tensor> {
        let wide = real(self.x.dtype());
        let (count, elements) = self.groups();
        let Extent { groups, size, .. } = self.extent;
        let rows = Rows::new(count, pieces.pieces * size);
        let [lanes, each] = rows.defines();
        let launch = Launch {
            kernel: &GROUP_GRADIENTS,
            element: self.x.dtype(),
            defines: &[lanes, each, ("IS_CENTERED", 0), ("HAS_SCALE", self.scale.is_some().into())],
            groups: rows.groups(),
            reads: &[(sums, wide), self.or_any(self.scale.as_ref()), (self.saved(saved)?, wide)],
            writes: [(&(count, 2).into(), wide)],
            values: &[
                Value::Index(count),
                Value::Index(rows.columns),
                Value::Index(groups),
                Value::Index(size),
                Value::Index(pieces.pieces),
                Value::Real(elements),
            ],
        };
        // SAFETY: there are two sums for each column of each piece, a scale for each column, and three numbers of each group.
        #[expect(unsafe_code, reason = "a launch")]
        let [terms] = unsafe { launch.run() }?;
        Ok(terms.into_tensor())
    }

    /// The gradient of `x`.
    fn of_x(&self, dy: &Tensor, saved: &Saved, terms: Option<&Tensor>) -> Result<Tensor> {
        let wide = real(self.x.dtype());
        let Extent { outer, rows, size, .. } = self.extent;
        let pieces = Pieces::of_elements(outer, rows, self.extent.columns());
        let launch = Launch {
            kernel: &GROUP_NORM_BACKWARD,
            element: self.x.dtype(),
            defines: &of_pieces(pieces, [0, 0, self.scale.is_some().into(), 0, terms.is_some().into()]),
            groups: pieces.groups(),
            reads: &[
                self.element(),
                (dy, self.x.dtype()),
                self.or_any(self.scale.as_ref()),
                (self.saved(saved)?, wide),
                self.or_any(terms),
            ],
            writes: [(self.x.shape(), self.x.dtype())],
            values: &of_pieces_and_size(pieces, size),
        };
        // SAFETY: `x` and `dy` are as large as the extent, with a scale for each column, and three numbers and two terms of each group.
        #[expect(unsafe_code, reason = "a launch")]
        let [dx] = unsafe { launch.run() }?;
        Ok(dx.into_tensor())
    }
}

fn is_centered(moments: Moments) -> usize {
    matches!(moments, Moments::Centered { .. }).into()
}

fn of_pieces(pieces: Pieces, flags: [usize; 5]) -> [(&'static str, usize); 6] {
    let [of_rows, centered, scale, bias, terms] = flags;
    [
        pieces.define(),
        ("IS_OF_ROWS", of_rows),
        ("IS_CENTERED", centered),
        ("HAS_SCALE", scale),
        ("HAS_BIAS", bias),
        ("HAS_TERMS", terms),
    ]
}

fn of_pieces_and_size(pieces: Pieces, size: usize) -> [Value; 5] {
    let Pieces { rows, columns, piece_rows, pieces, .. } = pieces;
    [rows, columns, piece_rows, pieces, size].map(Value::Index)
}

/// Two sums for each column of each piece.
fn sums_shape(pieces: Pieces) -> Shape {
    (pieces.matrices * pieces.pieces, 2 * pieces.columns).into()
}
