//! The JSON Schemas of docs/reference/schemas: of what is written as the types say it, and of the
//! options that `--config` reads.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::args::Arguments;
use super::{NAME, config};
use crate::report::{Compared, Inspection, Report, Sweep};
use crate::select::Plan;
use crate::statistics::{Header, MAGIC};
use crate::verify::Comparison;

/// All schemas by the names of their files. A version goes up where a stable field changes or
/// leaves, as docs/reference/formats.md says.
fn schemas() -> BTreeMap<String, Value> {
    let formats = [
        of::<Plan>(
            ("plan", 1),
            "Which channels of a model stay, as --plan-out writes and --plan reads it.",
        ),
        of::<Report>(
            ("report", 1),
            "What a run found out, as --report FILE.json writes and --json prints it.",
        ),
        of::<Sweep>(
            ("sweep", 1),
            "What onnx-mipp sweep found out, as --report FILE.json writes and --json prints it.",
        ),
        of::<Compared>(("compare", 1), "What onnx-mipp compare --json prints."),
        of::<Comparison>(
            ("comparison", 1),
            "How close the outputs of the second model are to those of the first on the same \
             samples. Part of reports and of what compare --json prints.",
        ),
        of::<Inspection>(("inspection", 1), "What onnx-mipp inspect --json prints."),
        of::<Header>(
            ("statistics", statistics_format()),
            "The JSON between the length and the sums of a file that --stats-out writes.",
        ),
    ];
    let configs = commands().into_iter().map(|(name, command)| {
        let schema = named(options(&command), (&name, 1));
        (format!("{name}.json"), schema)
    });
    formats.into_iter().chain(configs).collect()
}

/// The commands that read options from a file, with the names of their schemas.
fn commands() -> Vec<(String, Command)> {
    let program = Arguments::command().name(NAME).bin_name(NAME);
    let inner = program.get_subcommands().map(|command| {
        let name = command.get_name();
        let words = format!("{NAME} {name}");
        (format!("config-{name}"), command.clone().bin_name(words))
    });
    let mut all: Vec<_> = inner.collect();
    all.push(("config".to_owned(), program));
    all.retain(|(_, command)| command.get_arguments().any(|a| a.get_id() == "config"));
    all
}

/// The number in the first bytes of a file of statistics.
fn statistics_format() -> u32 {
    let text = str::from_utf8(MAGIC).unwrap().trim_end_matches("\n\0");
    text.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The schema of what is written of a type.
fn of<T: JsonSchema>(name: (&str, u32), description: &str) -> (String, Value) {
    let settings = SchemaSettings::draft07().for_serialize();
    let settings = settings.with_transform(RecursiveTransform(plain));
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = named(schema.to_value(), name);
    schema["description"] = description.into();
    (format!("{}.json", name.0), schema)
}

fn named(mut schema: Value, (name, version): (&str, u32)) -> Value {
    schema["$id"] = format!("urn:{NAME}:{name}:{version}").into();
    schema
}

/// A schema without the words of Rust.
fn plain(schema: &mut Schema) {
    schema.remove("format");
    schema.remove("default");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ").replace("`None`", "null");
    }
}

/// The schema of the files that a command reads options from. No type of Rust describes them: a
/// file is read as the command line is, by clap's definition. Each option is described for itself;
/// which go together is not.
fn options(command: &Command) -> Value {
    let words = command.get_bin_name().unwrap();
    let one = |argument: &Arg| {
        let mut schema = option(command, argument);
        schema["description"] = argument.get_help().unwrap().to_string().into();
        (argument.get_long().unwrap().to_owned(), schema)
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("Options of {words}"),
        "description": format!("What {words} reads with --config FILE.toml."),
        "type": "object",
        "properties": config::options_of_files(command).map(one).collect::<BTreeMap<_, _>>(),
        "additionalProperties": false,
    })
}

fn option(command: &Command, argument: &Arg) -> Value {
    if !argument.get_action().takes_values() {
        return json!({"type": "boolean"});
    }
    let one = value(command, argument);
    let is_joined = argument.get_value_delimiter().is_some();
    if is_joined || matches!(argument.get_action(), ArgAction::Append) {
        let mut several = json!({"type": "array", "items": one});
        if is_joined {
            several["minItems"] = 1.into();
        }
        json!({"anyOf": [one, several]})
    } else {
        one
    }
}

