//! Options from a file: the names of the command line, which goes first.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};
use toml::{Table, Value};

/// Why there are no options.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong, or asks for help.
    Usage(clap::Error),
    /// The file is wrong.
    File(String),
}

/// Parses the command line together with the file that its --config names.
pub fn matches(command: Command, arguments: &[OsString]) -> Result<ArgMatches, Error> {
    let typed = relaxed(command.clone()).try_get_matches_from(arguments);
    let typed = typed.map_err(Error::Usage)?;
    let (level, named) = match typed.subcommand() {
        Some((name, inner)) => (inner, command.find_subcommand(name)),
        None => (&typed, Some(&command)),
    };
    let path = level.try_get_one::<PathBuf>("config").ok().flatten();
    let (Some(path), Some(named)) = (path, named) else {
        return command
            .try_get_matches_from(arguments)
            .map_err(Error::Usage);
    };
    let failed = |problem: String| Error::File(format!("--config {}: {problem}", path.display()));
    let text = crate::regular::text(path)
        .map_err(|error| failed(format!("{error}; name a file that can be read")))?;
    let more = options(&text, named, level).map_err(failed)?;
    // What follows a bare -- is no option.
    let end = arguments.iter().position(|word| word == "--");
    let (before, after) = arguments.split_at(end.unwrap_or(arguments.len()));
    let all = before
        .iter()
        .cloned()
        .chain(more)
        .chain(after.iter().cloned());
    let found = command.try_get_matches_from(all);
    // But for what a file may bring, the line was right without it.
    found.map_err(|error| failed(plain(&error)))
}

/// The command without what must be given, where a file may give it.
fn relaxed(command: Command) -> Command {
    let required = command.get_groups().filter(|group| group.is_required_set());
    let required: Vec<Id> = required.map(|group| group.get_id().clone()).collect();
    let command = required.into_iter().fold(command, |command, id| {
        command.mut_group(id, |group| group.required(false))
    });
    command.mut_subcommands(relaxed)
}

/// The options in a file's text as words of a command line, less those that were typed.
pub fn options(text: &str, command: &Command, typed: &ArgMatches) -> Result<Vec<OsString>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    let mut words = Vec::new();
    for (name, value) in &table {
        let argument = argument(command, name)?;
        let option = as_words(argument, name, value)?;
        if !is_overruled(command, argument, typed) {
            words.extend(option);
        }
    }
    Ok(words)
}

/// The options that a file may name.
pub fn options_of_files(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| {
        argument.get_long().is_some()
            && !["config", "help", "version"].contains(&argument.get_id().as_str())
    })
}

fn argument<'c>(command: &'c Command, name: &str) -> Result<&'c Arg, String> {
    let all = || options_of_files(command);
    if let Some(found) = all().find(|argument| argument.get_long() == Some(name)) {
        return Ok(found);
    }
    let names = all().filter_map(Arg::get_long);
    let best = names
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match best {
        Some((likeness, known)) if likeness > 0.8 => format!("; did you mean '{known}'?"),
        _ => "; the names are those of the command line without --".to_owned(),
    };
    Err(format!("there is no option '{name}'{hint}"))
}

/// Whether the command line has the option, or one that excludes it.
fn is_overruled(command: &Command, argument: &Arg, typed: &ArgMatches) -> bool {
    let is_typed =
        |other: &Arg| typed.value_source(other.get_id().as_str()) == Some(ValueSource::CommandLine);
    let excludes = command.get_arg_conflicts_with(argument).into_iter();
    let others = command.get_arguments();
    let excluded_by = others.filter(|other| {
        let conflicts = command.get_arg_conflicts_with(other);
        conflicts
            .iter()
            .any(|met| met.get_id() == argument.get_id())
    });
    let rivals = command.get_groups().filter(|group| {
        let has = group.get_args().any(|id| id == argument.get_id());
        // clap asks for a group it may change to say so.
        let mut group = (*group).clone();
        has && !group.is_multiple()
    });
    let rivals = rivals.flat_map(|group| group.get_args());
    let mut rivals = rivals.filter_map(|id| command.get_arguments().find(|a| a.get_id() == id));
    is_typed(argument) || excludes.chain(excluded_by).any(is_typed) || rivals.any(is_typed)
}

/// `name = value` as on a command line; lists give the option several times.
fn as_words(argument: &Arg, name: &str, value: &Value) -> Result<Vec<OsString>, String> {
    let takes_value = argument.get_action().takes_values();
    let wrong = |expected: &str| {
        Err(format!(
            "{name}: expected {expected}, found a {}",
            value.type_str()
        ))
    };
    let word = |value: &Value| -> Result<String, String> {
        Ok(match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            _ => return wrong("a text or a number").map(|()| String::new()),
        })
    };
    let option = |text: String| OsString::from(format!("--{name}={text}"));
    match value {
        Value::Boolean(true) if !takes_value => Ok(vec![format!("--{name}").into()]),
        Value::Boolean(false) if !takes_value => Ok(Vec::new()),
        _ if !takes_value => wrong("true or false").map(|()| Vec::new()),
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(word).collect::<Result<_, _>>()?;
            if argument.get_value_delimiter().is_some() {
                return Ok(vec![option(words.join(","))]);
            }
            if !matches!(argument.get_action(), ArgAction::Append) {
                return wrong("one value").map(|()| Vec::new());
            }
            Ok(words.into_iter().map(option).collect())
        }
        value => Ok(vec![option(word(value)?)]),
    }
}

/// clap's message without its first word and its advice on usage.
pub fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    first
        .strip_prefix("error: ")
        .unwrap_or(first)
        .trim()
        .to_owned()
}
