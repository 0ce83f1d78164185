//! Softmax of rows, and its gradients.

use treex_kernels::dialect::{ELEMENT, ROWS as OF_ROWS};
use treex_kernels::softmax::{DIALECT, Softmax};

use super::{ROWS, for_each_type};
use crate::element::{Element, numbers};
use crate::host::{Host, read, write};
use crate::layout::Rows;
use crate::text::Text;

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element + Softmax>(host: &mut Host) {
    for (rows, columns) in ROWS {
        let (x, dy): (Vec<T>, Vec<T>) = (numbers(rows * columns, 1), numbers(rows * columns, 2));
        let rows = Rows::new(rows, columns);
        let mut run = |name: &str, is_log: bool, all: &[&[T]]| {
            let text =
                Text::of_element(T::NAME, &[ELEMENT, OF_ROWS, DIALECT], &rows.defines([("IS_LOG", is_log)]));
            let reads = all.iter().map(|x| read(x));
            let parameters: Vec<_> = reads.chain([write::<T>(x.len())]).chain(rows.values()).collect();
            host.launch(&text, name, rows.groups(), &parameters).remove(0)
        };
        let y = T::softmax(&x, columns).unwrap();
        let found = [
            run("softmax", false, &[&x]),
            run("softmax", true, &[&x]),
            run("softmax_backward", false, &[&y, &dy]),
            run("log_softmax_backward", true, &[&x, &dy]),
        ];
        let expected = [
            y.clone(),
            T::log_softmax(&x, columns).unwrap(),
            T::softmax_backward(&y, &dy, columns).unwrap(),
            T::log_softmax_backward(&x, &dy, columns).unwrap(),
        ];
        let names = ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"];
        for ((name, found), expected) in names.iter().zip(found).zip(expected) {
            host.near(&format!("{name} of rows of {columns}"), &found, &expected, 1.);
        }
    }
}
