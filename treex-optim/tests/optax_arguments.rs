//! Every argument of Optax's transformations, losses and schedules is an argument or an option of that name here, or
//! another one, or has a reason why not. The arguments are in `fixtures/names.json`, generated from Optax itself; those of
//! this crate are parsed from its sources.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use treex_testing::fixture;

/// Functions of another name here.
const FUNCTIONS: [(&str, &str); 18] = [
    ("MultiSteps", "multi_steps"),
    ("constant_schedule", "constant"),
    ("convex_kl_divergence", "generalized_kl_divergence"),
    ("cosine_decay_schedule", "cosine_decay"),
    ("cosine_onecycle_schedule", "cosine_onecycle"),
    ("inject_stateful_hyperparams", "inject_hyperparams"),
    ("linear_onecycle_schedule", "linear_onecycle"),
    ("linear_schedule", "linear"),
    ("measure_with_ema", "snapshot"),
    ("monitor", "snapshot"),
    ("piecewise_constant_schedule", "piecewise_constant"),
    ("piecewise_interpolate_schedule", "piecewise_interpolate"),
    ("polynomial_schedule", "polynomial"),
    ("selective_transform", "only"),
    ("sgdr_schedule", "sgdr"),
    ("warmup_constant_schedule", "warmup_constant"),
    ("warmup_cosine_decay_schedule", "warmup_cosine_decay"),
    ("warmup_exponential_decay_schedule", "warmup_exponential_decay"),
];

/// Arguments of another name here: in the function named, or in all.
const ARGUMENTS: [(&str, &str, &str); 57] = [
    ("", "decay_rate", "rate"),
    ("", "end_value", "end"),
    ("", "init_value", "init"),
    ("", "mask", "weight_decay_mask"),
    ("", "peak_value", "peak"),
    ("", "seed", "key"),
    ("", "transition_begin", "begin"),
    ("", "transition_steps", "steps"),
    ("", "where", "mask"),
    ("MultiSteps", "every_k_schedule", "every"),
    ("MultiSteps", "opt", "inner"),
    ("MultiSteps", "use_grad_mean", "mean"),
    ("adopt", "clip_value_fn", "clip"),
    ("adopt", "use_clipping", "clip"),
    ("binary_dice_loss", "apply_sigmoid", "apply_softmax"),
    ("chain", "args", "members"),
    ("conditionally_mask", "should_transform_fn", "condition"),
    ("conditionally_transform", "should_transform_fn", "condition"),
    ("dadapt_adamw", "betas", "b1"),
    ("dice_loss", "axis", "axes"),
    ("freeze", "mask", "filter"),
    ("galore", "base_optimizer", "base"),
    ("hutchinson_estimator_diag_hessian", "random_seed", "key"),
    ("inject_hyperparams", "inner_factory", "factory"),
    ("inject_stateful_hyperparams", "inner_factory", "factory"),
    ("lookahead", "fast_optimizer", "fast"),
    ("masked", "mask", "filter"),
    ("measure_with_ema", "decay", "ema"),
    ("mechanize", "base_optimizer", "base"),
    ("monitor", "measures", "measure"),
    ("multi_transform", "param_labels", "label"),
    ("multi_transform", "transforms", "transformations"),
    ("muon", "adam_b1", "adam"),
    ("muon", "adam_b2", "adam"),
    ("muon", "adam_eps_root", "adam"),
    ("muon", "eps", "newton_schulz"),
    ("muon", "muon_weight_dimension_numbers", "weight_dimension_numbers"),
    ("muon", "ns_coeffs", "newton_schulz"),
    ("muon", "ns_steps", "newton_schulz"),
    ("muon", "preconditioning", "newton_schulz"),
    ("named_chain", "args", "members"),
    ("partition", "param_labels", "group"),
    ("partition", "transforms", "group"),
    ("prodigy", "beta3", "b3"),
    ("prodigy", "betas", "b1"),
    ("ranking_softmax_loss", "reduce_fn", "reduction"),
    ("sam", "opaque_mode", "opaque"),
    ("scale_by_adopt", "clip_value_fn", "clip"),
    ("scale_by_adopt", "use_clipping", "clip"),
    ("scale_by_galore", "base_optimizer", "base"),
    ("scale_by_schedule", "step_size_fn", "step_size"),
    ("scale_by_zoom_linesearch", "initial_guess_strategy", "initial_guess"),
    ("schedule_free", "base_optimizer", "base"),
    ("selective_transform", "freeze_mask", "filter"),
    ("selective_transform", "optimizer", "inner"),
    ("sgdr_schedule", "cosine_kwargs", "cycles"),
    ("snapshot", "measure_name", "name"),
];

