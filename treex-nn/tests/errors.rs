//! An error of a layer inside of a model names the layer, the shapes and its path.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor};
use treex_nn::{
    BatchNorm, Conv, ConvLocal, ConvTranspose, DenseGeneral, Dropout, Einsum, Embed, Linear, Sequential,
    prelude::*, relu,
};
use treex_testing::device;

#[derive(Clone, Debug, TreeObject)]
struct Net {
    head: Sequential,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug, TreeObject)]
struct Block {
    conv: Conv,
    norm: BatchNorm,
    dropout: Option<Dropout>,
}

/// The part with the error.
fn net(part: &str) -> Net {
    let wrong = |name: &str, right: usize| if part == name { right + 1 } else { right };
    let rate = if part == "rate" { 1.5 } else { 0.5 };
    let dims: &[isize] = if part == "dims" { &[9] } else { &[1] };
    Net {
        head: Sequential::new().add(Linear::new(4, 3)).add_fn(relu).add(Linear::new(wrong("linear", 3), 2)),
        blocks: vec![Block {
            conv: Conv::new(wrong("conv", 1), 4, [3, 3]),
            norm: BatchNorm::new(wrong("norm", 4)),
            dropout: Some(Dropout::new(rate).broadcast_dims(dims)),
        }],
    }
    .init(0, device())
    .unwrap()
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for Block { conv, norm, dropout } in &mut self.blocks {
            x = norm.call(&conv.call(&x)?)?;
            if let Some(dropout) = dropout {
                x = dropout.call(&x)?;
            }
        }
        self.head.call(&x.mean((1, 2))?)
    }
}

#[test]
fn errors_name_the_path() {
    let x = Tensor::ones((2, 5, 5, 1), DType::F32, device()).unwrap();
    let run = |part| {
        let mut net = net(part);
        let before = format!("{net:?}");
        let result = net.value_and_grad(Parameter, |net| Ok(net.call(&x)?.sum_all()?));
        assert!(result.is_ok() || format!("{net:?}") == before);
        result.map(|_| ())
    };
    run("nothing").unwrap();
    for (part, path, words) in [
        (
            "linear",
            "head.layers.2",
            "`Linear` got an input of the wrong width at `head.layers.2`: expected [.., 4]",
        ),
        ("conv", "blocks.0.conv", "expected [batch, height, width, 2], found [2, 5, 5, 1]"),
        ("norm", "blocks.0.norm", "expected 5 features on axis -1, found [2, 5, 5, 4]"),
        ("rate", "blocks.0.dropout", "expected a number from 0 to 1, found 1.5"),
        ("dims", "blocks.0.dropout", "expected a dimension of [2, 5, 5, 4], found 9"),
    ] {
        let error = run(part).unwrap_err();
        assert_eq!(error.path().map(ToString::to_string).as_deref(), Some(path), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn errors_in_a_sequence_name_the_path() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device()).unwrap();
    fn check(layer: impl Module + 'static, x: &Tensor, name: &str) {
        let model = Sequential::new().add_fn(|x| Ok(x.clone())).add(layer);
        let mut model = model.init(0, device()).unwrap();
        let error = model.value_and_grad(Parameter, |model| Ok(model.call(x)?.sum_all()?)).unwrap_err();
        assert_eq!(error.path().map(ToString::to_string).as_deref(), Some("layers.1"), "{error}");
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    check(DenseGeneral::new(3, 2), &zeros(&[2, 4]), "DenseGeneral");
    check(Einsum::new((3, 2), "ab,bc->ac"), &zeros(&[2, 4]), "einsum");
    check(Embed::new(3, 2), &zeros(&[2]), "Embed");
    check(ConvLocal::new([4, 1], 2, [3]), &zeros(&[2, 5, 1]), "ConvLocal");
    check(ConvTranspose::new(1, 2, [3]), &zeros(&[2, 5, 2]), "ConvTranspose");
}
