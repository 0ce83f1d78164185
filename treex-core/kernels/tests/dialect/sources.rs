//! No kernel is forgotten: the texts are read from the sources.

use std::collections::BTreeSet;
use std::path::Path;

use crate::kernels::KERNELS;
use crate::metal;
use crate::text::kernels_of;

const TABLE: &str = "addresses in a table are no pointers in Metal";

/// Kernels without a Metal form, and why.
const NOT_METAL: &[(&str, &str)] =
    &[("bernoulli", TABLE), ("decide", TABLE), ("sums", TABLE), ("sweep", TABLE), ("totals", TABLE)];

/// The names of the kernels of all texts in a folder.
fn kernels_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            kernels_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "h") {
            names.extend(kernels_of(&std::fs::read_to_string(path).unwrap()));
        }
    }
}

#[test]
fn every_kernel_has_its_forms() {
    let mut all = BTreeSet::new();
    kernels_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(all, of(KERNELS), "kernels of the sources, and those that run in host form");
    let metal: BTreeSet<_> = metal::texts().iter().flat_map(|text| text.kernels()).collect();
    let not_metal: Vec<_> = NOT_METAL.iter().map(|(name, _)| *name).collect();
    assert!(metal.is_disjoint(&of(&not_metal)));
    assert_eq!(
        all,
        &metal | &of(&not_metal),
        "kernels of the sources, and those with a Metal form or a reason"
    );
}
