//! An embedding table.

use candle_core::{DType, Device, Tensor};
use treex_core::{Error, ErrorKind, Leaf, Parameter, Result, TreeObject, matmul, record};

use crate::dtype::common_dtype;
use crate::initializers::{Distribution, FanMode, VarianceScaling};
use crate::layers::options::parameter_options;
use crate::ops::embed::{rows_of, rows_on_device};

/// `y = embedding[ids]`, a row for each id: Flax's `Embed`.
///
/// Ids are integers of any shape and any integer type; -1 is the last row; in a table of one row, as in Flax, every id
/// means that row. An id outside of the table is an error on the CPU. Ids on another device stay there, and such an id
/// gives a row of NaN, as in Flax.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Embed, prelude::*};
///
/// let mut embed = Embed::new(100, 16).init(42, &Device::Cpu)?;
/// assert_eq!(embed.embedding.get()?.dims(), [100, 16]);
/// let ids = Tensor::new(&[[3u32, 99, 3], [0, 1, 2]], &Device::Cpu)?;
/// assert_eq!(embed.call(&ids)?.dims(), [2, 3, 16]);
///
/// let query = Tensor::ones((2, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(embed.attend(&query)?.dims(), [2, 100]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Embed {
    /// `[num_embeddings, features]`; default: normal with variance 1 / features.
    pub embedding: Leaf<Parameter>,
    /// As declared; a table that was set by hand may have other sizes.
    shape: (usize, usize),
    dtype: Option<DType>,
}

impl Embed {
    /// A table of `num_embeddings` rows.
    #[must_use]
    pub fn new(num_embeddings: usize, features: usize) -> Self {
        let init = VarianceScaling::new(1., FanMode::FanIn, Distribution::Normal).out_axis([0]).build();
        let shape = (num_embeddings, features);
        Self { embedding: Leaf::param(init, shape, DType::F32), shape, dtype: None }
    }

    /// `query · embeddingᵀ`, over the last axis: the score of each row. The output layer of a language model
    /// that shares the weights of its embedding.
    ///
    /// # Errors
    /// If the query has another number of features than the table.
    pub fn attend(&self, query: &Tensor) -> Result<Tensor> {
        let embedding = self.embedding.infer(self.shape)?;
        let (num_embeddings, features) = embedding.dims2()?;
        let Some((_, batch)) = query.dims().split_last().filter(|(width, _)| **width == features) else {
            return Err(Error::shape("`Embed` got a query of the wrong width")
                .expected(format!("[.., {features}]"))
                .found(format!("{:?}", query.dims()))
                .of(self.identity()));
        };
        let dtype = common_dtype(self.dtype, [query, &embedding]);
        let rows = query.to_dtype(dtype)?.reshape((batch.iter().product::<usize>(), features))?;
        let y = matmul(&rows, &embedding.to_dtype(dtype)?.t()?)?;
        let y = y.reshape([batch, &[num_embeddings]].concat())?;
        record(self, query, &y);
        Ok(y)
    }

    /// `embedding[ids]`.
    fn lookup(&self, embedding: &Tensor, ids: &Tensor) -> Result<Tensor> {
        if !ids.dtype().is_int() {
            return Err(Error::new(ErrorKind::DType, "`Embed` got ids that are not integers")
                .expected("`u8`, `u32` or `i64`")
                .found(format!("`{}`", ids.dtype().as_str()))
                .remedy("cast them: `ids.to_dtype(DType::U32)?`"));
        }
        let (num_embeddings, _) = embedding.dims2()?;
        match ids.device() {
            Device::Cpu => rows_of(embedding, Self::rows(ids, num_embeddings)?, ids.dims()),
            _ if num_embeddings == 0 => Err(Error::argument("`Embed` got ids for a table without rows")
                .expected("at least one row")
                .found(format!("a table of shape {:?}", embedding.dims()))),
            _ => rows_on_device(embedding, ids),
        }
    }

