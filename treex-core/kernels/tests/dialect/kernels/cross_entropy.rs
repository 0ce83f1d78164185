//! The cross entropy of rows with a label each.

use treex_kernels::cross_entropy::{DIALECT, IntegerCrossEntropy};
use treex_kernels::dialect::{ELEMENT, ROWS as OF_ROWS};
use treex_kernels::math::Real;

use super::{ROWS, for_each_type};
use crate::element::{Element, numbers, wide_numbers};
use crate::host::{Host, read, write};
use crate::layout::Rows;
use crate::text::Text;

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element + IntegerCrossEntropy>(host: &mut Host) {
    for (count, columns) in ROWS {
        let rows = Rows::new(count, columns);
        let x: Vec<T> = numbers(count * columns, 1);
        let cotangents = wide_numbers::<T>(count, 2);
        let labels: Vec<u32> = (0..count).map(|row| (row * 7 % columns) as u32).collect();
        let (losses, sums) = T::integer_cross_entropy(&x, &labels, columns).unwrap();
        let dx = T::integer_cross_entropy_backward(&x, &labels, columns, &sums, &cotangents).unwrap();
        let saved: Vec<f64> = sums.iter().flat_map(|of| [of.largest, of.log_sum]).map(Real::to_f64).collect();
        for is_long in [false, true] {
            let labels = if is_long {
                read(&labels.iter().map(|label| i64::from(*label)).collect::<Vec<_>>())
            } else {
                read(&labels)
            };
            let defines = rows.defines([("IS_LONG", is_long)]);
            let text = Text::of_element(T::NAME, &[ELEMENT, OF_ROWS, DIALECT], &defines);
            let [rows_value, columns_value] = rows.values();
            let parameters = [
                read(&x),
                labels.clone(),
                write::<T::Wide>(count),
                write::<T::Wide>(2 * count),
                rows_value.clone(),
                columns_value.clone(),
            ];
            let found = host.launch(&text, "integer_cross_entropy", rows.groups(), &parameters);
            host.wide_near::<T>("losses", &found[0], &losses, 4.);
            host.wide_near::<T>("saved", &found[1], &saved, 4.);
            let read_back = crate::host::Parameter::Read(found[1].clone());
            let cotangents = read(&cotangents);
            let parameters =
                [read(&x), labels, read_back, cotangents, write::<T>(x.len()), rows_value, columns_value];
            let found = host.launch(&text, "integer_cross_entropy_backward", rows.groups(), &parameters);
            host.near("the gradient of logits", &found[0], &dx, 1.);
        }
    }
    labels_that_are_no_class::<T>(host);
}

/// Their losses are NaN, and their gradients those of the softmax.
fn labels_that_are_no_class<T: Element>(host: &mut Host) {
    let (count, columns) = ROWS[0];
    let rows = Rows::new(count, columns);
    let x: Vec<T> = numbers(count * columns, 1);
    for is_long in [false, true] {
        let labels = if is_long { read(&vec![-1i64; count]) } else { read(&vec![columns as u32; count]) };
        let text =
            Text::of_element(T::NAME, &[ELEMENT, OF_ROWS, DIALECT], &rows.defines([("IS_LONG", is_long)]));
        let [rows_value, columns_value] = rows.values();
        let (losses, saved) = (write::<T::Wide>(count), write::<T::Wide>(2 * count));
        let parameters = [read(&x), labels, losses, saved, rows_value, columns_value];
        let found = host.launch(&text, "integer_cross_entropy", rows.groups(), &parameters);
        host.wide_near::<T>("losses", &found[0], &vec![f64::NAN; count], 1.);
    }
}
