//! A module from a function.

use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use treex_core::{ModuleId, Result, TreeObject, Visitor, VisitorMut, record};

/// `y = f(x)`, for a function without parameters: what [`Sequential::add_fn`](crate::Sequential::add_fn) adds.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::{Lambda, prelude::*, relu};
///
/// let mut square = Lambda::new("square", |x: &Tensor| Ok(x.sqr()?));
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert_eq!(square.call(&x)?.to_vec1::<f32>()?, [1., 4.]);
/// assert_eq!(format!("{:?}", Lambda::of(relu)), "relu");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Lambda {
    name: &'static str,
    function: TypeId,
    f: Arc<Function>,
}

type Function = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

impl Lambda {
    /// `f` with a name, shown in tables.
    pub fn new<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static>(name: &'static str, f: F) -> Self {
        Self { name, function: TypeId::of::<F>(), f: Arc::new(f) }
    }

    /// `f` with its own name; a closure is named `Lambda`.
    pub fn of<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static>(f: F) -> Self {
        let name = type_name::<F>().rsplit("::").next();
        Self::new(name.filter(|name| !name.contains(['{', '<', '>', '('])).unwrap_or("Lambda"), f)
    }

    /// Whether this was made from `f`, by its type.
    pub(crate) fn is<F: 'static>(&self, _: F) -> bool {
        self.function == TypeId::of::<F>()
    }
}

impl candle_core::Module for Lambda {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = (self.f)(x)?;
        record(self, x, &y);
        Ok(y)
    }
}

treex_core::tree_aux!([] Lambda);

/// A module without leaves, named after its function.
impl TreeObject for Lambda {
    fn visit<'a>(&'a self, _: &mut dyn Visitor<'a>) {}

    fn visit_mut<'a>(&'a mut self, _: &mut dyn VisitorMut<'a>) {}

    fn identity(&self) -> Option<ModuleId> {
        Some(ModuleId::of(self, self.name))
    }
}

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    #[test]
    fn names() {
        assert_eq!(format!("{:?}", Lambda::of(same)), "same");
        assert_eq!(format!("{:?}", Lambda::of(|x: &Tensor| Ok(x.neg()?))), "Lambda");
        assert_eq!(format!("{:?}", Lambda::of(same as fn(&Tensor) -> Result<Tensor>)), "Lambda");
        assert_eq!(Lambda::new("minus", |x: &Tensor| Ok(x.neg()?)).module_name(), Some("minus"));
    }
}