/// What stands in a message before a bound, and the bound's keyword.
const BOUNDS: [(&str, &str); 4] = [
    ("from", "minimum"),
    ("above", "exclusiveMinimum"),
    ("to", "maximum"),
    ("below", "exclusiveMaximum"),
];

/// What an option takes, of what the reader says that it expects: its messages tell every range.
fn value(command: &Command, argument: &Arg) -> Value {
    let name = argument.get_long().unwrap();
    let named = argument.get_possible_values();
    if !named.is_empty() {
        let names: Vec<&str> = named.iter().map(|value| value.get_name()).collect();
        return json!({"type": "string", "enum": names});
    }
    let Some(message) = refusal(command, name, "?") else {
        return json!({"type": "string"});
    };
    let (_, expected) = message.split_once("expected ").unwrap();
    if let Some(names) = expected.strip_prefix("one of ") {
        let names = names.split(", found").next().unwrap().split(", ");
        return json!({"type": "string", "enum": names.collect::<Vec<_>>()});
    }
    // Behind the number there may be a text, such as 12ms.
    let (first, other) = expected.split_once(", or ").unwrap_or((expected, ""));
    let types = match (first.contains("a whole number"), first.contains("a number")) {
        (true, _) => json!("integer"),
        (_, true) if other.is_empty() => json!("number"),
        (_, true) => json!(["number", "string"]),
        _ => return json!({"type": "string"}),
    };
    let mut schema = json!({ "type": types });
    let words: Vec<&str> = first.split(' ').collect();
    for pair in words.windows(2) {
        let keyword = BOUNDS.iter().find(|(word, _)| *word == pair[0]);
        let Some((_, keyword)) = keyword else {
            continue;
        };
        // A larger number may be another thing, as bytes are beside a share.
        if beyond(keyword, pair[1]).is_some_and(|text| refusal(command, name, &text).is_some()) {
            schema[keyword] = pair[1].parse().unwrap();
        }
    }
    schema
}

/// A number a little outside of a bound.
fn beyond(keyword: &str, bound: &str) -> Option<String> {
    let sign = if keyword.ends_with("inimum") { -1 } else { 1 };
    if let Ok(whole) = bound.parse::<i128>()
        && whole.abs() > 1
    {
        return Some((whole + sign).to_string());
    }
    let bound: f64 = bound.parse().ok()?;
    Some((bound + sign as f64 * 1e-6 * bound.abs().max(1.0)).to_string())
}

/// Why the reader does not take a value, where it does not.
fn refusal(command: &Command, option: &str, value: &str) -> Option<String> {
    let words = [NAME.to_owned(), format!("--{option}={value}")];
    let error = command.clone().try_get_matches_from(words).err()?;
    let is_refused = matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    );
    is_refused.then(|| config::plain(&error))
}

#[test]
fn schemas_are_those_of_what_is_written_and_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/schemas");
    let schemas = schemas();
    for (name, schema) in &schemas {
        let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
        let path = folder.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            known.replace("\r\n", "\n") == text,
            "{} differs from the source: run `UPDATE_DOCS=1 cargo test --lib schemas`",
            path.display()
        );
    }
    let files = fs::read_dir(&folder).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(files.into_iter().all(|name| schemas.contains_key(&name)));
}

#[test]
fn bounds_of_options_are_those_of_the_reader() {
    let mut found = BTreeMap::new();
    for (schema, command) in commands() {
        for argument in config::options_of_files(&command) {
            let name = argument.get_long().unwrap();
            let Value::Object(value) = value(&command, argument) else {
                continue;
            };
            for (_, keyword) in BOUNDS {
                let Some(bound) = value.get(keyword).map(Value::to_string) else {
                    continue;
                };
                let is_taken = |text: &str| refusal(&command, name, text).is_none();
                let place = format!("{schema}: {name}: {keyword} {bound}");
                assert!(!is_taken(&beyond(keyword, &bound).unwrap()), "{place}");
                assert_eq!(is_taken(&bound), !keyword.starts_with("ex"), "{place}");
                *found.entry(keyword).or_insert(0) += 1;
            }
        }
    }
    assert!(
        BOUNDS.iter().all(|(_, keyword)| found[keyword] > 2),
        "{found:?}"
    );
}
