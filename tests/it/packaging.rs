//! What is given away: the licences of all that is linked in, and the contents of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::program::root;

/// Licences under which anything may be linked into a program of any licence.
const FREE: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Those that also do for what only builds and tests use.
const FOR_TOOLS: [&str; 1] = ["MPL-2.0"];

/// Reads `OR`, `AND`, parentheses and the old slash of a licence expression.
struct Expression<'a> {
    words: Vec<&'a str>,
    next: usize,
    allowed: &'a [&'a str],
}

impl Expression<'_> {
    fn is_met(text: &str, allowed: &[&str]) -> bool {
        let spaced = ["(", ")", "/"].iter().fold(text.to_owned(), |text, mark| {
            text.replace(mark, &format!(" {mark} "))
        });
        let mut expression = Expression {
            words: spaced.split_whitespace().collect(),
            next: 0,
            allowed,
        };
        let met = expression.any();
        assert_eq!(expression.next, expression.words.len(), "'{text}'");
        met
    }

    fn take(&mut self, wanted: &[&str]) -> bool {
        let found = self.words.get(self.next);
        let taken = found.is_some_and(|word| wanted.contains(word));
        self.next += usize::from(taken);
        taken
    }

    fn any(&mut self) -> bool {
        let mut met = self.all();
        while self.take(&["OR", "/"]) {
            met |= self.all();
        }
        met
    }

    fn all(&mut self) -> bool {
        let mut met = self.one();
        while self.take(&["AND"]) {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.take(&["("]) {
            let met = self.any();
            assert!(self.take(&[")"]), "{:?}", self.words);
            return met;
        }
        let word = self.words[self.next];
        self.next += 1;
        // An exception only permits more.
        self.next += 2 * usize::from(self.words.get(self.next) == Some(&"WITH"));
        self.allowed.contains(&word)
    }
}

#[test]
fn expressions_are_read() {
    let met = |text: &str| Expression::is_met(text, &FREE);
    for text in [
        "MIT",
        "GPL-3.0-only OR MIT",
        "Unlicense/MIT",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        "(MIT OR GPL-3.0-only) AND Unicode-3.0",
    ] {
        assert!(met(text), "{text}");
    }
    for text in [
        "GPL-3.0-only",
        "MPL-2.0",
        "MIT AND GPL-3.0-only",
        "(MIT OR Apache-2.0) AND OpenSSL",
        "GPL-2.0 WITH Classpath-exception-2.0",
    ] {
        assert!(!met(text), "{text}");
    }
}

/// What cargo knows of all packages, on all systems.
fn metadata() -> Value {
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    serde_json::from_str(&cargo(&arguments)).unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output = command.args(arguments).current_dir(root()).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

/// Packages that end in what is built here: reached without dependencies of builds and tests.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let nodes = array(&metadata["resolve"]["nodes"]);
    let nodes: BTreeMap<&str, &Value> = nodes.map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let members = array(&metadata["workspace_members"]).filter_map(Value::as_str);
    let mut found: BTreeSet<&str> = members.collect();
    let mut open: Vec<&str> = found.iter().copied().collect();
    while let Some(id) = open.pop() {
        for dependency in array(&nodes[id]["deps"]) {
            let is_linked = array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            let id = dependency["pkg"].as_str().unwrap();
            if is_linked && found.insert(id) {
                open.push(id);
            }
        }
    }
    found
}

#[test]
fn every_dependency_has_a_free_licence() {
    let metadata = metadata();
    let linked = linked(&metadata);
    assert!(linked.len() > 100, "only {} packages", linked.len());
    let tools = [FREE.as_slice(), &FOR_TOOLS].concat();
    for package in array(&metadata["packages"]) {
        let (name, id) = (&package["name"], package["id"].as_str().unwrap());
        let licence = package["license"].as_str();
        let licence = licence.unwrap_or_else(|| panic!("{name} names no licence"));
        let allowed: &[&str] = if linked.contains(id) { &FREE } else { &tools };
        let met = Expression::is_met(licence, allowed);
        assert!(met, "{name} is under {licence}");
    }
}

/// "1.92" and "1.92.0" as the same numbers.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    [0; 3].map(|zero| parts.next().unwrap_or(zero))
}

#[test]
fn the_oldest_rust_is_stated() {
    let metadata = metadata();
    let stated = |package: &Value| package["rust_version"].as_str().map(version);
    let is_ours = |package: &&Value| package["name"] == "onnx-mipp";
    let ours = array(&metadata["packages"]).find(is_ours).unwrap();
    let least = ours["rust_version"].as_str().expect("no rust-version");
    for package in array(&metadata["packages"]) {
        let needed = stated(package);
        let is_met = needed.is_none_or(|needed| needed <= version(least));
        assert!(is_met, "{} needs a newer Rust", package["name"]);
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {least} or newer")));
    assert_eq!(ours["license"], "MIT OR Apache-2.0");
    let licence = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let mit = licence("LICENSE-MIT");
    assert!(mit.contains("Permission is hereby granted, free of charge"));
    assert!(licence("LICENSE-APACHE").contains("Apache License"));
}

#[test]
fn the_crate_has_what_it_needs_and_no_more() {
    let arguments = ["package", "--list", "--allow-dirty", "--locked", "-p"];
    let listed = cargo(&[arguments.as_slice(), &["onnx-mipp"]].concat());
    let listed: BTreeSet<&str> = listed.lines().collect();
    let needed = [
        "build.rs",
        "Cargo.lock",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "proto/onnx.proto",
        "README.md",
        "src/lib.rs",
        "src/report/html/script.js",
        "src/report/html/style.css",
    ];
    for name in needed {
        assert!(listed.contains(name), "no {name} in the crate");
    }
    let refused = ["onnx", "npz", "png", "pyc", "so"];
    let mut total = 0;
    for name in listed {
        let path = root().join(name);
        let kind = path.extension().and_then(|kind| kind.to_str());
        let is_refused = kind.is_some_and(|kind| refused.contains(&kind));
        assert!(!is_refused, "{name} in the crate");
        // Cargo makes some files itself.
        total += fs::metadata(&path).map_or(0, |found| found.len());
    }
    assert!(total < 3_500_000, "{total} bytes");
}
