//! Rows of a table by their ids, and the sums of their gradients.

use treex_kernels::dialect::{EACH, ELEMENT, ROWS};
use treex_kernels::embedding::{DIALECT, Embedding};

use super::for_each_type;
use crate::element::{Element, numbers};
use crate::host::{Host, Parameter, long, read, short, write};
use crate::layout::groups;
use crate::text::{GROUP_SIZE, Text};

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element + Embedding>(host: &mut Host) {
    for (n, features, count) in [(5, 3, 300), (40, 1100, 20)] {
        let (table, dy): (Vec<T>, Vec<T>) = (numbers(n * features, 1), numbers(count * features, 2));
        let ids: Vec<u32> = (0..count).map(|at| (at * at % 11 % n) as u32).collect();
        let gathered = T::gather(&table, &ids, features).unwrap();
        let scattered = T::scatter_add(&dy, &ids, n, features).unwrap();
        // Every other one counts from the end.
        let from_end = |(at, &id): (usize, &u32)| i64::from(id) - if at % 2 == 0 { 0 } else { n as i64 };
        let long_ids: Vec<i64> = ids.iter().enumerate().map(from_end).collect();
        for (is_long, ids) in [(0, read(&ids)), (1, read(&long_ids))] {
            let text = text::<T>(is_long);
            let found = gather(host, &text, &table, &ids, [count, n, features]);
            host.near("gathered rows", &found, &gathered, 1.);
            let zeros = Parameter::Write(vec![0; n * features * T::SIZE]);
            let parameters = [ids, read(&dy), zeros, short(count), short(n), short(features)];
            let found = host.launch(&text, "scatter_rows", count, &parameters);
            host.near("the gradient of a table", &found[0], &scattered, 30.);
        }
    }
    let table: Vec<T> = numbers(6, 1);
    let missing = [f64::NAN; 6].map(T::of);
    for (is_long, ids) in [(0, read(&[3u32, u32::MAX])), (1, read(&[-4i64, 3]))] {
        let found = gather(host, &text::<T>(is_long), &table[..], &ids, [2, 3, 2]);
        host.near("ids out of range", &found, &missing[..4], 1.);
    }
}

/// All threads of a group work together.
fn text<T: Element>(is_long: usize) -> Text {
    let defines = [("LANES", GROUP_SIZE), ("EACH", 0), ("IS_LONG", is_long)];
    Text::of_element(T::NAME, &[ELEMENT, ROWS, EACH, DIALECT], &defines)
}

fn gather<T: Element>(
    host: &mut Host,
    text: &Text,
    table: &[T],
    ids: &Parameter,
    [count, n, features]: [usize; 3],
) -> Vec<u8> {
    let len = count * features;
    let parameters = [read(table), ids.clone(), write::<T>(len), long(len), short(n), short(features)];
    host.launch(text, "gather_rows", groups(len), &parameters).remove(0)
}
