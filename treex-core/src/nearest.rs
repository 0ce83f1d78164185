//! The nearest names, for errors.

use crate::tree::filter::{Described, Filter};

/// ` (nearest: `a`, `b`)`, or nothing if no name is near.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    listed(names.map(|other| (strsim::jaro_winkler(name, other), other)).collect())
}

/// The paths nearest to those that a filter names, in the same form: `path("**.kernl")` means `layers.0.kernel`
/// more than `layers.0.bias`. Nothing for a filter that names no path.
#[must_use]
pub fn nearest_paths<F: Filter>(filter: &F, paths: impl Iterator<Item = String>) -> String {
    let text = Described(filter).to_string();
    // What stands in quotes are the globs.
    let globs = text.split('"').skip(1).step_by(2);
    let words: Vec<_> =
        globs.flat_map(|glob| glob.split(['.', '*'])).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return String::new();
    }
    let likeness = |path: &str| -> f64 {
        let best = |word: &&str| {
            path.split('.').map(|segment| strsim::jaro_winkler(word, segment)).fold(0., f64::max)
        };
        words.iter().map(best).sum::<f64>() / words.len() as f64
    };
    listed(paths.map(|path| (likeness(&path), path)).collect())
}

/// The three best of those that are good enough.
fn listed<N: std::fmt::Display>(mut scored: Vec<(f64, N)>) -> String {
    scored.retain(|(score, _)| *score > 0.7);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = scored.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    if near.is_empty() { String::new() } else { format!(" (nearest: {})", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    #[test]
    fn a_filter_is_near_the_paths_that_it_misspells() {
        let paths = || ["layers.0.kernel", "layers.0.bias", "encoder.kernel"].map(str::to_owned).into_iter();
        assert_eq!(
            nearest_paths(&path("**.kernl"), paths()),
            " (nearest: `layers.0.kernel`, `encoder.kernel`)"
        );
        assert_eq!(nearest_paths(&path("encodr.**"), paths()), " (nearest: `encoder.kernel`)");
        assert_eq!(nearest_paths(&crate::by(|_| false), paths()), "");
    }
}
