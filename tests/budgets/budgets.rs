//! The table of budgets.

use std::collections::BTreeMap;

/// What is counted, by the simulator's names. Up to [`TRANSFERS`] a budget is a bound, from there on it is exact.
pub(crate) const COUNTS: [&str; 7] =
    ["launches", "products", "allocations", "uploads", "bytes uploaded", "read-backs", "synchronizations"];

/// The first count that is one of transfers.
const TRANSFERS: usize = 3;

/// A line of the table.
pub(crate) struct Budget {
    /// The counts before data stayed on the device, if there are any.
    before: Option<[u64; COUNTS.len()]>,
    most: [u64; COUNTS.len()],
    /// Why a transfer is left.
    why: String,
}

/// The lines of `budgets.txt`, by the names of their steps.
pub(crate) fn read() -> BTreeMap<&'static str, Budget> {
    let lines = include_str!("budgets.txt").lines();
    lines.filter(|line| !line.starts_with('#') && !line.is_empty()).map(budget).collect()
}

fn budget(line: &'static str) -> (&'static str, Budget) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let pairs = COUNTS.map(|count| {
        let pair = words.next().and_then(|word| word.split_once('/'));
        let (before, most) = pair.unwrap_or_else(|| panic!("{name}: no `before/budget` of {count}"));
        let most = most.parse().unwrap_or_else(|_| panic!("{name}: `{most}` is no budget of {count}"));
        (before.parse::<u64>().ok(), most)
    });
    let before = pairs.iter().all(|(before, _)| before.is_some());
    let budget = Budget {
        before: before.then(|| pairs.map(|(before, _)| before.unwrap_or_default())),
        most: pairs.map(|(_, most)| most),
        why: words.collect::<Vec<_>>().join(" "),
    };
    assert_eq!(budget.moves_nothing(), budget.why.is_empty(), "{name}: a transfer that is left has a reason");
    (name, budget)
}

/// The heading of the lines that are printed.
pub(crate) fn heading() -> String {
    let columns: String = COUNTS.map(|count| format!("{count:>18}")).concat();
    format!("{:<22}{columns}", "before -> now")
}

impl Budget {
    /// Whether the step uploads and reads back nothing, and waits for nothing.
    pub(crate) fn moves_nothing(&self) -> bool {
        self.most[TRANSFERS..].iter().all(|count| *count == 0)
    }

    /// The counts before and now, as a line.
    pub(crate) fn line(&self, name: &str, now: [u64; COUNTS.len()]) -> String {
        let column = |index: usize| {
            let before = self.before.map_or_else(|| "-".to_owned(), |before| before[index].to_string());
            format!("{:>18}", format!("{before} -> {}", now[index]))
        };
        let columns: String = (0..COUNTS.len()).map(column).collect();
        format!("{name:<22}{columns}  {}", self.why).trim_end().to_owned()
    }

    /// What differs from the budget, in words.
    pub(crate) fn faults(&self, now: [u64; COUNTS.len()]) -> Vec<String> {
        let fault = |index: usize| {
            let (count, most, now) = (COUNTS[index], self.most[index], now[index]);
            let is_kept = if index < TRANSFERS { now <= most } else { now == most };
            (!is_kept).then(|| format!("{now} {count}, where the budget is {most}"))
        };
        (0..COUNTS.len()).filter_map(fault).collect()
    }
}
