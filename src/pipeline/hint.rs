//! What a pattern that matches nothing may have meant.

use crate::graph::Graph;

/// Names less alike than this are no likely slips of the pen.
const LEAST_LIKENESS: f64 = 0.7;
/// So many names are offered.
const MOST_NAMES: usize = 3;

/// A sentence with a semicolon after it, or nothing: the nodes that make channels with `names` most
/// like the pattern, or that the pattern names a node that makes none.
pub(super) fn of(pattern: &str, names: &[&str], graph: &Graph) -> String {
    if let Some(node) = graph.nodes.iter().find(|node| node.name == pattern) {
        let operator = node.full_name();
        return format!("the node of that name is a {operator} and makes none; ");
    }
    let found = closest(pattern, names);
    match found.as_slice() {
        [] => String::new(),
        [only] => format!("did you mean '{only}'? "),
        [rest @ .., last] => format!("did you mean '{}' or '{last}'? ", rest.join("', '")),
    }
}

/// The most similar names, best first; those that hold the pattern without its wildcards come
/// first.
fn closest<'n>(pattern: &str, names: &[&'n str]) -> Vec<&'n str> {
    let plain = pattern.trim_matches(['*', '/', '?']).to_lowercase();
    if plain.is_empty() {
        return Vec::new();
    }
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        if name.contains(&plain) {
            1.0
        } else {
            strsim::normalized_damerau_levenshtein(&plain, name.trim_matches('/'))
        }
    };
    let mut rated: Vec<(f64, &str)> = Vec::new();
    for &name in names {
        let rate = likeness(name);
        if rate >= LEAST_LIKENESS && !rated.iter().any(|(_, other)| *other == name) {
            rated.push((rate, name));
        }
    }
    // Stable: among equals the order of the graph.
    rated.sort_by(|a, b| b.0.total_cmp(&a.0));
    rated.truncate(MOST_NAMES);
    rated.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let names = ["/stem/Conv", "/layer1/conv1/Conv", "/layer1/conv2/Conv"];
        assert_eq!(closest("/layer1/conv1/Cnv", &names)[0], names[1]);
        assert_eq!(closest("layer1", &names), names[1..]);
        assert_eq!(closest("STEM", &names), names[..1]);
        assert!(closest("/decoder/attention/MatMul", &names).is_empty());
        assert!(closest("**", &names).is_empty());
    }
}
