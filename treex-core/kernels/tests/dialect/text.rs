//! The text of a kernel with all that it leaves open, as a launch puts it together.

use std::fmt::Write;

/// Threads of a group.
pub(crate) const GROUP_SIZE: usize = 256;

/// Elements of a thread, in a launch over all elements.
pub(crate) const EACH: usize = 4;

/// A text behind its header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    defines: Vec<(String, String)>,
    body: String,
}

impl Text {
    /// The texts of elements of this type, with these names defined.
    pub(crate) fn of_element(element: &str, texts: &[&str], defines: &[(&str, usize)]) -> Self {
        let mut text = Self::new(texts, &[("GROUP_SIZE", GROUP_SIZE), ("EACH_THREAD", EACH)]);
        text.defines.push(("ELEMENT".into(), element.into()));
        text.define("IS_WIDE", usize::from(element == "F64"));
        defines.iter().for_each(|(name, value)| text.define(name, *value));
        text
    }

    /// These texts, with these names defined.
    pub(crate) fn new(texts: &[&str], defines: &[(&str, usize)]) -> Self {
        let mut text = Self { defines: Vec::new(), body: texts.concat() };
        defines.iter().for_each(|(name, value)| text.define(name, *value));
        text
    }

    /// The text with another part in the place of one that it has.
    pub(crate) fn with(&self, part: &str, other: &str) -> Self {
        assert!(self.body.contains(part), "the text has no `{part}`");
        Self { body: self.body.replace(part, other), ..self.clone() }
    }

    fn define(&mut self, name: &str, value: usize) {
        self.defines.push((name.into(), value.to_string()));
    }

    /// The names of its kernels, without those that its defines leave out.
    pub(crate) fn kernels(&self) -> Vec<String> {
        kernels_of(&self.included())
    }

    /// The lines of the body that are compiled, where a condition is a name, or a name behind `!`; the others are all kept.
    fn included(&self) -> String {
        let is_true = |condition: &str| {
            let name = condition.trim_start_matches('!');
            let (_, value) = self.defines.iter().find(|(defined, _)| defined == name)?;
            Some((value != "0") != condition.starts_with('!'))
        };
        let (mut conditions, mut included): (Vec<Option<bool>>, _) = (Vec::new(), String::new());
        for line in self.body.lines() {
            if let Some(condition) = line.strip_prefix("#if ") {
                conditions.push(is_true(condition));
            } else if line.starts_with("#else") {
                conditions.iter_mut().rev().take(1).for_each(|last| *last = last.map(|last| !last));
            } else if line.starts_with("#endif") {
                conditions.pop();
            } else if !conditions.contains(&Some(false)) {
                included += &format!("{line}\n");
            }
        }
        included
    }

    /// The text with its defines.
    pub(crate) fn defined(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.defines {
            let _ = writeln!(text, "#define {name} {value}"); // into memory
        }
        text + &self.body
    }

    /// The text in a namespace, whose macros end with it.
    pub(crate) fn within(&self, namespace: &str) -> String {
        let mut text = format!("namespace {namespace} {{\n{}}}\n", self.defined());
        for name in names_behind(&text.clone(), "#define ") {
            let _ = writeln!(text, "#undef {name}"); // into memory
        }
        text
    }
}

/// The names of the kernels that a text has.
pub(crate) fn kernels_of(text: &str) -> Vec<String> {
    names_behind(text, "KERNEL(")
}

/// The name behind `start`, of each line that starts with it.
fn names_behind(text: &str, start: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let name = |line: &str| line.chars().take_while(|letter| is_part(*letter)).collect();
    text.lines().filter_map(|line| line.strip_prefix(start)).map(name).collect()
}
