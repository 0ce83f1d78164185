//! Leaves of more than two axes as matrices.

use candle_core::Tensor;
use treex_core::{Error, Filter, LeafRef, Leaves, Result};

use crate::selection::{Selection, candidates};

/// Which axes of a leaf are the rows and which the columns of a matrix, for [`muon`](crate::muon()) and
/// [`galore`](crate::galore()). A kernel `[embedding, heads, size of a head]` is with
/// `DimensionNumbers::new([0], [1, 2])` a matrix `[embedding, heads * size of a head]`. A negative axis counts from the
/// end. Optax's `MuonDimensionNumbers` and `GaLoreDimensionNumbers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimensionNumbers {
    reduction_axis: Vec<isize>,
    output_axis: Vec<isize>,
}

impl DimensionNumbers {
    /// The axes of the inputs, which are the rows, and those of the outputs, which are the columns.
    #[must_use]
    pub fn new(reduction_axis: impl Into<Vec<isize>>, output_axis: impl Into<Vec<isize>>) -> Self {
        Self { reduction_axis: reduction_axis.into(), output_axis: output_axis.into() }
    }

    /// All axes but the last are rows.
    pub(super) fn last_axis(rank: usize) -> Self {
        Self::new((0..rank.saturating_sub(1) as isize).collect::<Vec<_>>(), [-1])
    }
}

/// The dimension numbers of some leaves; the first filter that selects a leaf decides.
#[derive(Clone, Debug, Default)]
pub(super) struct WeightDimensionNumbers(Vec<(Selection, DimensionNumbers)>);

impl WeightDimensionNumbers {
    pub(super) fn and(
        mut self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        self.0.push((Selection::new(filter), numbers));
        self
    }

    pub(super) fn of(&self, leaf: &LeafRef<'_>) -> Option<&DimensionNumbers> {
        self.0.iter().find(|(selection, _)| selection.selects(leaf)).map(|(_, numbers)| numbers)
    }

    /// The matrices of each leaf: those of its dimension numbers, otherwise those of `default`.
    pub(super) fn matrices(
        &self,
        leaves: &Leaves,
        default: impl Fn(usize) -> Option<DimensionNumbers>,
    ) -> Result<Vec<Option<Matrices>>> {
        let of = |leaf: LeafRef<'_>| {
            let Some(dims) = leaf.value().map(Tensor::dims) else { return Ok(None) };
            let numbers = self.of(&leaf).cloned().or_else(|| default(dims.len()));
            numbers
                .map(|numbers| Matrices::new(dims, &numbers).map_err(|error| error.at(leaf.segments())))
                .transpose()
        };
        leaves.iter().map(of).collect()
    }

    /// An error unless each filter selects a leaf, and each leaf has the axes of its dimension numbers.
    pub(super) fn check(&self, params: &Leaves) -> Result<()> {
        for (selection, _) in &self.0 {
            selection.check(params, "`weight_dimension_numbers`")?;
        }
        for leaf in candidates(params) {
            if let (Some(numbers), Some(shape)) = (self.of(&leaf), leaf.shape()) {
                Matrices::new(shape.dims(), numbers).map_err(|error| error.at(leaf.segments()))?;
            }
        }
        Ok(())
    }
}

/// A leaf as matrices, one for each index of the axes that are neither rows nor columns.
#[derive(Clone, Debug)]
pub(super) struct Matrices {
    /// The axes of the leaf in the order batch, rows, columns, and their sizes.
    order: Vec<usize>,
    sizes: Vec<usize>,
    pub(super) batch: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Matrices {
    fn new(dims: &[usize], numbers: &DimensionNumbers) -> Result<Self> {
        let rank = dims.len();
        let axes = |axes: &[isize]| -> Option<Vec<usize>> {
            let from_end = |axis: isize| if axis < 0 { rank } else { 0 };
            let of = |&axis: &isize| from_end(axis).checked_add_signed(axis).filter(|&axis| axis < rank);
            axes.iter().map(of).collect()
        };
        let (rows, columns) = (axes(&numbers.reduction_axis), axes(&numbers.output_axis));
        let named =
            |axis: usize| [&rows, &columns].into_iter().flatten().flatten().filter(|&&x| x == axis).count();
        let (Some(rows), Some(columns)) = (&rows, &columns) else { return Err(no_matrix(dims, numbers)) };
        if (0..rank).any(|axis| named(axis) > 1) {
            return Err(no_matrix(dims, numbers));
        }
        let batch: Vec<usize> = (0..rank).filter(|&axis| named(axis) == 0).collect();
        let count = |axes: &[usize]| axes.iter().map(|&axis| dims[axis]).product();
        let order = [&batch[..], rows, columns].concat();
        let sizes = order.iter().map(|&axis| dims[axis]).collect();
        Ok(Self { sizes, batch: count(&batch), rows: count(rows), columns: count(columns), order })
    }

    /// `f` of each matrix, in the place of the matrix.
    pub(super) fn map(&self, leaf: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let batch = leaf.permute(&self.order[..])?.reshape((self.batch, self.rows, self.columns))?;
        let each = (0..self.batch).map(|index| f(&batch.get(index)?)).collect::<Result<Vec<_>>>()?;
        if each.is_empty() { Ok(leaf.clone()) } else { self.join(&Tensor::stack(&each, 0)?) }
    }

    /// The leaf as its only matrix.
    pub(super) fn matrix(&self, leaf: &Tensor) -> Result<Tensor> {
        Ok(leaf.permute(&self.order[..])?.reshape((self.rows, self.columns))?)
    }

    /// The leaf of matrices, in their order.
    pub(super) fn join(&self, matrices: &Tensor) -> Result<Tensor> {
        let mut inverse: Vec<usize> = (0..self.order.len()).collect();
        inverse.sort_by_key(|&axis| self.order[axis]);
        Ok(matrices.reshape(&self.sizes[..])?.permute(&inverse[..])?.contiguous()?)
    }
}

fn no_matrix(dims: &[usize], numbers: &DimensionNumbers) -> Error {
    Error::argument("dimension numbers make no matrix of a parameter")
        .expected(format!("different axes of {} for rows and columns", dims.len()))
        .found(format!("{numbers:?}"))
        .remedy("correct the axes, or the filter of `weight_dimension_numbers`")
}
