//! Initial parameters, bit for bit those of Flax with the same key: `init_linen` derives the key, the layer
//! passes the shape to the initializer. Orthogonal matrices come from a factorization and agree to a
//! tolerance.

use candle_core::{DType, Tensor};
use treex_core::{Key, Result, prelude::*};
use treex_nn::initializers::normal;
use treex_nn::*;
use treex_testing::device;
use treex_testing::fixture;

use crate::case::{assert_close, usize_of};

#[derive(Clone, Debug, TreeObject)]
struct Block {
    dense: Linear,
    norm: LayerNorm,
}

impl Module for Block {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok((x + self.norm.call(&self.dense.call(x)?)?)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Deep {
    blocks: ScanBlocks<Block>,
    head: Linear,
}

impl Module for Deep {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.head.call(&self.blocks.call(x)?)
    }
}

fn layer(name: &str) -> Box<dyn Module> {
    match name {
        "DenseGeneral" => {
            let dense = DenseGeneral::new((2, 3, 2), (2, 3)).axis([1, -1]).batch_dims([0]);
            Box::new(dense.bias_init(normal(0.5)))
        }
        "Einsum" => Box::new(Einsum::new((4, 2, 3), "abc,cde->aeb").bias_init(normal(0.5))),
        "Embed" => Box::new(Embed::new(6, 4)),
        "ConvLocal" => Box::new(ConvLocal::new([4, 3, 2], 3, [2, 2]).bias_init(normal(0.5)).strides(2)),
        "ConvTranspose" => Box::new(ConvTranspose::new(2, 3, [2, 2]).bias_init(normal(0.5))),
        "ConvTranspose, transposed kernel" => {
            Box::new(ConvTranspose::new(2, 3, [2, 2]).bias_init(normal(0.5)).transpose_kernel(true))
        }
        "RNN of SimpleCell" => Box::new(Rnn::new(SimpleCell::new(3, 2))),
        "RNN of LSTMCell" => Box::new(Rnn::new(LstmCell::new(3, 2))),
        "RNN of OptimizedLSTMCell" => Box::new(Rnn::new(OptimizedLstmCell::new(3, 2))),
        "RNN of GRUCell" => Box::new(Rnn::new(GruCell::new(3, 2))),
        "RNN of MGUCell" => Box::new(Rnn::new(MguCell::new(3, 2))),
        "RNN of ConvLSTMCell" => Box::new(Rnn::new(ConvLstmCell::new(3, 2, [2]))),
        "ScanBlocks in a model" => {
            let block = Block { dense: Linear::new(3, 3), norm: LayerNorm::new(3).bias_init(normal(0.5)) };
            Box::new(Deep { blocks: ScanBlocks::new(block, 4), head: Linear::new(3, 2) })
        }
        other => panic!("no layer {other}"),
    }
}

/// Whether Flax makes this parameter of a cell by `orthogonal`.
fn is_orthogonal(path: &str) -> bool {
    path.starts_with("cell.h") && path.ends_with(".kernel") && path != "cell.hh.kernel"
}

#[test]
fn initial_parameters_as_in_flax() -> Result<()> {
    let fixture = fixture!("layers/initial.json");
    for case in fixture["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let layer = layer(name).init_linen(Key::from(0), device())?;
        assert_eq!(layer.leaves().len(), case["params"].as_object().unwrap().len(), "{name}");
        for (path, _, leaf) in layer.leaves() {
            let want = &case["params"][path.to_string()];
            let value: &Tensor = leaf.value().unwrap();
            assert_eq!(value.dtype(), DType::F32);
            assert_eq!(
                value.dims(),
                want["shape"].as_array().unwrap().iter().map(usize_of).collect::<Vec<_>>()
            );
            let want = want["bits"].as_array().unwrap().iter();
            let want = want.map(|bits| u32::from_str_radix(bits.as_str().unwrap(), 16).unwrap());
            let want = Tensor::from_iter(want.map(f32::from_bits), device())?.reshape(value.shape())?;
            let tolerance = if is_orthogonal(&path.to_string()) { 1e-6 } else { 0. };
            assert_close(value, &want, tolerance, &format!("{name}: {path}"));
        }
    }
    Ok(())
}
