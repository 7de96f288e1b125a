//! Printing: a table for people, JSON or YAML for programs.

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;
use std::io::IsTerminal;
use std::io::Write;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people.
    Table,
    /// For programs: the server's answer as it is.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Writes text to standard output as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("could not print")
}

/// Whether a table is to be printed: as asked for, or if the output is a terminal.
pub(super) fn is_table(format: Option<OutputFormat>) -> bool {
    format.map_or_else(|| std::io::stdout().is_terminal(), |format| format == OutputFormat::Table)
}

/// Writes an answer to standard output as it is, as JSON unless YAML is asked for.
pub(super) fn print_value(format: Option<OutputFormat>, value: &Value) -> anyhow::Result<()> {
    match format {
        Some(OutputFormat::Yaml) => print(&yaml_serde::to_string(value)?),
        _ => print(&format!("{value}\n")),
    }
}

/// Prints a list of objects, or one: a row each, with the given columns.
///
/// A column is a heading and the JSON pointer of what stands under it.
pub(super) fn print_rows(
    format: Option<OutputFormat>,
    answer: &Value,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    if !is_table(format) {
        return print_value(format, answer);
    }
    let rows = match answer.get("items").unwrap_or(answer) {
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    };
    let mut table = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    for row in &rows {
        let cell = |(_, pointer): &(&str, &str)| cell_of(row.pointer(pointer));
        table.push(columns.iter().map(cell).collect::<Vec<String>>());
    }
    print(&align(&table))
}

fn cell_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            texts.join(",")
        }
        Some(other) => other.to_string(),
    }
}

fn align(table: &[Vec<String>]) -> String {
    let n_columns = table.first().map_or(0, Vec::len);
    let width = |i: usize| {
        let cells = table.iter().filter_map(|row| row.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