const IN_NEWTON_SCHULZ: &str = "an option of `NewtonSchulz`, which is the option `newton_schulz`";
const PRINTS: &str = "nothing prints: the state has the numbers, and `snapshot` measures updates";
const SCHEDULE: &str = "the learning rate is a schedule: `warmup_constant`";
const FILTERS: &str = "a filter selects leaves of each tree that is aligned with the model";

/// Arguments without a counterpart, each with the reason.
const MISSING: [(&str, &str, &str); 26] = [
    ("conditionally_mask", "forward_extra_args", "a condition always gets the extra arguments"),
    ("conditionally_transform", "forward_extra_args", "a condition always gets the extra arguments"),
    ("inject_hyperparams", "hyperparam_dtype", "the numbers of a state are f64"),
    ("inject_hyperparams", "static_args", "a number that is not named is not injected"),
    ("inject_stateful_hyperparams", "hyperparam_dtype", "the numbers of a state are f64"),
    ("inject_stateful_hyperparams", "static_args", "a number that is not named is not injected"),
    ("masked", "mask_compatible_extra_args", FILTERS),
    ("measure_with_ema", "accumulator_dtype", "the numbers of a state are f64"),
    ("multi_transform", "mask_compatible_extra_args", FILTERS),
    ("partition", "mask_compatible_extra_args", FILTERS),
    ("sam", "batch_axis_name", "a step runs on one device, so there is no axis to average over"),
    (
        "scale_by_backtracking_linesearch",
        "store_grad",
        "`minimize` computes the gradient at the start of each step",
    ),
    ("scale_by_backtracking_linesearch", "verbose", PRINTS),
    ("scale_by_muon", "eps", IN_NEWTON_SCHULZ),
    ("scale_by_muon", "ns_coeffs", IN_NEWTON_SCHULZ),
    ("scale_by_muon", "ns_steps", IN_NEWTON_SCHULZ),
    ("scale_by_muon", "preconditioning", IN_NEWTON_SCHULZ),
    ("scale_by_zoom_linesearch", "verbose", PRINTS),
    ("schedule_free_adamw", "warmup_steps", SCHEDULE),
    ("schedule_free_sgd", "warmup_steps", SCHEDULE),
    ("sophia", "print_win_rate_every_n_steps", PRINTS),
    ("sophia", "verbose", PRINTS),
    ("split_real_and_imaginary", "inner", "Candle has no complex numbers"),
    ("stateless", "f", "the trait `Stateless`"),
    ("stateless_with_tree_map", "f", "the trait `Stateless`"),
    ("with_extra_args_support", "tx", "every transformation gets the extra arguments"),
];

/// All sources of a folder, without comments.
fn code(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let text = files.map(|file| match file.is_dir() {
        true => code(&file),
        false => {
            let text = fs::read_to_string(file).unwrap();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            lines.map(|line| format!("{line}\n")).collect()
        }
    });
    text.collect()
}

/// What stands between the bracket at the start of `text` and its partner, and what follows.
fn bracketed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            // The arrow of a function type is no bracket.
            '>' if text[..at].ends_with('-') => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("no end of {text:.80}")
}

/// The body of the braces at the start of `text`, in which `<` may be a comparison.
fn body(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("no end of {text:.80}")
}

fn word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// The names in `a: A, b: B`.
fn names(fields: &str) -> impl Iterator<Item = String> {
    let before_colon = |part: &str| part.split_once(':').map(|(name, _)| name.to_owned());
    fields.split([',', '\n', '{']).filter_map(before_colon).map(|name| name.trim().to_owned())
}

#[derive(Default)]
struct Sources {
    /// The arguments of each function, and the types that have more: those of its result and of its `options`.
    functions: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// The options of each type.
    options: BTreeMap<String, BTreeSet<String>>,
    /// The type of which another is a name.
    aliases: BTreeMap<String, String>,
}

