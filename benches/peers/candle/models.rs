//! The models, from Flax's weights: kernels are turned around, and channels come first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{D, DType, Device, IndexOp as _, Result, Tensor, Var, safetensors};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Dropout, Embedding, LayerNorm, Linear, Module as _, ModuleT as _, ops,
};

/// Flax's, not candle-nn's.
pub(crate) const EPSILON: f32 = 1e-6;

/// The weights of a file, and the variables that were made of them.
pub(crate) struct Weights {
    tensors: HashMap<String, Tensor>,
    variables: Option<RefCell<Vec<Var>>>,
}

impl Weights {
    pub(crate) fn variables(file: PathBuf) -> Result<Self> {
        Ok(Self { variables: Some(RefCell::default()), ..Self::constants(file)? })
    }

    pub(crate) fn constants(file: PathBuf) -> Result<Self> {
        Ok(Self { tensors: safetensors::load(file, &Device::Cpu)?, variables: None })
    }

    pub(crate) fn vars(&self) -> Vec<Var> {
        self.variables.as_ref().map(|variables| variables.borrow().clone()).unwrap_or_default()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| candle_core::Error::Msg(format!("no `{name}`")))
    }

    fn parameter(&self, value: &Tensor) -> Result<Tensor> {
        let Some(variables) = &self.variables else { return value.contiguous() };
        let variable = Var::from_tensor(&value.contiguous()?)?;
        variables.borrow_mut().push(variable.clone());
        Ok(variable.as_tensor().clone())
    }

    /// A kernel may have several input and output axes.
    fn matrix(&self, name: &str) -> Result<(Tensor, Tensor)> {
        let bias = self.tensor(&format!("{name}.bias"))?.flatten_all()?;
        let kernel = self.tensor(&format!("{name}.kernel"))?;
        let outputs = bias.elem_count();
        Ok((kernel.reshape((kernel.elem_count() / outputs, outputs))?, bias))
    }

    fn linear_of(&self, (kernel, bias): (Tensor, Tensor)) -> Result<Linear> {
        Ok(Linear::new(self.parameter(&kernel.t()?)?, Some(self.parameter(&bias)?)))
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        self.linear_of(self.matrix(name)?)
    }

    fn scale_and_bias(&self, name: &str) -> Result<(Tensor, Tensor)> {
        let [scale, bias] = ["scale", "bias"].map(|part| self.tensor(&format!("{name}.{part}")));
        Ok((self.parameter(&scale?)?, self.parameter(&bias?)?))
    }

    fn convolution(&self, name: &str) -> Result<Conv2d> {
        let kernel = self.parameter(&self.tensor(&format!("{name}.kernel"))?.permute((3, 2, 0, 1))?)?;
        let bias = self.parameter(&self.tensor(&format!("{name}.bias"))?)?;
        Ok(Conv2d::new(kernel, Some(bias), Conv2dConfig { padding: 1, ..Default::default() }))
    }

    fn batch_norm(&self, name: &str, features: usize) -> Result<BatchNorm> {
        let (scale, bias) = self.scale_and_bias(name)?;
        let mean = Tensor::zeros(features, DType::F32, &Device::Cpu)?;
        BatchNorm::new(features, mean.clone(), mean.ones_like()?, scale, bias, 1e-5)
    }
}

pub(crate) trait Model {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

pub(crate) struct Mlp(Vec<Linear>);

impl Mlp {
    pub(crate) fn new(weights: &Weights) -> Result<Self> {
        Ok(Self((0..3).map(|i| weights.linear(&format!("layers.{i}"))).collect::<Result<_>>()?))
    }
}

impl Model for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.0[0].forward(x)?.relu()?;
        let x = self.0[1].forward(&x)?.relu()?;
        self.0[2].forward(&x)
    }
}

pub(crate) struct Cnn {
    convolutions: [(Conv2d, BatchNorm); 2],
    dense: [Linear; 2],
    dropout: Dropout,
}

