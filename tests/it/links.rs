//! Every relative link of the documentation leads to a file, and every `#anchor` to a heading.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::documented::pages;
use crate::program::root;

/// The lines of a page outside blocks of code, without what stands between backticks.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Where the links and pictures of a page lead: `[text](target)`, `href="target"`, `src="target"`.
fn targets(page: &str) -> Vec<String> {
    let text = prose(page);
    let starts = [
        ("](", ')'),
        ("href=\"", '"'),
        ("src=\"", '"'),
        ("srcset=\"", '"'),
    ];
    let found = starts.iter().flat_map(|&(start, end)| {
        let links = text.split(start).skip(1);
        links.map(move |rest| rest.split(end).next().unwrap_or(rest))
    });
    found.map(str::to_owned).collect()
}

/// The names that hosts and the site give to a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    let mut seen = BTreeMap::<String, usize>::new();
    let mut is_code = false;
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title
            .trim()
            .chars()
            .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        let name: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let times = seen.entry(name.clone()).or_default();
        anchors.push(match *times {
            0 => name,
            times => format!("{name}-{times}"),
        });
        *times += 1;
    }
    anchors
}

/// A target's path in the repository, as a link on `page` says it.
fn resolved(page: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::from(page);
    if !target.is_empty() {
        path.pop();
    }
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// What is wrong with a link of a page.
fn fault(page: &str, link: &str) -> Option<String> {
    let is_elsewhere = link.contains("://") || link.starts_with("mailto:");
    if is_elsewhere {
        return None;
    }
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = resolved(page, target);
    let found = root().join(&path);
    if !found.exists() {
        return Some(format!("{page}: no {} ({link})", path.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(found).unwrap();
    let is_there = anchors(&text).iter().any(|known| known == anchor);
    (!is_there).then(|| format!("{page}: no heading for {link}"))
}

#[test]
fn links_lead_somewhere() {
    let mut pages = pages();
    for name in [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "fixtures/README.md",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        pages.insert(name.to_owned(), text);
    }
    let mut count = 0;
    let mut faults = Vec::new();
    for (page, text) in &pages {
        let links = targets(text);
        count += links.len();
        faults.extend(links.iter().filter_map(|link| fault(page, link)));
    }
    assert!(count > 50, "only {count} links found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn links_and_headings_are_found() {
    let page = "\
# A `title`, twice
See [one](a.md), [two
lines](../b/c.md#d) and ![a picture](p.svg); `[no](link)`.

```text
# no heading [no](link)
```

    [no](link)

## A title twice
<img src=\"q.svg\">
";
    assert_eq!(targets(page), ["a.md", "../b/c.md#d", "p.svg", "q.svg"]);
    assert_eq!(anchors(page), ["a-title-twice", "a-title-twice-1"]);
}

#[test]
fn a_link_to_nothing_is_a_fault() {
    let page = "docs/guide/page.md";
    for link in ["absent.md", "../../README.md#absent", "../absent/"] {
        assert!(fault(page, link).is_some(), "{link}");
    }
    for link in [
        "../../README.md",
        "../../README.md#onnx-mipp",
        "https://example.org",
    ] {
        assert!(fault(page, link).is_none(), "{link}");
    }
    assert!(fault("README.md", "#onnx-mipp").is_none());
    assert!(fault("README.md", "#absent").is_some());
}
