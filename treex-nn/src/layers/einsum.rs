//! A product with a kernel by an einsum equation.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject, record};

use crate::dtype::common_dtype;
use crate::initializers::lecun_normal;
use crate::layers::options::{bias_option, parameter_options};
use crate::ops::add::add;
use crate::ops::einsum::{Equation, einsum};

/// `y = einsum(einsum_str, x, kernel) + bias`: Flax's `Einsum`.
///
/// The bias has those axes of the kernel that remain in the output, in the order of the output.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Einsum, prelude::*};
///
/// let mut einsum = Einsum::new((5, 6, 7), "abc,cde->abde").init(42, &Device::Cpu)?;
/// assert_eq!(einsum.kernel.get()?.dims(), [5, 6, 7]);
/// assert_eq!(Leaf::get_optional(&einsum.bias)?.unwrap().dims(), [6, 7]);
///
/// let x = Tensor::ones((3, 4, 5), DType::F32, &Device::Cpu)?;
/// assert_eq!(einsum.call(&x)?.dims(), [3, 4, 6, 7]);
///
/// let einsum = Einsum::lazy((5, 6, 7));
/// let einsum = einsum.inferred_by(&Device::Cpu, |einsum| einsum.call_with(&x, "abc,cde->abde"))?;
/// let einsum = einsum.init(42, &Device::Cpu)?;
/// assert_eq!(einsum.call_with(&x, "abc,cde->abde")?.dims(), [3, 4, 6, 7]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Einsum {
    /// The kernel, of the given shape; default: `lecun_normal`.
    pub kernel: Leaf<Parameter>,
    /// The kernel's axes that are not summed over; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    einsum_str: Option<String>,
    #[tree(skip)]
    shape: Shape,
    dtype: Option<DType>,
}

impl Einsum {
    /// A product with a kernel of shape `shape`, by an equation for [`einsum`](crate::einsum) whose first
    /// operand is the input and whose second is the kernel.
    #[must_use]
    pub fn new(shape: impl Into<Shape>, einsum_str: impl Into<String>) -> Self {
        Self { einsum_str: Some(einsum_str.into()), ..Self::lazy(shape) }.declared()
    }

    /// A product with a kernel of shape `shape` and a [lazy](crate#lazy-layers) bias: each
    /// [`call_with`](Self::call_with) brings the equation, and the first determines the bias's shape, see
    /// [`inferred_by`](treex_core::Tree::inferred_by).
    #[must_use]
    pub fn lazy(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let kernel = Leaf::param(lecun_normal(), shape.clone(), DType::F32);
        Self { kernel, bias: None, einsum_str: None, shape, dtype: None }.use_bias(true)
    }

    fn declared(self) -> Self {
        let Some(equation) = &self.einsum_str else { return self };
        // The call reports an invalid equation, since a builder cannot fail.
        let shape = Equation::read(equation).and_then(|equation| equation.left_of_second(self.shape.dims()));
        let bias = self.bias.map(|bias| bias.with_shape(shape.unwrap_or_default()));
        Self { bias, ..self }
    }

    /// The call with an equation, for a layer made by [`lazy`](Self::lazy).
    ///
    /// # Errors
    /// If the layer has an equation of its own, and as [`einsum`](crate::einsum).
    pub fn call_with(&self, x: &Tensor, einsum_str: &str) -> Result<Tensor> {
        let y = match &self.einsum_str {
            None => self.product(x, einsum_str),
            Some(own) => Err(Error::argument("`Einsum` has an equation, and got another with the call")
                .expected(format!("`{own}`"))
                .found(format!("`{einsum_str}`"))
                .remedy("make it with `Einsum::lazy(shape)`, or call it without an equation: `call(&x)`")),
        };
        let y = y.map_err(|error| error.of(self.identity()))?;
        record(self, x, &y);
        Ok(y)
    }

