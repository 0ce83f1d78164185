//! Every public name of Optax has a counterpart here, or a reason why not: the names are `fixtures/names.json`, generated
//! from Optax itself, and those of this crate are parsed from its sources.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use treex_testing::fixture;

/// Names that differ, and where the counterpart is: in this crate, or in treex-core.
const ELSEWHERE: [(&str, &str); 69] = [
    ("AccumulationType", "Accumulator"),
    ("ConditionFn", "conditionally_transform"),
    ("ConditionallyMaskState", "ConditionallyState"),
    ("ConditionallyTransformState", "ConditionallyState"),
    ("FactoredState", "ScaleByFactoredRmsState"),
    ("GaLoreDimensionNumbers", "DimensionNumbers"),
    ("GradientTransformationExtraArgs", "Extra"),
    ("Gumbel", "perturbations::Noise"),
    ("InjectStatefulHyperparamsState", "InjectHyperparamsState"),
    ("LookaheadParams", "LookaheadState"),
    ("MultiTransformState", "Partition"),
    ("MuonDimensionNumbers", "DimensionNumbers"),
    ("MuonState", "ScaleByMuonState"),
    ("NamedTupleKey", "treex_core::Segment"),
    ("Normal", "perturbations::Noise"),
    ("PartitionState", "Partition"),
    ("ReduceLROnPlateauState", "ReduceOnPlateauState"),
    ("ScaleByBacktrackingLinesearchState", "BacktrackingState"),
    ("ScaleByRStdDevState", "ScaleByRmsState"),
    ("ScaleByZoomLinesearchState", "ZoomState"),
    ("ShouldSkipUpdateFunction", "Skip"),
    ("StatefulSchedule", "Schedule"),
    ("TransformInitFn", "GradientTransformation"),
    ("TransformUpdateExtraArgsFn", "GradientTransformation"),
    ("TransformUpdateFn", "GradientTransformation"),
    ("WrappedSchedule", "Schedule"),
    ("ZoomLinesearchInfo", "ZoomState"),
    ("base_hungarian_algorithm", "linear_algebra::hungarian_algorithm"),
    ("constant_schedule", "constant"),
    ("convex_kl_divergence", "generalized_kl_divergence"),
    ("cosine_decay_schedule", "cosine_decay"),
    ("cosine_onecycle_schedule", "cosine_onecycle"),
    ("get", "treex_core::path"),
    ("get_all_with_path", "treex_core::path"),
    ("hvp", "treex_core::hvp"),
    ("inject_stateful_hyperparams", "inject_hyperparams"),
    ("linear_onecycle_schedule", "linear_onecycle"),
    ("linear_schedule", "linear"),
    ("map_params", "GradientTransformation"),
    ("measure_with_ema", "snapshot"),
    ("monitor", "snapshot"),
    ("multi_normal", "perturbations::Noise"),
    ("piecewise_constant_schedule", "piecewise_constant"),
    ("piecewise_interpolate_schedule", "piecewise_interpolate"),
    ("polynomial_schedule", "polynomial"),
    ("safe_increment", "Count"),
    ("safe_int32_increment", "Count"),
    ("schedule_free_eval_params", "Optimizer"),
    ("selective_transform", "only"),
    ("set", "treex_core::path"),
    ("sgdr_schedule", "sgdr"),
    ("skip_large_updates", "Skip"),
    ("skip_not_finite", "Skip"),
    ("stateless_with_tree_map", "Stateless"),
    ("tree_get", "treex_core::path"),
    ("tree_get_all_with_path", "treex_core::path"),
    ("tree_map_params", "GradientTransformation"),
    ("tree_set", "treex_core::path"),
    ("tree_update_moment_per_elem_norm", "tree::update_moment"),
    ("tree_where", "tree::where_cond"),
    ("unitwise_clip", "adaptive_grad_clip"),
    ("unitwise_norm", "adaptive_grad_clip"),
    ("update_infinity_moment", "tree::update_infinity_moment"),
    ("update_moment", "tree::update_moment"),
    ("update_moment_per_elem_norm", "tree::update_moment"),
    ("value_and_grad_from_state", "Optimizer"),
    ("warmup_constant_schedule", "warmup_constant"),
    ("warmup_cosine_decay_schedule", "warmup_cosine_decay"),
    ("warmup_exponential_decay_schedule", "warmup_exponential_decay"),
];

