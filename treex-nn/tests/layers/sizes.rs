//! Lazy layers infer their sizes from a sample, and all layers report shapes to a summary.

use candle_core::{DType, Tensor};
use treex_core::{Result, prelude::*};
use treex_nn::*;
use treex_testing::device;

use crate::case::assert_close;

fn sample(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, device()).unwrap()
}

/// A lazy layer, the same with sizes, and the shape of an input.
type Row = (Box<dyn Module>, Box<dyn Module>, Vec<usize>);

fn row(learned: impl Module + 'static, given: impl Module + 'static, input: &[usize]) -> Row {
    (Box::new(learned), Box::new(given), input.to_vec())
}

fn table() -> Vec<Row> {
    let axes = |dense: DenseGeneral| dense.axis([1, -1]).batch_dims([0]);
    vec![
        row(Linear::lazy(4), Linear::new(3, 4), &[2, 3]),
        row(axes(DenseGeneral::lazy((4, 5))), axes(DenseGeneral::new((2, 6, 3), (4, 5))), &[2, 6, 7, 3]),
        row(Conv::lazy(4, [3, 3]), Conv::new(3, 4, [3, 3]), &[2, 5, 5, 3]),
        row(ConvLocal::lazy(4, [2, 2]), ConvLocal::new([5, 6, 3], 4, [2, 2]), &[2, 5, 6, 3]),
        row(ConvTranspose::lazy(4, [3]), ConvTranspose::new(3, 4, [3]), &[2, 5, 3]),
        row(BatchNorm::lazy(), BatchNorm::new(3), &[2, 5, 3]),
        row(LayerNorm::lazy(), LayerNorm::new(3), &[2, 5, 3]),
        row(RmsNorm::lazy(), RmsNorm::new(3), &[2, 5, 3]),
        row(GroupNorm::lazy(), GroupNorm::new(64), &[2, 5, 64]),
        row(InstanceNorm::lazy(), InstanceNorm::new(3), &[2, 5, 3]),
        row(SpectralNorm::new(Linear::lazy(4)), SpectralNorm::new(Linear::new(3, 4)), &[2, 3]),
        row(WeightNorm::new(Linear::lazy(4)), WeightNorm::new(Linear::new(3, 4)), &[2, 3]),
        row(Mlp::lazy([4, 2]), Mlp::new([3, 4, 2]), &[2, 3]),
        row(MultiHeadAttention::lazy(2), MultiHeadAttention::new(2, 6), &[2, 5, 6]),
        row(Rnn::new(SimpleCell::lazy(4)), Rnn::new(SimpleCell::new(3, 4)), &[2, 5, 3]),
        row(Rnn::new(LstmCell::lazy(4)), Rnn::new(LstmCell::new(3, 4)), &[2, 5, 3]),
        row(Rnn::new(GruCell::lazy(4)), Rnn::new(GruCell::new(3, 4)), &[2, 5, 3]),
        row(Rnn::new(MguCell::lazy(4)), Rnn::new(MguCell::new(3, 4)), &[2, 5, 3]),
        row(Rnn::new(ConvLstmCell::lazy(4, [2])), Rnn::new(ConvLstmCell::new(3, 4, [2])), &[2, 5, 6, 3]),
        row(
            Bidirectional::new(Rnn::new(GruCell::lazy(4)), Rnn::new(GruCell::lazy(2))),
            Bidirectional::new(Rnn::new(GruCell::new(3, 4)), Rnn::new(GruCell::new(3, 2))),
            &[2, 5, 3],
        ),
        row(BatchApply::new(Linear::lazy(4)), BatchApply::new(Linear::new(3, 4)), &[2, 5, 3]),
        row(Remat::new(Linear::lazy(4)), Remat::new(Linear::new(3, 4)), &[2, 3]),
        row(
            Sequential::new().add(Linear::lazy(4)).add_fn(relu).add(Linear::lazy(2)),
            Sequential::new().add(Linear::new(3, 4)).add_fn(relu).add(Linear::new(4, 2)),
            &[2, 3],
        ),
    ]
}

