//! Plots: curves, and points with a line.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context as _, Result};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// A palette that most people can distinguish, on white; the first three colors also in greyscale.
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 120, 130),
    RGBColor(225, 110, 20),
    RGBColor(115, 80, 160),
    RGBColor(190, 30, 80),
    RGBColor(90, 150, 40),
    RGBColor(40, 90, 200),
    RGBColor(150, 100, 50),
    RGBColor(120, 120, 120),
    RGBColor(230, 170, 0),
    RGBColor(20, 20, 60),
];

/// A named curve: x and y.
#[derive(Clone, Debug)]
pub struct Curve<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Registers a font, so that text works on machines without fonts.
pub fn with_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It only fails on an invalid font, and this one is part of the program.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

/// Writes a PNG with one line per curve and a logarithmic y axis.
///
/// # Errors
/// If there are no positive points, or the file cannot be written.
pub fn curves(file: &Path, title: &str, x_label: &str, y_label: &str, curves: &[Curve<'_>]) -> Result<()> {
    with_font();
    let points = || curves.iter().flat_map(|curve| &curve.points).filter(|(_, y)| *y > 0. && y.is_finite());
    let right = points().map(|(x, _)| *x).fold(f64::MIN, f64::max);
    let left = points().map(|(x, _)| *x).fold(f64::MAX, f64::min);
    // A long legend is placed beside the curves.
    let right = if curves.len() > 3 { right + (right - left) / 2. } else { right };
    let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    anyhow::ensure!(low <= high, "there is nothing to plot in `{title}`");
    let root = BitMapBackend::new(file, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(left..right.max(left + 1.), (low * 0.8..high * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(x_label)
        .y_desc(y_label)
        .axis_desc_style(("sans-serif", 18))
        .label_style(("sans-serif", 15))
        .light_line_style(RGBColor(240, 240, 240))
        .y_label_formatter(&|y| format!("{y:.3}"))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let points = curve.points.iter().copied().filter(|(_, y)| *y > 0. && y.is_finite());
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(curve.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 17))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.2))
        .draw()?;
    root.present().with_context(|| format!("cannot write `{}`", file.display()))
}

/// Writes a PNG with points and a line through them.
///
/// # Errors
/// If the file cannot be written.
pub fn fit(file: &Path, title: &str, points: &[(f64, f64)], line: &[(f64, f64)]) -> Result<()> {
    with_font();
    let all = || points.iter().chain(line);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let margin = (high - low).max(1e-6) * 0.05;
        low - margin..high + margin
    };
    let (x, y) = (range(&mut all().map(|p| p.0)), range(&mut all().map(|p| p.1)));
    let root = BitMapBackend::new(file, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 15))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    chart
        .draw_series(points.iter().map(|&point| Circle::new(point, 3, COLORS[0].mix(0.5).filled())))?
        .label("data")
        .legend(|(x, y)| Circle::new((x + 12, y), 4, COLORS[0].filled()));
    chart
        .draw_series(LineSeries::new(line.iter().copied(), COLORS[1].stroke_width(3)))?
        .label("model")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], COLORS[1].stroke_width(3)));
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 17))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.2))
        .draw()?;
    root.present().with_context(|| format!("cannot write `{}`", file.display()))
}
