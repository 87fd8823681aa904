//! The shape of the source: rooms are the folders and files directly below `src/`, and
//! docs/design/architecture.md lists them from the bottom to the top.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::root;

const MOST_LINES: usize = 500;
const MOST_LINES_OF_A_FOLDER: usize = 4500;
const MOST_COLUMNS_OF_A_COMMENT: usize = 100;

/// All files below `src/` by their path in it, with their text.
fn sources() -> BTreeMap<String, String> {
    let source = root().join("src");
    let (mut folders, mut found) = (vec![source.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&source).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn room(file: &str) -> &str {
    let first = file.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The modules that a file declares, as the compiler looks for them.
fn declared<'t>(file: &str, text: &'t str) -> impl Iterator<Item = [PathBuf; 2]> + use<'t> {
    let path = Path::new(file);
    let own = path.file_stem().unwrap();
    let parent = path.parent().unwrap();
    let folder = match own.to_str().unwrap() {
        "lib" | "mod" => parent.to_owned(),
        _ => parent.join(own),
    };
    let lines = text.lines().map(str::trim);
    let names = lines.filter_map(|line| {
        let words = line.strip_suffix(';')?.rsplit_once("mod ")?;
        let is_plain = words.0.is_empty() || words.0.starts_with("pub");
        is_plain.then_some(words.1)
    });
    names.map(move |name| {
        let file = folder.join(name);
        [file.with_extension("rs"), file.join("mod.rs")]
    })
}

#[test]
fn every_file_is_compiled() {
    let sources = sources();
    let is_start = |file: &&String| *file == "lib.rs" || file.starts_with("bin/");
    let mut open: Vec<String> = sources.keys().filter(is_start).cloned().collect();
    let mut reached = BTreeSet::new();
    while let Some(file) = open.pop() {
        let modules = declared(&file, &sources[&file]).flatten();
        let modules = modules.map(|path| path.to_str().unwrap().to_owned());
        open.extend(modules.filter(|path| sources.contains_key(path)));
        reached.insert(file);
    }
    assert_eq!(reached, sources.into_keys().collect());
}

/// What stands behind `crate::` in a text, tests and comments aside.
fn read(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    let is_code = |part: &&str| {
        let line = part.rsplit('\n').next().unwrap_or(part);
        !line.trim_start().starts_with("//")
    };
    let before = text.split("crate::");
    let named = before.clone().skip(1).zip(before);
    let named = named
        .filter(move |(_, before)| is_code(before))
        .map(|(rest, _)| rest);
    named.flat_map(|rest| {
        let inside = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let paths = inside.map_or_else(|| vec![rest], |inside| inside.split(',').collect());
        let names = paths.into_iter().map(str::trim_start);
        names.map(|path| {
            let end = path.find(|c: char| c != '_' && !c.is_alphanumeric());
            &path[..end.unwrap_or(path.len())]
        })
    })
}

/// The rooms in the order of the page about them; those of one row have one place.
fn places() -> BTreeMap<String, usize> {
    let page = fs::read_to_string(root().join("docs/design/architecture.md")).unwrap();
    let (_, table) = page.split_once("\n## The rooms\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut found = BTreeMap::new();
    for (place, row) in rows.enumerate() {
        let names = row.split('|').nth(1).unwrap().split(',');
        found.extend(names.map(|name| (name.trim().trim_matches('`').to_owned(), place)));
    }
    found
}

#[test]
fn rooms_read_only_those_below() {
    let (sources, places) = (sources(), places());
    let rooms: BTreeSet<&str> = sources.keys().map(|file| room(file)).collect();
    let listed: BTreeSet<&str> = places.keys().map(String::as_str).collect();
    assert_eq!(rooms.difference(&listed).collect::<Vec<_>>(), [&"lib"]);
    assert_eq!(listed.difference(&rooms).count(), 0);
    let mut arrows = BTreeSet::new();
    for (file, text) in sources
        .iter()
        .filter(|(file, _)| !file.ends_with("tests.rs"))
    {
        let own = room(file);
        let others = read(text).filter(|&other| other != own && rooms.contains(other));
        arrows.extend(others.filter(|_| own != "lib").map(|other| (own, other)));
    }
    assert!(arrows.contains(&("pipeline", "select")));
    let upward = arrows
        .iter()
        .filter(|(own, other)| places[*own] <= places[*other]);
    assert_eq!(upward.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
}

#[test]
fn files_and_folders_are_of_a_size_to_be_read() {
    let sources = sources();
    let mut lines = BTreeMap::<&Path, usize>::new();
    for (file, text) in &sources {
        let count = text.lines().count();
        assert!(count <= MOST_LINES, "{file} has {count} lines");
        *lines.entry(Path::new(file).parent().unwrap()).or_default() += count;
    }
    let large = lines
        .iter()
        .filter(|&(_, &count)| count > MOST_LINES_OF_A_FOLDER);
    assert_eq!(large.collect::<Vec<_>>(), []);
}

#[test]
fn comments_end_at_one_column() {
    let is_wide = |line: &&str| {
        line.trim_start().starts_with("//") && line.chars().count() > MOST_COLUMNS_OF_A_COMMENT
    };
    let wide = |(file, text): (&String, &String)| {
        let lines = text.lines().filter(is_wide).map(str::to_owned);
        lines.map(|line| (file.clone(), line)).collect::<Vec<_>>()
    };
    assert_eq!(sources().iter().flat_map(wide).collect::<Vec<_>>(), []);
}

#[test]
fn flags_are_named_by_the_face_alone() {
    const FACE: [&str; 4] = ["bin", "cli", "flags", "report"];
    // The flags of pip.
    const NOT_OURS: [&str; 1] = ["runtime/setup.rs"];
    let is_text = |line: &&str| !line.trim_start().starts_with("//");
    let names_one = |line: &&str| {
        let mut plain = line.split('`').step_by(2);
        let is_flag = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
        plain.any(|part| part.split("--").skip(1).any(is_flag))
    };
    let mut found = Vec::new();
    for (file, text) in sources() {
        if FACE.contains(&room(&file)) || NOT_OURS.contains(&file.as_str()) {
            continue;
        }
        let (code, _) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
        let lines = code.lines().filter(is_text).filter(names_one);
        found.extend(lines.map(|line| format!("{file}: {}", line.trim())));
    }
    assert_eq!(found, Vec::<String>::new());
}
