//! Every error tells what to do: by its remedy, or by what was expected, which is what to give instead. The errors that
//! can do neither are listed here with the reason. The sources of all libraries are read, so that a new error cannot be
//! forgotten.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::fs;
use std::path::{Path, PathBuf};

/// The beginning of a message, and why it has neither a remedy nor an expectation where it is constructed.
const WITHOUT: &[(&str, &str)] = &[
    ("the function did not run", "`in_place` ran it or failed before; it guards treex's own code"),
    (
        "the tree has no value to multiply",
        "a filter that selects nothing was an error before; it guards treex's own code",
    ),
    (
        "cannot {verb} the checkpoint",
        "the cause is the system's error, which says what is wrong with the file",
    ),
    ("reading or writing a file failed", "the cause is the system's error; the file is unknown"),
    ("candle failed", "the cause is an error of Candle, which can be any"),
    ("the {what} of this leaf is unknown", "the two callers add a remedy each"),
    ("a tensor is larger than its memory", "no public call makes such a tensor; it guards treex's own code"),
    ("an output of an operation is on another device", "an operation's author made it; treex's own cannot"),
    ("an operation did not save its output", "an operation's author asked for it; treex's own cannot"),
    ("an operation has no cotangent", "the backward pass gives one to each operation that it calls"),
    ("an operation lost its output", "the graph holds each output until backward has run"),
    ("a tensor has no memory to take", "it guards treex's own code, which takes memory once"),
    ("attention needs inputs", "callers check their inputs first; it guards treex's own code"),
    (
        "a kernel of attention needs CPU tensors",
        "callers check their inputs first; it guards treex's own code",
    ),
    ("a tensor has left its device", "it was checked before; it guards treex's own code"),
    ("a table of another size", "the caller made it as large; it guards treex's own code"),
    ("a leaf to be written has no value", "the engine names the path before; it guards treex's own code"),
    ("a leaf cannot be updated", "the caller adds what the update needs"),
    ("an update has no parameter or no state", "trees are lined up before; it guards treex's own code"),
];

/// The sources of the libraries, without tests.
fn sources() -> Vec<PathBuf> {
    fn below(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                _ if path.is_dir() => below(&path, files),
                Some("tests.rs") | None => {}
                Some(name) if name.ends_with(".rs") => files.push(path),
                Some(_) => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for library in ["treex-core", "treex-nn", "treex-optim"] {
        below(&root.join(library).join("src"), &mut files);
    }
    files
}

/// The code without comments, and without what follows `#[cfg(test)]` and a module.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The length of a group in brackets at the start of `text`.
fn group(text: &str) -> usize {
    let (mut depth, mut chars) = (0, text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                while let Some((_, char)) = chars.next() {
                    match char {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// A call of a constructor at the start of `text`, and the methods that are called on the error at once.
fn chain(text: &str) -> &str {
    let mut end = text.find('(').unwrap();
    end += group(&text[end..]);
    loop {
        let rest = &text[end..];
        let next = rest.trim_start();
        let name = next.strip_prefix('.').and_then(|next| next.split_once('(')).map(|(name, _)| name);
        match name {
            Some(name) if name.chars().all(|char| char.is_alphanumeric() || char == '_') => {
                let open = rest.find('(').unwrap();
                end += open + group(&rest[open..]);
            }
            _ => return &text[..end],
        }
    }
}

#[test]
fn every_error_tells_what_to_do() {
    let (mut count, mut silent, mut used) = (0, Vec::new(), vec![false; WITHOUT.len()]);
    for file in sources() {
        let text = code(&fs::read_to_string(&file).unwrap());
        // Only in its own file is the type also called `Self`.
        let is_own = file.ends_with("treex-core/src/error.rs");
        let names = if is_own { &["Error::", "Self::"][..] } else { &["Error::"] };
        let constructors =
            names.iter().flat_map(|name| ["new(", "argument(", "shape("].map(|f| format!("{name}{f}")));
        for (constructor, (at, _)) in constructors.flat_map(|constructor| {
            text.match_indices(&constructor).map(|found| (constructor.clone(), found)).collect::<Vec<_>>()
        }) {
            let chain = chain(&text[at..]);
            let Some(message) = chain.split('"').nth(1) else {
                // The message is a variable: the constructors themselves, and helpers that add an expectation.
                assert!(is_own || chain.contains(".expected("), "{}: {constructor} {chain}", file.display());
                continue;
            };
            count += 1;
            if let Some(index) = WITHOUT.iter().position(|(begin, _)| message.starts_with(begin)) {
                used[index] = true;
            } else if !chain.contains(".remedy(") && !chain.contains(".expected(") {
                silent.push(format!("{}: {message}", file.display()));
            }
        }
    }
    assert!(silent.is_empty(), "no remedy, no expectation, and no reason why:\n{}", silent.join("\n"));
    assert!(count > 200, "only {count} errors were found");
    let stale: Vec<_> =
        WITHOUT.iter().zip(used).filter(|(_, used)| !used).map(|(entry, _)| entry.0).collect();
    assert!(stale.is_empty(), "no error has these messages: {stale:?}");
    assert!(WITHOUT.iter().all(|(_, reason)| !reason.is_empty()));
}

/// The search itself: methods on later lines belong to an error, and brackets in texts do not count.
#[test]
fn a_chain_ends_with_its_methods() {
    let text = r#"Error::new(Kind, format!("a ) {x}"))
        .expected(f("\")"))
        .remedy("b")
        + 1"#;
    assert!(chain(text).ends_with(r#".remedy("b")"#), "{}", chain(text));
    assert_eq!(chain(r#"Error::shape("a"), other.remedy("b")"#), r#"Error::shape("a")"#);
}
