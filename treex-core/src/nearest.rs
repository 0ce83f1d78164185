//! The nearest names, for errors.

use crate::error::Error;
use crate::tree::filter::{Described, Filter};
use crate::tree::object::TreeObject;
use crate::tree::path::Dotted;
use crate::tree::walk::walk;

/// ` (nearest: `a`, `b`)`, or nothing if no name is near.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    listed(names.map(|other| (strsim::jaro_winkler(name, other), other)).collect())
}

/// The paths nearest to those that a filter names, in the same form: `path("**.kernl")` means `layers.0.kernel`
/// more than `layers.0.bias`. Nothing for a filter that names no path.
#[must_use]
pub fn nearest_paths<F: Filter + ?Sized>(filter: &F, paths: impl Iterator<Item = String>) -> String {
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

/// The error for a filter that selects no leaf of the tree.
pub(crate) fn no_leaf<T: TreeObject>(tree: &T, filter: &(impl Filter + ?Sized)) -> Error {
    let mut paths = Vec::new();
    walk(tree, |path, _, _| paths.push(Dotted(path).to_string()));
    let (count, known) = (paths.len(), nearest_paths(filter, paths.into_iter()));
    Error::argument(format!("`{}` selects no leaf", Described(filter)))
        .found(format!("{count} other leaves{known}"))
        .remedy("`tabulate` and `leaves` show the paths and kinds of the tree")
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
