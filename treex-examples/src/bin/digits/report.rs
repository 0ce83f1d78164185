//! The report: accuracy, the confusion matrix, and two plots.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use plotters::prelude::*;
use treex_core::prelude::*;
use treex_examples::plot::{self, Curve};
use treex_optim::softmax_cross_entropy_with_integer_labels;

use crate::data::Images;
use crate::model::Net;

/// The mean loss, and the predicted class of each image.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) loss: f64,
    pub(crate) predicted: Vec<u32>,
    pub(crate) labels: Vec<u32>,
}

impl Evaluation {
    /// Evaluates a copy of `net` on `images`, in evaluation mode.
    pub(crate) fn of(net: &Net, images: &Images, device: &Device) -> Result<Self> {
        let mut net = net.clone().into_eval();
        let (mut loss, mut predicted) = (0., Vec::with_capacity(images.len()));
        for chunk in (0..images.len()).collect::<Vec<_>>().chunks(256) {
            let (x, y) = images.batch(chunk, device)?;
            let logits = net.call(&x)?;
            let losses: Tensor = softmax_cross_entropy_with_integer_labels(&logits, &y)?;
            loss += f64::from(losses.sum_all()?.to_scalar::<f32>()?);
            predicted.extend(logits.argmax(1)?.to_vec1::<u32>()?);
        }
        Ok(Self { loss: loss / images.len() as f64, predicted, labels: images.labels.clone() })
    }

    pub(crate) fn wrong(&self) -> usize {
        self.predicted.iter().zip(&self.labels).filter(|(a, b)| a != b).count()
    }

    pub(crate) fn accuracy(&self) -> f64 {
        1. - self.wrong() as f64 / self.labels.len() as f64
    }

    /// Rows are the true classes, columns the predicted ones.
    pub(crate) fn confusion(&self) -> String {
        let classes = self.labels.iter().chain(&self.predicted).max().map_or(0, |&top| top as usize + 1);
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            counts[label as usize][predicted as usize] += 1;
        }
        let mut text = String::from("true \\ predicted\n    ");
        text.extend((0..classes).map(|class| format!("{class:>5}")));
        for (class, row) in counts.iter().enumerate() {
            text += &format!("\n{class:>4}");
            text.extend(
                row.iter()
                    .map(|&count| if count == 0 { format!("{:>5}", ".") } else { format!("{count:>5}") }),
            );
        }
        text
    }
}

/// Plots the training and validation loss.
pub(crate) fn losses(file: &Path, train: &[(f64, f64)], validation: &[(f64, f64)]) -> Result<()> {
    let curves = [
        Curve { name: "training, mean over an epoch", points: train.to_vec() },
        Curve { name: "validation", points: validation.to_vec() },
    ];
    plot::curves(file, "digits: cross-entropy", "step", "loss", &curves)
}

/// Plots test images with their predictions, wrong ones first and highlighted.
pub(crate) fn samples(file: &Path, images: &Images, evaluation: &Evaluation) -> Result<()> {
    const COLUMNS: u32 = 10;
    const ROWS: u32 = 4;
    const CELL: u32 = 88;
    // A larger image has a larger cell, so that each of its pixels is seen.
    let cell = CELL.max(images.side as u32 + 16);
    plot::with_font();
    let root = BitMapBackend::new(file, (COLUMNS * cell, ROWS * (cell + 24))).into_drawing_area();
    root.fill(&WHITE)?;
    let cells = (ROWS * COLUMNS) as usize;
    let is_wrong = |index: usize| evaluation.predicted[index] != evaluation.labels[index];
    let (mut shown, right): (Vec<_>, Vec<_>) = (0..images.len()).partition(|&index| is_wrong(index));
    shown.truncate(cells / 2);
    // The images are sorted by class: evenly spaced ones show every class.
    let places = cells - shown.len();
    shown.extend((0..places.min(right.len())).map(|place| right[place * right.len() / places]));
    for (index, area) in shown.into_iter().zip(root.split_evenly((ROWS as usize, COLUMNS as usize))) {
        let color = if is_wrong(index) { RGBColor(200, 30, 30) } else { RGBColor(40, 40, 40) };
        let pixel = (cell - 16) as i32 / images.side as i32;
        let edge = pixel * images.side as i32;
        let (left, top) = ((cell as i32 - edge) / 2, 4);
        for (at, &value) in images.pixels[index].iter().enumerate() {
            let (x, y) = (left + (at % images.side) as i32 * pixel, top + (at / images.side) as i32 * pixel);
            let grey = (255. * (1. - value)) as u8;
            area.draw(&Rectangle::new(
                [(x, y), (x + pixel, y + pixel)],
                RGBColor(grey, grey, grey).filled(),
            ))?;
        }
        let thickness = if is_wrong(index) { 3 } else { 1 };
        area.draw(&Rectangle::new([(left, top), (left + edge, top + edge)], color.stroke_width(thickness)))?;
        let text = match is_wrong(index) {
            true => format!("{}, not {}", evaluation.labels[index], evaluation.predicted[index]),
            false => evaluation.labels[index].to_string(),
        };
        area.draw(&Text::new(text, (left, top + edge + 5), ("sans-serif", 18).into_font().color(&color)))?;
    }
    root.present().with_context(|| format!("cannot write `{}`", file.display()))
}
