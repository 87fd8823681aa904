//! The page of operators says what the source knows of each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use onnx_mipp::ops::{self, Entry};

use crate::program::root;

const PAGE: &str = "docs/reference/operators.md";
const BEGIN: &str = "<!-- operators: UPDATE_DOCS=1 cargo test --test it operators -->\n";
const END: &str = "<!-- end of operators -->";

/// Names of one domain: `A, B`, or `com.microsoft: A, B`.
fn named(entries: &[&Entry]) -> String {
    let mut domains: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in entries {
        match domains
            .iter_mut()
            .find(|(domain, _)| *domain == entry.domain)
        {
            Some((_, names)) => names.extend(entry.names),
            None => domains.push((entry.domain, entry.names.to_vec())),
        }
    }
    let all = domains.into_iter().map(|(domain, names)| {
        let names = names.join(", ");
        match domain {
            "" => names,
            domain => format!("{domain}: {names}"),
        }
    });
    all.collect::<Vec<_>>().join("; ")
}

/// A row for each thing that operators mean for channels, in the order of the source.
fn table(head: &str, is_shown: impl Fn(&Entry) -> bool) -> String {
    let mut rows: Vec<(&str, Vec<&Entry>)> = Vec::new();
    let mut places = BTreeMap::new();
    for entry in ops::entries().filter(|entry| is_shown(entry)) {
        let place = *places.entry(entry.channels).or_insert(rows.len());
        match rows.get_mut(place) {
            Some((_, entries)) => entries.push(entry),
            None => rows.push((entry.channels, vec![entry])),
        }
    }
    let mut text = format!("| operators | {head} |\n|---|---|\n");
    for (channels, entries) in rows {
        let names = named(&entries);
        writeln!(text, "| {names} | {channels} |").unwrap();
    }
    text
}

#[test]
fn the_page_of_operators_says_what_the_source_knows() {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let followed = table("rule", |entry| entry.operator.is_followed());
    let others = table("known", |entry| !entry.operator.is_followed());
    let known = format!(
        "\n{followed}\nOf a few operators without a rule something else is known:\n\n{others}\n"
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, [before, BEGIN, &known, END, after].concat()).unwrap();
    } else {
        assert!(
            shown == known,
            "{PAGE} differs from the source: run `UPDATE_DOCS=1 cargo test --test it operators`"
        );
    }
}
