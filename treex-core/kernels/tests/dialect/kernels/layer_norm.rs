//! Rows that are normalized by their own statistics.

use treex_kernels::dialect::{COLUMNS, ELEMENT, ROWS as OF_ROWS};
use treex_kernels::math::Real;
use treex_kernels::norm::layer_norm::{DIALECT, LayerNorm, Moments};
use treex_kernels::norm::{STATISTICS, group_norm};
use treex_kernels::sum_axis0::DIALECT as SUM_AXIS0;

use super::{ROWS, for_each_type};
use crate::element::{Element, numbers, wide_numbers};
use crate::host::{Host, Parameter, read, real, short, write};
use crate::layout::{Pieces, Rows};
use crate::text::Text;

const EPSILON: f64 = 1e-5;

const MOMENTS: [Moments; 3] = [
    Moments::Centered { use_fast_variance: true },
    Moments::Centered { use_fast_variance: false },
    Moments::Uncentered,
];

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element + LayerNorm>(host: &mut Host) {
    for (count, columns) in ROWS {
        for moments in MOMENTS {
            with_parameters::<T>(host, count, columns, moments);
        }
        without_parameters::<T>(host, count, columns);
    }
}

fn text<T: Element>(rows: Rows, moments: Moments, has_scale: bool, has_bias: bool) -> Text {
    let defines = rows.defines([
        ("IS_CENTERED", matches!(moments, Moments::Centered { .. })),
        ("IS_FAST", !matches!(moments, Moments::Centered { use_fast_variance: false })),
        ("HAS_SCALE", has_scale),
        ("HAS_BIAS", has_bias),
    ]);
    Text::of_element(T::NAME, &[ELEMENT, OF_ROWS, STATISTICS, DIALECT], &defines)
}

fn with_parameters<T: Element + LayerNorm>(host: &mut Host, count: usize, columns: usize, moments: Moments) {
    let (x, dy): (Vec<T>, Vec<T>) = (numbers(count * columns, 1), numbers(count * columns, 2));
    let (scale, bias) = (wide_numbers::<T>(columns, 3), wide_numbers::<T>(columns, 4));
    let (y, statistics) = T::layer_norm(&x, &scale, &bias, moments, EPSILON).unwrap();
    let expected = T::layer_norm_backward(&x, &dy, &scale, &statistics, moments).unwrap();
    let rows = Rows::new(count, columns);
    let what = |what: &str| format!("{what} of rows of {columns}, {moments:?}");

    let text = text::<T>(rows, moments, true, true);
    let [rows_value, columns_value] = rows.values();
    let saved = write::<T::Wide>(3 * count);
    let written = write::<T>(x.len());
    let parameters = [
        read(&x),
        read(&scale),
        read(&bias),
        written.clone(),
        saved,
        rows_value.clone(),
        columns_value.clone(),
        real::<T>(EPSILON),
    ];
    let forward = host.launch(&text, "layer_norm", rows.groups(), &parameters);
    host.near(&what("y"), &forward[0], &y, 4.);

    let saved = Parameter::Read(forward[1].clone());
    let parameters = [read(&x), read(&dy), read(&scale), saved.clone(), written, rows_value, columns_value];
    let found = host.launch(&text, "layer_norm_backward", rows.groups(), &parameters);
    host.near(&what("dx"), &found[0], &expected.x.unwrap(), 8.);

    let pieces = Pieces::of_sums(1, count, columns);
    let defines = pieces.defines([
        ("IS_OF_ROWS", true),
        ("IS_CENTERED", false),
        ("HAS_SCALE", false),
        ("HAS_BIAS", false),
        ("HAS_TERMS", false),
    ]);
    let text = Text::of_element(T::NAME, &[ELEMENT, COLUMNS, group_norm::DIALECT], &defines);
    let parameters: Vec<_> = [read(&x), read(&dy), saved, write::<T::Wide>(2 * columns * pieces.all())]
        .into_iter()
        .chain(pieces.values())
        .chain([short(columns)])
        .collect();
    let sums = host.launch(&text, "norm_gradient_sums", pieces.groups(), &parameters).remove(0);
    let found = totals::<T>(host, sums, 2 * columns);
    let both = [expected.scale, expected.bias].concat();
    host.wide_near::<T>(&what("the gradients of scale and bias"), &found, &both, 2. * (count as f64).sqrt());
}

/// As with scales of 1 and biases of 0.
fn without_parameters<T: Element + LayerNorm>(host: &mut Host, count: usize, columns: usize) {
    let (x, dy): (Vec<T>, Vec<T>) = (numbers(count * columns, 1), numbers(count * columns, 2));
    let (ones, zeros) = (vec![T::Wide::of(1.); columns], vec![T::Wide::of(0.); columns]);
    let (y, statistics) = T::layer_norm(&x, &ones, &zeros, MOMENTS[0], EPSILON).unwrap();
    let expected = T::layer_norm_backward(&x, &dy, &ones, &statistics, MOMENTS[0]).unwrap();
    let rows = Rows::new(count, columns);
    let text = text::<T>(rows, MOMENTS[0], false, false);
    let none = || read::<T>(&[]);
    let (y_written, saved) = (write::<T>(x.len()), write::<T::Wide>(3 * count));
    let [rows_value, columns_value] = rows.values();
    let mut parameters = vec![read(&x), none(), none(), y_written.clone(), saved, rows_value, columns_value];
    parameters.push(real::<T>(EPSILON));
    let forward = host.launch(&text, "layer_norm", rows.groups(), &parameters);
    host.near("y without a scale", &forward[0], &y, 4.);
    let saved = Parameter::Read(forward[1].clone());
    let [rows_value, columns_value] = rows.values();
    let parameters = [read(&x), read(&dy), none(), saved, y_written, rows_value, columns_value];
    let found = host.launch(&text, "layer_norm_backward", rows.groups(), &parameters);
    host.near("dx without a scale", &found[0], &expected.x.unwrap(), 4.);
}

/// The sums of columns of sums, in the type that `T` is computed in.
pub(super) fn totals<T: Element>(host: &mut Host, sums: Vec<u8>, columns: usize) -> Vec<u8> {
    let wide = if T::NAME == "F64" { "F64" } else { "F32" };
    let size = if T::NAME == "F64" { 8 } else { 4 };
    let pieces = Pieces::whole(sums.len() / size / columns, columns);
    let defines = pieces.defines([("IS_PARTIAL", true), ("IS_ROUNDED", true)]);
    let text = Text::of_element(wide, &[ELEMENT, COLUMNS, SUM_AXIS0], &defines);
    let parameters: Vec<_> =
        [Parameter::Read(sums), write::<T::Wide>(columns)].into_iter().chain(pieces.values()).collect();
    host.launch(&text, "sum_axis0", pieces.groups(), &parameters).remove(0)
}
