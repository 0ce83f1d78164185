//! The nearest names, for errors.

/// ` (nearest: `a`, `b`)`, or nothing if no name is near.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let mut scored: Vec<_> = names.map(|other| (strsim::jaro_winkler(name, other), other)).collect();
    scored.retain(|(score, _)| *score > 0.7);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = scored.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    if near.is_empty() { String::new() } else { format!(" (nearest: {})", near.join(", ")) }
}
