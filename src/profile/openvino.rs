//! OpenVINO: `benchmark_app -report_type detailed_counters`, a table, or JSON with `-json_stats`.
//! Layers that were fused into another follow it and were not run.

use serde::Deserialize;
use serde_json::Value;

use super::{Kernel, Profile};

/// How the table begins.
const HEAD: &str = "layerName;";

#[derive(Deserialize)]
struct Report {
    /// One entry for each request; they differ in nothing that is of interest here.
    #[serde(default)]
    detailed_performance: Vec<Stream>,
    /// The mean of all.
    avg_performance: Option<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    nodes: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    #[serde(default)]
    node_type: String,
    status: String,
    /// Milliseconds, as a number or in quotes.
    real_time: Value,
}

pub(super) fn is_table(text: &str) -> bool {
    text.trim_start().starts_with(HEAD)
}

/// Reads JSON.
pub(super) fn parse(value: Value) -> Result<Profile, String> {
    let report: Report = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let mut streams = report.detailed_performance.into_iter();
    let stream = report.avg_performance.or_else(|| streams.next());
    let stream = stream.ok_or("it has neither avg_performance nor detailed_performance")?;
    collect(stream.nodes.into_iter().map(|layer| {
        let time = match &layer.real_time {
            Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        };
        let time = time.ok_or_else(|| format!("'{}' has no real_time", layer.name))?;
        Ok((layer.name, layer.node_type, layer.status, time))
    }))
}

/// Reads a table.
pub(super) fn table(text: &str) -> Result<Profile, String> {
    let mut lines = text.trim_start().lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    let column = |name: &str| {
        let place = head.iter().position(|head| head.trim().starts_with(name));
        place.ok_or_else(|| format!("its table has no column {name}"))
    };
    let (status, kind, time) = (
        column("execStatus")?,
        column("layerType")?,
        column("realTime")?,
    );
    let rows = lines
        .map(|line| line.split(';').collect::<Vec<&str>>())
        // Sums follow, and other streams.
        .take_while(|row| row.len() >= head.len());
    collect(rows.map(|row| {
        let cell = |column: usize| row.get(column).copied().unwrap_or_default().trim();
        let name = cell(0);
        let found = cell(time).parse().ok();
        let found = found.ok_or_else(|| format!("'{name}' has no realTime"))?;
        Ok((
            name.to_owned(),
            cell(kind).to_owned(),
            cell(status).to_owned(),
            found,
        ))
    }))
}

type Row = (String, String, String, f64);

/// The layers that ran, with the names of those that were fused into them.
fn collect(rows: impl Iterator<Item = Result<Row, String>>) -> Result<Profile, String> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for row in rows {
        let (name, op_type, status, milliseconds) = row?;
        if status.ends_with("EXECUTED") {
            kernels.push(Kernel {
                name,
                op_type,
                milliseconds,
            });
        } else if let Some(last) = kernels.last_mut() {
            last.name.push(' ');
            last.name.push_str(&name);
        }
    }
    Ok(Profile::of(kernels))
}