    fn product(&self, x: &Tensor, equation: &str) -> Result<Tensor> {
        let read = Equation::read(equation)?;
        let kernel = self.kernel.infer(&self.shape)?;
        let infer = |bias: &Leaf<Parameter>| bias.infer(read.left_of_second(self.shape.dims())?);
        let bias = self.bias.as_ref().map(infer).transpose()?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));
        let y = einsum(equation, &x.to_dtype(dtype)?, &kernel.to_dtype(dtype)?)?;
        let Some(bias) = bias else { return Ok(y) };
        let labels = read.labels(x.dims(), kernel.dims())?;
        let size = |label| labels.b.iter().position(|own| own == label).map_or(1, |axis| kernel.dims()[axis]);
        let aligned: Vec<_> = labels.output.iter().map(size).collect();
        add(&y, &bias.to_dtype(dtype)?.reshape(aligned)?)
    }
}

bias_option!(Einsum);
parameter_options!(Einsum { kernel: kernel_init, bias: bias_init });

impl candle_core::Module for Einsum {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.einsum_str {
            Some(equation) => self.product(x, equation),
            None => Err(Error::argument("`Einsum` has no equation")
                .expected("one in the layer or one with the call")
                .remedy("write `Einsum::new(shape, equation)`, or call it with `call_with(&x, equation)`")),
        };
        let y = y.map_err(|error| error.of(self.identity()))?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::prelude::*;

    use super::*;

    fn error(einsum: Einsum, input: &[usize]) -> String {
        let x = Tensor::ones(input, DType::F32, &Device::Cpu).unwrap();
        einsum.init(0, &Device::Cpu).and_then(|mut einsum| einsum.call(&x)).unwrap_err().to_string()
    }

    #[test]
    fn errors() {
        let einsum = |equation: &str| Einsum::new((3, 4), equation);
        for (error, text) in [
            (error(einsum("ab,bc"), &[2, 3]), "cannot read"),
            (error(einsum("ab->ab"), &[2, 3]), "cannot read"),
            (error(einsum("ab,bc,cd->ad"), &[2, 3]), "cannot read"),
            (error(einsum("a1,1b->ab"), &[2, 3]), "found `a1,1b->ab`; write it like"),
            (error(einsum("a....b,bc->ac"), &[2, 3]), "cannot read"),
            (
                error(einsum("ab,bc->ad"), &[2, 3]),
                "each letter of the result once, and in an operand, found `d`",
            ),
            (error(einsum("ab,bc->aca"), &[2, 3]), "found `a` in `ab,bc->aca`"),
            (error(einsum("ab,bcd->acd"), &[2, 3]), "second operand of the wrong rank"),
            (error(einsum("ab,bb->a"), &[2, 3]), "second operand with an axis twice"),
            (
                error(einsum("ab,bc->ac"), &[3]),
                "first operand of the wrong rank: expected 2 axes, as in `ab,bc->ac`",
            ),
            (
                error(einsum("ab,bc->ac"), &[2, 5]),
                "two sizes for the axis `b`: expected 5, as before in `ab,bc->ac`, found 3 in the second operand, [3, 4]",
            ),
            (error(einsum("aa,ab->b"), &[1, 3]), "two sizes for the axis `a`"),
            (error(einsum("a...,...b->ab"), &[2, 5]), "two sizes for axis -1 of `...`"),
            (error(Einsum::lazy((3, 4)).use_bias(false), &[2, 3]), "`Einsum` has no equation"),
        ] {
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn an_equation_in_the_layer_or_in_the_call() -> Result<()> {
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
        let einsum = Einsum::new((3, 4), "ab,bc->ac").init(0, &Device::Cpu)?;
        let error = einsum.call_with(&x, "ab,bc->ca").unwrap_err().to_string();
        assert!(error.contains("expected `ab,bc->ac`, found `ab,bc->ca`"), "{error}");
        Ok(())
    }

    #[test]
    fn empty_axes() -> Result<()> {
        let ones = |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu);
        assert_eq!(crate::einsum("ab,bc->ac", &ones((0, 3))?, &ones((3, 2))?)?.dims(), [0, 2]);
        assert_eq!(
            crate::einsum("ab,bc->ac", &ones((2, 0))?, &ones((0, 1))?)?.to_vec2::<f32>()?,
            [[0.], [0.]]
        );
        assert_eq!(crate::einsum("ab,ac->bc", &ones((0, 1))?, &ones((0, 1))?)?.to_vec2::<f32>()?, [[0.]]);
        Ok(())
    }
}