#[test]
fn lazy_layers_equal_layers_with_given_sizes() -> Result<()> {
    for (learned, given, input) in table() {
        let (x, name) = (sample(&input), format!("{learned:?}"));
        assert!(learned.clone().init(7, device()).is_err(), "{name}");
        let (mut learned, mut given) = (learned.init_with(7, &x)?, given.init(7, device())?);
        assert_eq!(learned.tabulate(), given.tabulate());
        let (leaves, wanted) = (learned.leaves(), given.leaves());
        assert_eq!(leaves.len(), wanted.len(), "{name}");
        for ((path, _, leaf), (wanted_path, _, want)) in leaves.into_iter().zip(wanted) {
            assert_eq!(path, wanted_path, "{name}");
            assert_close(leaf.value().unwrap(), want.value().unwrap(), 0., &format!("{name}: {path}"));
        }
        assert_close(&learned.call(&x)?, &given.call(&x)?, 0., &name);
    }
    Ok(())
}

/// The cells of a table's rows.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let cells = |line| str::split(line, "  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    table.lines().map(cells).collect()
}

#[test]
fn layers_report_their_shapes() -> Result<()> {
    for (_, given, input) in table() {
        let mut model = given.init(7, device())?.into_eval();
        let x = sample(&input);
        let y = model.call(&x)?;
        let table = model.tabulate_with(&x)?;
        let shapes = [format!("{:?}", x.dims()), format!("{:?}", y.dims())];
        // Under `BatchApply`, the row is that of the layer inside, with the merged batch.
        let shapes = if input == [2, 5, 3] && y.dims() == [2, 5, 4] && table.contains("[10, 3]") {
            ["[10, 3]".into(), "[10, 4]".into()]
        } else {
            shapes
        };
        assert!(cells(&table).iter().any(|row| row.windows(2).any(|pair| pair == shapes)), "{table}");
    }
    Ok(())
}

#[derive(Clone, Debug, TreeObject)]
struct Model {
    rnn: Rnn<GruCell>,
    attention: MultiHeadAttention,
    blocks: ScanBlocks<Linear>,
    head: Remat<Linear>,
}

impl Module for Model {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = self.attention.call(&self.rnn.call(x)?)?;
        self.head.call(&self.blocks.call(&x)?)
    }
}

#[test]
fn shapes_within_attention_and_recurrence() -> Result<()> {
    let model = Model {
        rnn: Rnn::new(GruCell::lazy(8)),
        attention: MultiHeadAttention::lazy(2).normalize_qk(true),
        blocks: ScanBlocks::new(Linear::new(8, 8), 3),
        head: Remat::new(Linear::lazy(4)),
    };
    let x = sample(&[2, 5, 3]);
    let table = model.init_with(0, &x)?.tabulate_with(&x)?;
    for row in [
        ["rnn", "Rnn", "[2, 5, 3]", "[2, 5, 8]"],
        ["rnn.cell", "GruCell", "[2, 3]", "[2, 8]"],
        ["rnn.cell.hn", "Linear", "[2, 8]", "[2, 8]"],
        ["attention", "MultiHeadDotProductAttention", "[2, 5, 8]", "[2, 5, 8]"],
        ["attention.query", "DenseGeneral", "[2, 5, 8]", "[2, 5, 2, 4]"],
        ["attention.key_ln", "LayerNorm", "[2, 5, 2, 4]", "[2, 5, 2, 4]"],
        ["attention.out", "DenseGeneral", "[2, 5, 2, 4]", "[2, 5, 8]"],
        ["blocks", "Linear", "[2, 5, 8]", "[2, 5, 8]"],
        ["head", "Linear", "[2, 5, 8]", "[2, 5, 4]"],
    ] {
        assert!(cells(&table).iter().any(|cells| cells.starts_with(&row)), "{row:?}\n{table}");
    }
    Ok(())
}
