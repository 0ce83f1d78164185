//! The parameter of a launch: for each leaf of it the place of its groups, its program, its constants and its memory.

use std::collections::HashMap;

use super::source::{EACH, GROUP_SIZE};

/// A leaf of a launch.
#[derive(Clone, Debug)]
pub(super) struct Row<'r> {
    /// The number of its case.
    pub(super) case: usize,
    /// The number of its elements, at least 1.
    pub(super) len: usize,
    /// The bits of its constants.
    pub(super) constants: &'r [u64],
    /// The addresses of its tensors.
    pub(super) addresses: Vec<u64>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) groups: u32,
    /// As `sweep.h` reads them.
    pub(super) words: Vec<u64>,
}

/// Words of a leaf before its addresses.
const BEFORE: usize = 3;

/// The most groups of a launch, less than what a grid and a `u32` hold.
const MOST_GROUPS: usize = 1 << 30;

/// The words of a leaf with so many tensors.
pub(super) fn stride(slots: usize) -> usize {
    BEFORE + slots
}

/// Divides the rows among as few launches as `most_words` words each allow. Rows with the same constants share them.
///
/// `None` if one row does not fit.
pub(super) fn launches(rows: &[Row<'_>], stride: usize, most_words: usize) -> Option<Vec<Launch>> {
    let mut launches = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let (mut count, mut groups, mut constants) = (0, 0, 0);
        let mut places: HashMap<&[u64], usize> = HashMap::new();
        for row in rest {
            let more = row.len.div_ceil(GROUP_SIZE * EACH);
            let own = if places.contains_key(row.constants) { 0 } else { row.constants.len() };
            if 1 + (count + 1) * stride + constants + own > most_words || groups + more > MOST_GROUPS {
                break;
            }
            places.entry(row.constants).or_insert(constants);
            (count, groups, constants) = (count + 1, groups + more, constants + own);
        }
        let (now, later) = rest.split_at(count);
        if now.is_empty() {
            return None;
        }
        launches.push(launch(now, stride, groups, &places));
        rest = later;
    }
    Some(launches)
}

fn launch(rows: &[Row<'_>], stride: usize, groups: usize, places: &HashMap<&[u64], usize>) -> Launch {
    let behind = 1 + rows.len() * stride;
    let mut words = vec![0; behind];
    words[0] = rows.len() as u64;
    let mut first = 0;
    for (row, to) in rows.iter().zip(words[1..].chunks_exact_mut(stride)) {
        let place = behind + places.get(row.constants).copied().unwrap_or_default();
        to[..BEFORE].copy_from_slice(&[first | (row.case as u64) << 32, row.len as u64, place as u64]);
        to[BEFORE..][..row.addresses.len()].copy_from_slice(&row.addresses);
        first += row.len.div_ceil(GROUP_SIZE * EACH) as u64;
    }
    let mut constants: Vec<_> = places.iter().collect();
    constants.sort_by_key(|(_, place)| **place);
    constants.into_iter().for_each(|(constants, _)| words.extend(*constants));
    Launch { groups: groups as u32, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(len: usize, constants: &[u64], address: u64) -> Row<'_> {
        Row { case: 1, len, constants, addresses: vec![address, address + 1] }
    }

    #[test]
    fn rows_share_a_launch_and_their_constants() {
        let rows = [row(1024, &[7, 8], 10), row(1025, &[9], 20), row(1, &[7, 8], 30)];
        let found = launches(&rows, stride(2), 100).expect("they fit");
        let case = 1 << 32;
        let words = [
            &[3][..],
            &[case, 1024, 16, 10, 11],
            &[case | 1, 1025, 18, 20, 21],
            &[case | 3, 1, 16, 30, 31],
            &[7, 8, 9],
        ];
        assert_eq!(found, [Launch { groups: 4, words: words.concat() }]);
    }

    #[test]
    fn rows_that_do_not_fit_are_in_the_next_launch() {
        let rows = [row(1, &[7, 8], 10), row(2000, &[9], 20), row(1, &[7, 8], 30)];
        let found = launches(&rows, stride(2), 14).expect("two fit");
        assert_eq!(found.iter().map(|launch| launch.groups).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(found[1].words, [1, 1 << 32, 1, 6, 30, 31, 7, 8]);
        assert_eq!(launches(&rows, stride(2), 7), None);
        assert_eq!(launches(&[], stride(2), 7), Some(Vec::new()));
        let large = [row(usize::MAX / 2, &[], 0)];
        assert_eq!(launches(&large, stride(2), 100), None);
    }
}
