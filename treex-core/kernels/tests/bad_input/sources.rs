//! The public functions of a crate, read from its sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Of a folder of sources: `module::function`, `module::Type::method` and `module::Trait::method`, where the module is
/// that of the file. Trusts
/// `cargo fmt`: an item of a block is indented by four more columns than the block.
pub(crate) fn public_functions(root: &Path) -> BTreeSet<String> {
    let mut files = Vec::new();
    find(root, &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().with_extension("");
        let parts = path.iter().map(|part| part.to_str().unwrap());
        let module: Vec<&str> = parts.filter(|part| !["mod", "lib"].contains(part)).collect();
        // The macro's patterns are no functions, and tests are no part of the crate.
        if module.last().is_some_and(|last| ["entry_points", "tests"].contains(last)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        names.extend(of_file(&text).into_iter().map(|name| [&module[..], &[&name]].concat().join("::")));
    }
    names
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A block whose functions are looked for.
struct Block {
    indent: usize,
    name: String,
    /// Whether all functions are public.
    is_trait: bool,
}

fn of_file(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut block: Option<Block> = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // From a block of tests on, which is the last of a file, nothing is public.
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{')) {
            break;
        }
        let (code, indent) = (line.trim_start(), line.len() - line.trim_start().len());
        if code.starts_with("//") {
            continue;
        }
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        if block
            .as_ref()
            .is_some_and(|block| line.len() == indent + 1 && code == "}" && indent == block.indent)
        {
            block = None;
        }
        if let Some(rest) = code.strip_prefix("pub trait ").or(code.strip_prefix("pub unsafe trait ")) {
            block = Some(Block { indent, name: first_word(rest), is_trait: true });
        } else if code.starts_with("impl") && !code.contains(" for ") {
            block = Some(Block { indent, name: first_word(after_generics(&code[4..])), is_trait: false });
        }
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let before = &words[..at];
        if before.iter().any(|word| !["pub", "const", "unsafe", ""].contains(word))
            || code.starts_with("pub(")
        {
            continue;
        }
        let Some(name) = words.get(at + 1) else { continue };
        let inside = block.as_ref().filter(|block| indent == block.indent + 4);
        match inside {
            Some(block) if block.is_trait || code.starts_with("pub ") => {
                names.push(format!("{}::{name}", block.name));
            }
            None if code.starts_with("pub ") => names.push((*name).to_string()),
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// What follows `<..>`, if there is one.
fn after_generics(text: &str) -> &str {
    let (mut depth, mut before) = (0, ' ');
    for (at, char) in text.char_indices() {
        match char {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        before = char;
        if depth == 0 {
            return if at == 0 { text } else { &text[at + 1..] };
        }
    }
    text
}
