//! The fixtures leave nothing out: neither of what Candle's kernels use, nor of what the interpreter takes.

mod fixture;

use std::collections::BTreeSet;

use fixture::Form;
use fixture::device::takes;

fn forms() -> impl Iterator<Item = Form> {
    fixture::FAMILIES.into_iter().flat_map(fixture::family)
}

/// The words of all instructions, operands among them.
fn words(forms: impl Iterator<Item = Form>) -> BTreeSet<String> {
    forms
        .flat_map(|form| form.body.split([' ', ';', '\n', '{', '}']).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_form_of_candle_has_a_row() {
    let words = words(forms());
    let candle = include_str!("fixtures/candle_forms.txt").lines();
    let without: Vec<&str> = candle.filter(|form| !words.contains(*form)).collect();
    assert!(without.is_empty(), "without a row: {without:?}");
}

const TYPES: [&str; 23] = [
    "pred", "b8", "u8", "s8", "b16", "u16", "s16", "f16", "bf16", "b32", "u32", "s32", "f32", "b64", "u64",
    "s64", "f64", "f16x2", "bf16x2", "u16x2", "s16x2", "e4m3x2", "e5m2x2",
];
const MODIFIERS: [&str; 32] = [
    "rn",
    "rz",
    "rm",
    "rp",
    "rna",
    "rni",
    "rzi",
    "rmi",
    "rpi",
    "ftz",
    "sat",
    "satfinite",
    "relu",
    "NaN",
    "xorsign",
    "abs",
    "approx",
    "full",
    "cc",
    "hi",
    "lo",
    "wide",
    "noftz",
    "sync",
    "v2",
    "v4",
    "global",
    "shared",
    "local",
    "const",
    "to",
    "nc",
];
/// What says in which order, for whom, or by which cache memory is used: nothing that one thread sees.
const ORDERS: [&str; 17] = [
    "volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "cta", "gpu", "sys", "ca", "cg", "cs",
    "lu", "cv", "wb", "wt", "aligned",
];

/// The words that tell a form from others, whatever the order of its modifiers: opcode, modifiers, types.
fn key<'a>(words: &[&'a str]) -> (&'a str, BTreeSet<&'a str>, Vec<&'a str>) {
    let (opcode, rest) = (words[0], &words[1..]);
    let (types, modifiers): (Vec<&str>, Vec<&str>) = rest.iter().partition(|word| TYPES.contains(word));
    let ordered = ["ld", "ldu", "st", "atom", "red", "barrier", "bar", "fence"].contains(&opcode);
    let plain = |word: &&str| {
        !(ordered && (ORDERS.contains(word) || word.starts_with("L1") || word.starts_with("L2")))
    };
    (opcode, modifiers.into_iter().filter(plain).collect(), types)
}

/// What is one step away: a word less, another type or modifier, or one more.
fn neighbours<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    for at in 1..words.len() {
        let (before, after) = (&words[..at], &words[at + 1..]);
        found.push([before, after].concat());
        let others: &[&str] = if TYPES.contains(&words[at]) { &TYPES } else { &MODIFIERS };
        found.extend(others.iter().map(|other| [before, &[*other], after].concat()));
    }
    found.extend(TYPES.iter().map(|more| [words, &[*more]].concat()));
    found.extend(MODIFIERS.iter().map(|more| [&words[..1], &[*more], &words[1..]].concat()));
    found
}

/// What the interpreter takes has a row: it takes nothing that PTX does not have, as far as a step from a row leads.
#[test]
fn what_the_interpreter_takes_has_a_row() {
    let names = words(forms());
    let split = |name: &'static str| name.split('.').collect::<Vec<_>>();
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let mut seen: BTreeSet<_> = names.iter().map(|name| key(&split(name))).collect();
    let mut forms: Vec<Form> = forms().collect();
    let mut tries = Vec::new();
    for (at, form) in forms.iter_mut().enumerate() {
        form.rows.truncate(1);
        let name: &'static str = form.name.split(' ').next().expect("a name").to_owned().leak();
        for other in neighbours(&split(name)) {
            if seen.insert(key(&other)) {
                tries.push((at, name, other));
            }
        }
    }
    // Whether the interpreter takes a form, though no row has it.
    let taken = &|(at, name, other): &(usize, &str, Vec<&str>)| {
        let other = other.join(".");
        let body = renamed(&forms[*at].body, name, &other);
        body != forms[*at].body && takes(&Form { body, ..forms[*at].clone() })
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let unknown: BTreeSet<String> = std::thread::scope(|scope| {
        let parts = tries.chunks(tries.len().div_ceil(threads));
        let parts: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || {
                    part.iter().filter(|one| taken(one)).map(|one| one.2.join(".")).collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
    });
    println!("{} forms without a row were tried", tries.len());
    assert!(unknown.is_empty(), "{} are taken without a row: {unknown:#?}", unknown.len());
}

/// The instructions with one of them under another name.
fn renamed(body: &str, name: &str, other: &str) -> String {
    let ends = [' ', ';', '\n'];
    let words = body.split_inclusive(ends);
    words
        .map(
            |word| {
                if word.trim_end_matches(ends) == name { word.replace(name, other) } else { word.to_owned() }
            },
        )
        .collect()
}