impl Sources {
    fn read() -> Self {
        let code = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let mut sources = Self::default();
        for (at, _) in code.match_indices("\npub fn ") {
            let text = &code[at + "\npub fn ".len()..];
            let after = &text[word(text).len()..];
            let after = if after.starts_with('<') { bracketed(after).1 } else { after };
            let (arguments, after) = bracketed(after);
            let result = after.trim_start().strip_prefix("->").map(word).unwrap_or_default();
            let options = ["over: ", "options: "].iter().filter_map(|name| arguments.split_once(name));
            let options = options.map(|(_, of)| word(of.trim_start_matches('&')));
            let types = options.chain([result]).map(str::to_owned).collect();
            let value = (names(arguments).collect(), types);
            sources.functions.insert(word(text).to_owned(), value);
        }
        for (at, _) in code.match_indices("\nimpl") {
            let text = &code[at + "\nimpl".len()..];
            let (header, open) = (text.find('{').unwrap(), text);
            let name = if text.starts_with('<') { bracketed(text).1 } else { text };
            let methods =
                body(&open[header..]).split("pub fn ").skip(1).map(|method| word(method).to_owned());
            if !text[..header].contains(" for ") {
                sources.add(word(name), methods);
            }
        }
        for macro_name in ["builder!(", "options!(", "weight_decay_mask!("] {
            for (at, _) in code.match_indices(&format!("\n{macro_name}")) {
                let text = bracketed(&code[at + macro_name.len()..]).0;
                let (name, rest) = text.split_at(word(text).len());
                match macro_name {
                    "weight_decay_mask!(" => sources.add(name, ["weight_decay_mask".to_owned()]),
                    _ => sources.add(name, names(&rest.replace('}', "\n"))),
                }
            }
        }
        for (at, _) in code.match_indices("\npub type ") {
            let text = &code[at + "\npub type ".len()..];
            let name = word(text);
            let after = &text[name.len()..];
            let after = if after.starts_with('<') { bracketed(after).1 } else { after };
            sources.aliases.insert(name.to_owned(), word(after.trim_start_matches([' ', '='])).to_owned());
        }
        sources
    }

    fn add(&mut self, of: &str, options: impl IntoIterator<Item = String>) {
        self.options.entry(of.to_owned()).or_default().extend(options);
    }

    /// Whether a function, the type of its result, or what has its other options has an argument or an option of this name.
    fn has(&self, function: &str, argument: &str) -> bool {
        let with =
            [function.to_owned(), format!("{function}_with"), format!("{function}_with_forward_probs")];
        let mut functions = with.iter().filter_map(|name| self.functions.get(name));
        functions.any(|(arguments, types)| {
            let names = |of| std::iter::successors(Some(of), |name| self.aliases.get(*name));
            let mut options = types.iter().flat_map(names).filter_map(|name| self.options.get(name));
            arguments.iter().any(|name| name == argument) || options.any(|options| options.contains(argument))
        })
    }
}

#[test]
fn every_argument_has_a_counterpart_or_a_reason() {
    let fixture = fixture!("names.json");
    let sources = Sources::read();
    let functions: BTreeMap<_, _> = FUNCTIONS.into();
    let mut renamed: BTreeMap<_, _> =
        ARGUMENTS.map(|(function, name, other)| ((function, name), other)).into();
    let mut missing: BTreeMap<_, _> =
        MISSING.map(|(function, name, reason)| ((function, name), reason)).into();
    assert_eq!((renamed.len(), missing.len()), (ARGUMENTS.len(), MISSING.len()), "a row stands twice");
    let (mut count, mut unknown, mut used) = (0, Vec::new(), BTreeSet::new());
    for (function, arguments) in fixture["arguments"].as_object().unwrap() {
        let here = functions.get(&**function).copied().unwrap_or(function);
        for argument in arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()) {
            count += 1;
            if sources.has(here, argument) {
                continue;
            }
            let row =
                [(&**function, argument), ("", argument)].into_iter().find(|row| renamed.contains_key(row));
            match row {
                Some(row) if sources.has(here, renamed[&row]) => drop(used.insert(row)),
                Some(row) => unknown.push(format!("{function}({argument}): there is no `{}`", renamed[&row])),
                None if missing.contains_key(&(&**function, argument)) => {
                    used.insert((function, argument));
                }
                None => unknown.push(format!("{function}({argument})")),
            }
        }
    }
    assert!(count > 650, "the fixture has {count} arguments");
    assert!(unknown.is_empty(), "arguments without a counterpart or a reason: {unknown:#?}");
    renamed.retain(|row, _| !used.contains(row));
    missing.retain(|row, _| !used.contains(row));
    assert!(
        renamed.is_empty() && missing.is_empty(),
        "no argument needs these rows: {renamed:?} {missing:?}"
    );
}

/// The parser finds what is there, and nothing else.
#[test]
fn options_are_those_of_the_sources() {
    let sources = Sources::read();
    for (function, option) in [
        ("adamw", "learning_rate"),
        ("adamw", "mu_dtype"),
        ("adamw", "weight_decay_mask"),
        ("schedule_free_sgd", "state_dtype"),
        ("galore", "rank"),
        ("sophia", "hessian_diagonal_fn"),
        ("kl_divergence", "axis"),
        ("huber_loss", "delta"),
    ] {
        assert!(sources.has(function, option), "{function}.{option}");
    }
    for (function, option) in
        [("adamw", "momentum"), ("sgd", "b1"), ("huber_loss", "axis"), ("no_such", "learning_rate")]
    {
        assert!(!sources.has(function, option), "{function}.{option}");
    }
}
