//! A linear map between features and heads.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Key, Leaf, Parameter, Result, TreeObject};

use crate::dtype::common_dtype;
use crate::initializers::{InitFn, lecun_normal, zeros};
use crate::ops::rows::add_to_rows;

/// `y = x · kernel + bias` over the last `contracted` dimensions of `x`, which become those of the bias: the
/// projections of an attention layer, and Flax's `DenseGeneral` as far as these go.
#[derive(Clone, Debug, TreeObject)]
pub struct Projection {
    /// `[*inputs, *outputs]`. Its initializer sees it as a matrix.
    pub kernel: Leaf<Parameter>,
    /// `[*outputs]`.
    pub bias: Option<Leaf<Parameter>>,
    contracted: usize,
}

impl Projection {
    pub(super) fn new(contracted: usize) -> Self {
        let kernel = Leaf::unshaped(flat(lecun_normal(), contracted), DType::F32);
        Self { kernel, bias: Some(Leaf::unshaped(zeros, DType::F32)), contracted }
    }

    pub(super) fn shaped(self, inputs: &[usize], outputs: &[usize]) -> Self {
        let kernel = self.kernel.with_shape([inputs, outputs].concat());
        Self { kernel, bias: self.bias.map(|bias| bias.with_shape(outputs)), ..self }
    }

    pub(super) fn use_bias(mut self, use_bias: bool) -> Self {
        let dtype = self.kernel.dtype().unwrap_or(DType::F32);
        let bias = self.bias.take().unwrap_or_else(|| {
            let bias = Leaf::unshaped(zeros, dtype);
            match self.kernel.shape() {
                Some(shape) => bias.with_shape(shape.dims().get(self.contracted..).unwrap_or_default()),
                None => bias,
            }
        });
        Self { bias: use_bias.then_some(bias), ..self }
    }

    pub(super) fn kernel_init(self, init: impl InitFn) -> Self {
        Self { kernel: self.kernel.with_init(flat(init, self.contracted)), ..self }
    }

    pub(super) fn bias_init(self, init: impl InitFn) -> Self {
        Self { bias: self.bias.map(|bias| bias.with_init(flat(init, 0))), ..self }
    }

    pub(super) fn param_dtype(self, dtype: DType) -> Self {
        let kernel = self.kernel.with_dtype(dtype);
        Self { kernel, bias: self.bias.map(|bias| bias.with_dtype(dtype)), ..self }
    }

    /// `x` as `[batch.., *outputs]`.
    pub(super) fn apply(&self, x: &Tensor, outputs: &[usize], dtype: Option<DType>) -> Result<Tensor> {
        let (batch, inputs) = x.dims().split_at(x.rank().saturating_sub(self.contracted));
        let shape = [inputs, outputs].concat();
        let kernel = self.kernel.infer(shape.as_slice())?;
        if kernel.dims() != shape {
            return Err(Error::shape("a projection of attention got an input of the wrong width")
                .expected(format!("{shape:?} as the shape of its kernel, for an input {:?}", x.dims()))
                .found(format!("{:?}", kernel.dims()))
                .of(self));
        }
        let bias = self.bias.as_ref().map(|bias| bias.infer(outputs)).transpose()?;
        let dtype = common_dtype(dtype, [x, &kernel].into_iter().chain(&bias));
        let size = |dims: &[usize]| dims.iter().product::<usize>();
        let x = x.to_dtype(dtype)?.reshape((size(batch), size(inputs)))?;
        let mut y = x.matmul(&kernel.to_dtype(dtype)?.reshape((size(inputs), size(outputs)))?)?;
        if let Some(bias) = bias {
            y = add_to_rows(&y, &bias.to_dtype(dtype)?.flatten_all()?)?;
        }
        Ok(y.reshape([batch, outputs].concat())?)
    }
}

/// `init` for a matrix whose rows are the first `inputs` dimensions, or for a vector if there are none: Flax
/// makes the parameters of several dimensions so, since fans count the dimensions of a matrix.
fn flat(init: impl InitFn, inputs: usize) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| {
        let (rows, columns) = shape.dims().split_at(inputs.min(shape.rank()));
        let columns = columns.iter().product::<usize>();
        let flat =
            if inputs == 0 { Shape::from(columns) } else { (rows.iter().product::<usize>(), columns).into() };
        Ok(init(key, &flat, dtype)?.reshape(shape)?)
    }
}
