//! The fuzzer's inputs, each once more: seeds, and what it found, in `fuzz/corpus/`.

use std::fs;

use crate::program::root;
use crate::targets;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = root().join("fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing in {folder:?}");
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| target(&bytes));
        assert!(outcome.is_ok(), "{path:?} ends in a panic");
    }
}

#[test]
fn model_files() {
    replay("decode", targets::decode);
}

#[test]
fn functions() {
    replay("inline", targets::inline);
}

#[test]
fn groups() {
    replay("groups", targets::groups);
}

#[test]
fn random_cuts() {
    replay("cut", targets::cut);
}

#[test]
fn arrays_and_archives() {
    replay("arrays", targets::arrays);
}

#[test]
fn statistics() {
    replay("statistics", targets::statistics);
}

#[test]
fn plans() {
    replay("plans", targets::plans);
}

#[test]
fn configurations() {
    replay("toml", targets::toml);
}
