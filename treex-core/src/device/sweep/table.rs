//! The parameter of a launch: for each leaf of it the place of its groups, its program, its constants and its memory.

use std::collections::HashMap;

use crate::device::groups;

/// The sizes of a kernel's table, as it is compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) words: usize,
    /// Words of a leaf.
    pub(super) stride: usize,
}

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
    pub(super) groups: usize,
    /// As `table.h` reads them.
    pub(super) words: Vec<u64>,
}

/// Words before the leaves: their number, and an address that is set later.
pub(super) const HEAD: usize = 2;

/// Words of a leaf before its addresses.
pub(super) const BEFORE: usize = 3;

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
        let (mut count, mut all_groups, mut constants) = (0, 0, 0);
        let mut places: HashMap<&[u64], usize> = HashMap::new();
        for row in rest {
            let more = groups(row.len);
            let own = if places.contains_key(row.constants) { 0 } else { row.constants.len() };
            if HEAD + (count + 1) * stride + constants + own > most_words || all_groups + more > MOST_GROUPS {
                break;
            }
            places.entry(row.constants).or_insert(constants);
            (count, all_groups, constants) = (count + 1, all_groups + more, constants + own);
        }
        let (now, later) = rest.split_at(count);
        if now.is_empty() {
            return None;
        }
        launches.push(launch(now, stride, all_groups, &places));
        rest = later;
    }
    Some(launches)
}

fn launch(rows: &[Row<'_>], stride: usize, all_groups: usize, places: &HashMap<&[u64], usize>) -> Launch {
    let behind = HEAD + rows.len() * stride;
    let mut words = vec![0; behind];
    words[0] = rows.len() as u64;
    let mut first = 0;
    for (row, to) in rows.iter().zip(words[HEAD..].chunks_exact_mut(stride)) {
        let place = behind + places.get(row.constants).copied().unwrap_or_default();
        to[..BEFORE].copy_from_slice(&[first | (row.case as u64) << 32, row.len as u64, place as u64]);
        to[BEFORE..][..row.addresses.len()].copy_from_slice(&row.addresses);
        first += groups(row.len) as u64;
    }
    let mut constants: Vec<_> = places.iter().collect();
    constants.sort_by_key(|(_, place)| **place);
    constants.into_iter().for_each(|(constants, _)| words.extend(*constants));
    Launch { groups: all_groups, words }
}

/// A range of groups whose sums have a total.
#[derive(Clone, Debug)]
pub(super) struct Total {
    /// The address of its sums.
    pub(super) sums: u64,
    /// The number of its groups.
    pub(super) count: usize,
    /// The bits of the constants of its function.
    pub(super) constants: Vec<u64>,
}

/// The words of a range in the table of `totals.h`.
pub(super) const TOTAL: usize = 3;

/// Divides ranges among launches, each of which writes from `results` on. `None` if one does not fit.
pub(super) fn totals(ranges: &[Total], results: u64, most_words: usize) -> Option<Vec<Launch>> {
    let each = TOTAL + ranges.iter().map(|range| range.constants.len()).max().unwrap_or(0);
    let most = most_words.checked_sub(HEAD)? / each;
    if most == 0 {
        return None;
    }
    let launch = |(number, ranges): (usize, &[Total])| {
        let (mut words, mut constants) =
            (vec![ranges.len() as u64, results + (number * most * 8) as u64], Vec::<u64>::new());
        let behind = HEAD + ranges.len() * TOTAL;
        for range in ranges {
            words.extend([range.sums, range.count as u64, (behind + constants.len()) as u64]);
            constants.extend(&range.constants);
        }
        words.extend(constants);
        Launch { groups: ranges.len(), words }
    };
    Some(ranges.chunks(most).enumerate().map(launch).collect())
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
            &[3, 0][..],
            &[case, 1024, 17, 10, 11],
            &[case | 1, 1025, 19, 20, 21],
            &[case | 3, 1, 17, 30, 31],
            &[7, 8, 9],
        ];
        assert_eq!(found, [Launch { groups: 4, words: words.concat() }]);
    }

    #[test]
    fn rows_that_do_not_fit_are_in_the_next_launch() {
        let rows = [row(1, &[7, 8], 10), row(2000, &[9], 20), row(1, &[7, 8], 30)];
        let found = launches(&rows, stride(2), 15).expect("two fit");
        assert_eq!(found.iter().map(|launch| launch.groups).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(found[1].words, [1, 0, 1 << 32, 1, 7, 30, 31, 7, 8]);
        assert_eq!(launches(&rows, stride(2), 8), None);
        assert_eq!(launches(&[], stride(2), 7), Some(Vec::new()));
        let large = [row(usize::MAX / 2, &[], 0)];
        assert_eq!(launches(&large, stride(2), 100), None);
    }

    #[test]
    fn totals_of_ranges_write_one_after_the_other() {
        let range = |sums, count| Total { sums, count, constants: vec![sums + 1] };
        let found = totals(&[range(10, 1), range(20, 2), range(30, 0)], 800, 10).expect("two fit");
        assert_eq!(found[0].words, [2, 800, 10, 1, 8, 20, 2, 9, 11, 21]);
        assert_eq!(found[1].words, [1, 816, 30, 0, 5, 31]);
        assert_eq!((found[0].groups, found[1].groups), (2, 1));
        assert_eq!(totals(&[range(10, 1)], 800, 5), None);
        assert_eq!(totals(&[], 800, 10), Some(Vec::new()));
    }
}
