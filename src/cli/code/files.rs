//! A project in files: one file, or a folder with `project.yaml`, `flags/<key>.yaml` and `segments/<environment>/<key>.yaml`.

use super::FileFormat;
use anyhow::Context;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// Bytes of all files together, which is what the server takes.
const BYTES_MAX: u64 = crate::http::IMPORT_BODY_BYTES_MAX as u64;
/// Endings of files that are read.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The text of a file.
pub(super) fn text(value: &Value, format: FileFormat) -> anyhow::Result<String> {
    Ok(match format {
        FileFormat::Yaml => yaml_serde::to_string(value)?,
        FileFormat::Json => format!("{}\n", serde_json::to_string_pretty(value)?),
    })
}

/// Writes a project into a file or a folder; files of flags and segments in the folder that it does not have any more are removed.
pub(super) fn write(path: &Path, state: &Value, format: FileFormat) -> anyhow::Result<()> {
    let is_folder = path.is_dir() || path.to_string_lossy().ends_with('/');
    if !is_folder {
        return put(path, &text(state, format)?);
    }
    let ending = if format == FileFormat::Yaml { "yaml" } else { "json" };
    let mut rest = state.as_object().cloned().unwrap_or_default();
    let flags = rest.shift_remove("flags").unwrap_or_default();
    let segments = rest.shift_remove("segments").unwrap_or_default();
    put(&path.join(format!("project.{ending}")), &text(&Value::Object(rest), format)?)?;
    write_folder(&path.join("flags"), &flags, (format, ending))?;
    let folder = path.join("segments");
    for stale in folders(&folder)?.into_iter().filter(|env| segments.get(env).is_none()) {
        write_folder(&folder.join(stale), &Value::Null, (format, ending))?;
    }
    for (env, segments) in segments.as_object().into_iter().flatten() {
        write_folder(&folder.join(env), segments, (format, ending))?;
    }
    Ok(())
}

fn write_folder(
    folder: &Path,
    things: &Value,
    (format, ending): (FileFormat, &str),
) -> anyhow::Result<()> {
    for (name, path) in files(folder)? {
        let is_own = path.extension().and_then(OsStr::to_str) == Some(ending);
        if things.get(&name).is_none() || !is_own {
            fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    for (key, thing) in things.as_object().into_iter().flatten() {
        put(&folder.join(format!("{key}.{ending}")), &text(thing, format)?)?;
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

/// Reads a project from a file, a folder or standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let mut n_bytes = 0;
    if !path.is_dir() {
        return read_file(path, &mut n_bytes);
    }
    let top = files(path)?.into_iter().find(|(name, _)| name == "project");
    let Some((_, top)) = top else {
        bail!("there is no project.yaml in {}", path.display());
    };
    let mut state = read_file(&top, &mut n_bytes)?;
    let Some(fields) = state.as_object_mut() else {
        bail!("{} must hold an object", top.display());
    };
    let flags = read_folder(&path.join("flags"), &mut n_bytes)?;
    fields.insert("flags".to_owned(), Value::Object(flags));
    let folder = path.join("segments");
    let mut segments = Map::new();
    for env in folders(&folder)? {
        let things = read_folder(&folder.join(&env), &mut n_bytes)?;
        segments.insert(env, Value::Object(things));
    }
    fields.insert("segments".to_owned(), Value::Object(segments));
    Ok(state)
}

fn read_folder(folder: &Path, n_bytes: &mut u64) -> anyhow::Result<Map<String, Value>> {
    let mut things = Map::new();
    for (name, path) in files(folder)? {
        let thing = read_file(&path, n_bytes)?;
        if things.insert(name.clone(), thing).is_some() {
            bail!("there are two files for `{name}` in {}", folder.display());
        }
    }
    Ok(things)
}

/// YAML has JSON within it, so one reader is enough.
fn read_file(path: &Path, n_bytes: &mut u64) -> anyhow::Result<Value> {
    let could_not = || format!("could not read {}", path.display());
    let mut text = String::new();
    let input: &mut dyn Read = if path.as_os_str() == "-" {
        &mut std::io::stdin().lock()
    } else {
        &mut fs::File::open(path).with_context(could_not)?
    };
    input.take(BYTES_MAX + 1).read_to_string(&mut text).with_context(could_not)?;
    *n_bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
    if *n_bytes > BYTES_MAX {
        bail!("the files have more than {BYTES_MAX} bytes");
    }
    yaml_serde::from_str(&text).with_context(could_not)
}

/// The files of a folder that count, by name without ending, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_file() && ENDINGS.contains(&ending) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    Ok(found)
}

fn folders(folder: &Path) -> anyhow::Result<Vec<String>> {
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir());
    Ok(folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let could_not = || format!("could not read {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(could_not)? {
        found.push(entry.with_context(could_not)?.path());
    }
    found.sort();
    Ok(found)
}

/// The subject of the last commit of the checkout that a file is in, if it is in one.
pub(super) fn last_subject(path: &Path) -> Option<String> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["log", "-1", "--format=%s"])
        .output()
        .ok()?;
    let subject = String::from_utf8(output.stdout).ok()?;
    let subject = subject.trim();
    (output.status.success() && !subject.is_empty()).then(|| subject.to_owned())
}
