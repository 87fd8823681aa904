//! The shape of the source: rooms are the folders and files directly below `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::program::root;

const MOST_LINES: usize = 500;
/// Files that are longer.
const LONG: [&str; 3] = [
    "calibrate/reader/synthetic/leaves.rs",
    "onnx/tensor.rs",
    "sequential/job.rs",
];
/// Of the files directly in a folder.
const MOST_LINES_OF_A_FOLDER: usize = 4500;
/// Folders that are larger.
const LARGE: [&str; 1] = ["calibrate"];

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

#[test]
fn rooms_read_each_other_one_way() {
    let sources = sources();
    let rooms: BTreeSet<&str> = sources.keys().map(|file| room(file)).collect();
    let mut arrows = DiGraphMap::<&str, ()>::new();
    for (file, text) in sources
        .iter()
        .filter(|(file, _)| !file.ends_with("tests.rs"))
    {
        let own = room(file);
        for other in read(text).filter(|&other| other != own && rooms.contains(other)) {
            arrows.add_edge(own, other, ());
        }
    }
    assert!(arrows.contains_edge("pipeline", "select"));
    let circles = tarjan_scc(&arrows)
        .into_iter()
        .filter(|rooms| rooms.len() > 1);
    assert_eq!(circles.collect::<Vec<_>>(), Vec::<Vec<&str>>::new());
}

#[test]
fn files_and_folders_are_of_a_size_to_be_read() {
    let sources = sources();
    let mut lines = BTreeMap::<&str, usize>::new();
    let mut long = Vec::new();
    for (file, text) in &sources {
        let count = text.lines().count();
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        *lines.entry(folder).or_default() += count;
        if count > MOST_LINES {
            long.push(file.as_str());
        }
    }
    assert_eq!(long, LONG);
    let large = lines
        .into_iter()
        .filter(|&(_, count)| count > MOST_LINES_OF_A_FOLDER);
    assert_eq!(large.map(|(folder, _)| folder).collect::<Vec<_>>(), LARGE);
}
