//! Initial parameters, bit for bit those of Flax with the same key: `init_linen` derives the key, the layer
//! gives the initializer its shape.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use treex_core::{Key, Result, prelude::*};
use treex_nn::initializers::normal;
use treex_nn::*;

use crate::case::usize_of;

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
        other => panic!("no layer {other}"),
    }
}

#[test]
fn initial_parameters_as_in_flax() -> Result<()> {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/layers/initial.json")).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let layer = layer(name).init_linen(Key::from(0), &Device::Cpu)?;
        assert_eq!(layer.leaves().len(), case["params"].as_object().unwrap().len(), "{name}");
        for (path, _, leaf) in layer.leaves() {
            let want = &case["params"][path.to_string()];
            let value: &Tensor = leaf.value().unwrap();
            assert_eq!(value.dtype(), DType::F32);
            assert_eq!(
                value.dims(),
                want["shape"].as_array().unwrap().iter().map(usize_of).collect::<Vec<_>>()
            );
            let bits =
                value.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|x| format!("{:08x}", x.to_bits()));
            let want: Vec<_> =
                want["bits"].as_array().unwrap().iter().map(|bits| bits.as_str().unwrap()).collect();
            assert_eq!(bits.collect::<Vec<_>>(), want, "{name}: {path}");
        }
    }
    Ok(())
}