impl Cnn {
    pub(crate) fn new(weights: &Weights, rate: f32) -> Result<Self> {
        let layer = |i: usize, features| {
            Ok::<_, candle_core::Error>((
                weights.convolution(&format!("conv_{i}"))?,
                weights.batch_norm(&format!("norm_{i}"), features)?,
            ))
        };
        let (kernel, bias) = weights.matrix("dense_0")?;
        let kernel = kernel.reshape((7, 7, 64, 128))?.permute((2, 0, 1, 3))?.reshape(((), 128))?;
        Ok(Self {
            convolutions: [layer(0, 32)?, layer(1, 64)?],
            dense: [weights.linear_of((kernel, bias))?, weights.linear("dense_1")?],
            dropout: Dropout::new(rate),
        })
    }
}

impl Model for Cnn {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (convolution, norm) in &self.convolutions {
            x = norm.forward_t(&convolution.forward(&x)?, true)?.relu()?.max_pool2d(2)?;
        }
        let x = self.dense[0].forward(&x.flatten_from(1)?)?.relu()?;
        self.dense[1].forward(&self.dropout.forward_t(&x, true)?)
    }
}

/// candle-nn's layer norm and its `softmax_last_dim` have no gradient, so training takes the slow ones.
struct Norm {
    scale: Tensor,
    bias: Tensor,
    train: bool,
}

impl Norm {
    fn new(weights: &Weights, name: &str, train: bool) -> Result<Self> {
        let (scale, bias) = weights.scale_and_bias(name)?;
        Ok(Self { scale, bias, train })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.train {
            ops::layer_norm_slow(x, &self.scale, &self.bias, EPSILON)
        } else {
            LayerNorm::new(self.scale.clone(), self.bias.clone(), EPSILON.into()).forward(x)
        }
    }
}

struct Block {
    norms: [Norm; 2],
    query_key_value: Linear,
    out: Linear,
    dense: [Linear; 2],
    train: bool,
}

impl Block {
    fn new(weights: &Weights, name: &str, train: bool) -> Result<Self> {
        let parts = ["query", "key", "value"].map(|part| weights.matrix(&format!("{name}.attention.{part}")));
        let (kernels, biases): (Vec<_>, Vec<_>) =
            parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let norm = |part: &str| Norm::new(weights, &format!("{name}.{part}"), train);
        let linear = |part: &str| weights.linear(&format!("{name}.{part}"));
        Ok(Self {
            norms: [norm("norm_0")?, norm("norm_1")?],
            query_key_value: weights.linear_of((Tensor::cat(&kernels, 1)?, Tensor::cat(&biases, 0)?))?,
            out: linear("attention.out")?,
            dense: [linear("dense_0")?, linear("dense_1")?],
            train,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, features) = x.dims3()?;
        let parts = self.query_key_value.forward(&self.norms[0].forward(x)?)?;
        let parts = parts.reshape((batch, length, 3, 4, features / 4))?.permute((2, 0, 3, 1, 4))?;
        let query = (parts.i(0)?.contiguous()? * (4. / features as f64).sqrt())?;
        let (key, value) = (parts.i(1)?.contiguous()?, parts.i(2)?.contiguous()?);
        let scores = query.matmul(&key.t()?)?;
        let shares =
            if self.train { ops::softmax(&scores, D::Minus1)? } else { ops::softmax_last_dim(&scores)? };
        let attended = shares.matmul(&value)?.transpose(1, 2)?.reshape(x.shape())?;
        let x = (x + self.out.forward(&attended)?)?;
        let y = self.dense[0].forward(&self.norms[1].forward(&x)?)?.gelu()?;
        x + self.dense[1].forward(&y)?
    }
}

pub(crate) struct Transformer {
    embed: Embedding,
    positions: Tensor,
    blocks: [Block; 2],
    norm: Norm,
    head: Linear,
}

impl Transformer {
    pub(crate) fn new(weights: &Weights, train: bool) -> Result<Self> {
        Ok(Self {
            embed: Embedding::new(weights.parameter(&weights.tensor("embed.embedding")?)?, 256),
            positions: weights.parameter(&weights.tensor("positions")?)?,
            blocks: [Block::new(weights, "blocks.0", train)?, Block::new(weights, "blocks.1", train)?],
            norm: Norm::new(weights, "norm", train)?,
            head: weights.linear("head")?,
        })
    }
}

impl Model for Transformer {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut x = self.embed.forward(ids)?.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // As the loss wants them: a row for each label.
        self.head.forward(&self.norm.forward(&x)?)?.flatten(0, 1)
    }
}