/// What has no counterpart, each with the reason.
const MISSING: [(&str, &str); 23] = [
    ("AdaptiveGradClipState", "the transformation has no state: `()`"),
    ("ClipByGlobalNormState", "the transformation has no state: `()`"),
    ("ClipState", "the transformation has no state: `()`"),
    ("EmptyState", "`()`"),
    ("MaskedNode", "a leaf outside of a mask is `Nothing` in every tree"),
    ("MaskedState", "the state is that of the transformation inside"),
    ("NonNegativeParamsState", "the transformation has no state: `()`"),
    ("NormalizeState", "the transformation has no state: `()`"),
    ("ScaleByTrustRatioState", "the transformation has no state: `()`"),
    ("ScaleState", "the transformation has no state: `()`"),
    ("SplitRealAndImaginaryState", "Candle has no complex numbers"),
    ("conj", "Candle has no complex numbers"),
    ("init_empty_state", "`Stateless` has no state to make"),
    ("micro_vmap", "there is no compiled `vmap` whose memory would have to be bounded"),
    ("real", "Candle has no complex numbers"),
    ("reshape_batch_axis", "`microbatch` takes its parts by `narrow`, without a copy"),
    ("split_real_and_imaginary", "Candle has no complex numbers"),
    ("tree_conj", "Candle has no complex numbers"),
    ("tree_real", "Candle has no complex numbers"),
    ("tree_unwrap_random_key_data", "a key in a state is two u32, in every file too"),
    ("unwrap_random_key_data", "a key in a state is two u32, in every file too"),
    ("where", "a keyword of Rust: `tree::where_cond`"),
    ("with_extra_args_support", "every transformation gets the extra arguments"),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.is_dir() {
            files.extend(sources(&file));
        } else {
            files.push(file);
        }
    }
    files
}

/// The names of all `pub use` of a file.
fn exported(text: &str) -> BTreeSet<String> {
    let lists = text.split("pub use ").skip(1).map(|rest| &rest[..rest.find(';').unwrap()]);
    let names = lists.map(|list| {
        list.split_once('{').map_or_else(|| list.rsplit(':').next().unwrap(), |(_, names)| names)
    });
    let words = names.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.map(str::to_owned).collect()
}

/// The public items of the files of a module, behind its name.
fn items(src: &Path, module: &str) -> BTreeSet<String> {
    let file = src.join(module).with_extension("rs");
    let files = if file.exists() { vec![file] } else { sources(&src.join(module)) };
    let mut names = BTreeSet::new();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let Some(item) = line.strip_prefix("pub ") else { continue };
            let mut words = item.split(|c: char| !c.is_alphanumeric() && c != '_');
            if matches!(words.next(), Some("fn" | "struct" | "enum" | "trait" | "type" | "const")) {
                names.extend(words.next().map(|name| format!("{module}::{name}")));
            }
        }
    }
    names
}

fn names_here() -> BTreeSet<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = exported(&fs::read_to_string(src.join("lib.rs")).unwrap());
    for module in MODULES {
        names.extend(items(&src, module));
    }
    let core = fs::read_to_string(src.join("../../treex-core/src/lib.rs")).unwrap();
    names.extend(exported(&core).into_iter().map(|name| format!("treex_core::{name}")));
    names
}

const MODULES: [&str; 8] = [
    "linear_algebra",
    "losses",
    "numerics",
    "perturbations",
    "projections",
    "schedule",
    "second_order",
    "tree",
];

/// Whether a name of a module of Optax is one of this crate too, up to the case of its letters.
fn is_here(here: &BTreeSet<String>, lower: &BTreeSet<String>, module: &str, name: &str) -> bool {
    match module {
        "tree" => here.contains(&format!("tree::{name}")),
        "tree_utils" => here.contains(&format!("tree::{}", name.trim_start_matches("tree_"))),
        _ => {
            let in_module = |module: &&str| *module != "tree" && here.contains(&format!("{module}::{name}"));
            lower.contains(&name.to_lowercase()) || MODULES.iter().any(in_module)
        }
    }
}

#[test]
fn every_name_has_a_counterpart_or_a_reason() {
    let fixture = fixture!("names.json");
    let here = names_here();
    let lower: BTreeSet<_> =
        here.iter().filter(|name| !name.contains(':')).map(|name| name.to_lowercase()).collect();
    let elsewhere: BTreeMap<_, _> = ELSEWHERE.into();
    let missing: BTreeMap<_, _> = MISSING.into();
    let (mut count, mut unknown, mut used) = (0, Vec::new(), BTreeSet::new());
    for (module, names) in fixture["names"].as_object().unwrap() {
        for name in names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
            count += 1;
            if is_here(&here, &lower, module, name) {
                continue;
            }
            match elsewhere.get(name) {
                Some(other) if here.contains(*other) => drop(used.insert(name)),
                Some(other) => unknown.push(format!("{module}.{name}: there is no `{other}`")),
                None if missing.contains_key(name) => drop(used.insert(name)),
                None => unknown.push(format!("{module}.{name}")),
            }
        }
    }
    assert!(count > 450, "the fixture has {count} names");
    assert!(unknown.is_empty(), "names without a counterpart or a reason: {unknown:#?}");
    let left: Vec<_> = elsewhere.keys().chain(missing.keys()).filter(|name| !used.contains(**name)).collect();
    assert!(left.is_empty(), "no name of Optax needs these rows: {left:?}");
    assert!(MISSING.iter().all(|(_, reason)| !reason.is_empty()), "a reason is missing");
}