    /// The row of each id on the CPU, in order.
    fn rows(ids: &Tensor, num_embeddings: usize) -> Result<Vec<u32>> {
        let n = num_embeddings as i64;
        let row = |id: i64| {
            let row = if num_embeddings == 1 { 0 } else { id + if id < 0 { n } else { 0 } };
            u32::try_from(row).ok().filter(|_| row < n).ok_or_else(|| {
                Error::argument("`Embed` got an id outside of its table")
                    .expected(format!("one from {} to {}", -n, n - 1))
                    .found(format!("{id}, with a table of {n} rows"))
                    .remedy(
                        "make the table as large as the vocabulary: `Embed::new(num_embeddings, features)`",
                    )
            })
        };
        let ids = ids.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        ids.into_iter().map(row).collect()
    }
}

parameter_options!(Embed { embedding: embedding_init });

impl candle_core::Module for Embed {
    fn forward(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        let embedding = self.embedding.infer(self.shape)?;
        let y = self.lookup(&embedding, ids).map_err(|error| error.of(self.identity()))?;
        let y = y.to_dtype(self.dtype.unwrap_or(embedding.dtype()))?;
        record(self, ids, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use treex_core::prelude::*;

    use super::*;

    fn embed(rows: usize) -> Embed {
        Embed::new(rows, 2).embedding_init(crate::initializers::ones).init(0, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_type_of_integer() -> Result<()> {
        let mut embed = embed(4);
        let want = embed.call(&Tensor::new(&[3i64, 0], &Device::Cpu)?)?.to_vec2::<f32>()?;
        for dtype in [DType::U8, DType::U32, DType::I16, DType::I32] {
            let ids = Tensor::new(&[3i64, 0], &Device::Cpu)?.to_dtype(dtype)?;
            assert_eq!(embed.call(&ids)?.to_vec2::<f32>()?, want, "{dtype:?}");
        }
        assert_eq!(embed.call(&Tensor::zeros((2, 0), DType::U32, &Device::Cpu)?)?.dims(), [2, 0, 2]);
        Ok(())
    }

    #[test]
    fn element_types() -> Result<()> {
        let ids = Tensor::new(&[1u32], &Device::Cpu)?;
        assert_eq!(embed(3).dtype(DType::BF16).call(&ids)?.dtype(), DType::BF16);
        assert_eq!(embed(3).call(&ids)?.dtype(), DType::F32);
        let query = Tensor::ones((1, 2), DType::F64, &Device::Cpu)?;
        assert_eq!(embed(3).attend(&query)?.dtype(), DType::F64);
        Ok(())
    }

    #[test]
    fn errors() -> Result<()> {
        let error =
            |ids: &[i64]| embed(5).call(&Tensor::new(ids, &Device::Cpu).unwrap()).unwrap_err().to_string();
        for (ids, text) in [
            (&[1, 5][..], "expected one from -5 to 4, found 5, with a table of 5 rows"),
            (&[-6], "found -6, with"),
            (&[i64::MIN], "found -9223372036854775808"),
            (&[1 << 32], "found 4294967296"),
        ] {
            let error = error(ids);
            assert!(
                error.starts_with("`Embed` got an id outside of its table") && error.contains(text),
                "{error}"
            );
        }
        let error = embed(5).call(&Tensor::ones(2, DType::F32, &Device::Cpu)?).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DType);
        assert!(error.to_string().contains("found `f32`; cast them"), "{error}");
        let error = embed(0).call(&Tensor::new(&[0u32], &Device::Cpu)?).unwrap_err().to_string();
        assert!(error.contains("with a table of 0 rows"), "{error}");
        for shape in [&[2, 3][..], &[]] {
            let error =
                embed(5).attend(&Tensor::ones(shape, DType::F32, &Device::Cpu)?).unwrap_err().to_string();
            assert!(error.contains("`Embed` got a query of the wrong width: expected [.., 2]"), "{error}");
        }
        Ok(())
    }
}
