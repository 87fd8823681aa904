//! What the library shows: the names that its documentation has. A change here is a change for
//! those who use it.

use std::fs;

use crate::program::root;

/// The names that a file makes public and documents.
fn public(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("src").join(file)).unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: Vec<&str> = text.lines().filter(is_code).collect();
    let mut names = Vec::new();
    let mut is_hidden = false;
    for item in code.join(" ").split_inclusive([';', ']']) {
        let item = item.trim();
        if item.ends_with(']') {
            is_hidden |= item == "#[doc(hidden)]";
        } else if !std::mem::take(&mut is_hidden) {
            names.extend(item.strip_suffix(';').and_then(shown).into_iter().flatten());
        }
    }
    names.sort();
    names
}

/// The names of one item; `None` where it is not public.
fn shown(item: &str) -> Option<Vec<String>> {
    if let Some(module) = item.strip_prefix("pub mod ") {
        return Some(vec![format!("mod {module}")]);
    }
    let path = item.strip_prefix("pub use ")?;
    let names = match path.split_once('{') {
        Some((_, names)) => names.trim_end_matches('}'),
        None => path.rsplit("::").next().unwrap(),
    };
    let names = names.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

#[test]
fn the_documented_names_are_few() {
    let [front, stages] = ["lib.rs", "stages.rs"].map(|file| public(file).join("\n"));
    insta::assert_snapshot!("public", format!("{front}\n\nstages:\n{stages}"));
}
