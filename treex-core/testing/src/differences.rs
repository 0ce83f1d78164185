//! The largest differences that a run of tests has seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The folder for them, by the variable `TREEX_TEST_DIFFERENCES`, and the package whose tests run.
static REPORT: LazyLock<Option<(PathBuf, String)>> = LazyLock::new(|| {
    let folder = PathBuf::from(std::env::var_os("TREEX_TEST_DIFFERENCES")?);
    Some((folder, std::env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "-".into())))
});

/// Notes how far a number is from its oracle, relative to the oracle where that is above 1. Each process keeps the largest of
/// an element type in a file of its own, as a line: the package, the element type (`-` if the comparison does not know it), the
/// difference, and what was compared.
pub(crate) fn note(dtype: &str, difference: f64, what: &str) {
    static LARGEST: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());
    let Some((folder, package)) = &*REPORT else { return };
    let mut largest = LARGEST.lock().unwrap_or_else(PoisonError::into_inner);
    let before = largest.entry(dtype.into()).or_insert(0.);
    if difference.is_finite() && difference > *before {
        *before = difference;
        let file = folder.join(format!("{package} {dtype} {}", std::process::id()));
        let line = format!("{package} {dtype} {difference:.2e} {what}\n");
        std::fs::write(&file, line).unwrap_or_else(|error| panic!("`{}`: {error}", file.display()));
    }
}
