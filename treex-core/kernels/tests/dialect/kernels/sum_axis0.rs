//! The sums of columns, in one launch or two.

use treex_kernels::dialect::{COLUMNS, ELEMENT};
use treex_kernels::math::Real;
use treex_kernels::sum_axis0::{DIALECT, SumAxis0};

use super::for_each_type;
use crate::element::{Element, numbers};
use crate::host::{Host, Parameter, read, write};
use crate::layout::Pieces;
use crate::text::Text;

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element<Wide: SumAxis0>>(host: &mut Host) {
    for (rows, columns) in [(9, 3), (130, 33), (1500, 3), (300, 40)] {
        let x: Vec<T> = numbers(rows * columns, 1);
        let wide: Vec<_> = x.iter().map(|x| x.widen()).collect();
        let sums = T::Wide::sum_axis0(&wide, columns).unwrap();
        let expected: Vec<T> = sums.iter().map(|sum| T::narrow(*sum)).collect();
        let sums: Vec<f64> = sums.iter().map(|sum| sum.to_f64()).collect();
        // The largest sum of so many numbers that are at most 2.
        let scale = (rows as f64).sqrt() * 2.;

        let pieces = Pieces::of_sums(1, rows, columns);
        let partial = host.launch(
            &text::<T>(pieces, false, false),
            "sum_axis0",
            pieces.groups(),
            &parameters(read(&x), write::<T::Wide>(pieces.pieces * columns), pieces),
        );
        if pieces.pieces == 1 {
            host.wide_near::<T>("sums of columns", &partial[0], &sums, scale);
        }
        let whole = Pieces::whole(pieces.pieces, columns);
        let written = write::<T>(columns);
        let of_sums = parameters(Parameter::Read(partial[0].clone()), written.clone(), whole);
        let found = host.launch(&text::<T>(whole, true, true), "sum_axis0", whole.groups(), &of_sums);
        host.near("sums of sums", &found[0], &expected, scale);

        let whole = Pieces::whole(rows, columns);
        let of_elements = parameters(read(&x), written, whole);
        let found = host.launch(&text::<T>(whole, false, true), "sum_axis0", whole.groups(), &of_elements);
        host.near("rounded sums", &found[0], &expected, scale);
    }
}

fn text<T: Element>(pieces: Pieces, is_partial: bool, is_rounded: bool) -> Text {
    let defines = pieces.defines([("IS_PARTIAL", is_partial), ("IS_ROUNDED", is_rounded)]);
    Text::of_element(T::NAME, &[ELEMENT, COLUMNS, DIALECT], &defines)
}

fn parameters(x: Parameter, sums: Parameter, pieces: Pieces) -> Vec<Parameter> {
    [x, sums].into_iter().chain(pieces.values()).collect()
}
