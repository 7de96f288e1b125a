//! `vexil import`: bringing over what another server has.

use crate::cli::Common;
use crate::cli::confirm::confirm_on_terminal;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::output::print_value;
use crate::cli::target::Target;
use crate::http::IMPORT_BODY_BYTES_MAX;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// Where the flags come from.
#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Imports the flags and segments that LaunchDarkly serves to server-side SDKs
    #[command(after_help = "Examples:
  vexil import launchdarkly flags.json --dry-run
  vexil import launchdarkly flags.json --replace --yes")]
    Launchdarkly(ImportArgs),
}

/// What is imported, and how.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file, {"flags":{…},"segments":{…}}, or - for standard input
    file: PathBuf,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
    /// Overwrites what is there and differs
    #[arg(long)]
    replace: bool,
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Does not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Imports a file; it is a failure if something in it was not brought over.
pub(super) async fn run(command: ImportCommand) -> anyhow::Result<()> {
    let ImportCommand::Launchdarkly(args) = command;
    let file = read(&args.file)?;
    let client = args.common.connection.client()?;
    let place = args.target.find(&client).await?;
    if !args.dry_run {
        let what =
            format!("import {} into {}/{}", args.file.display(), place.project, place.environment);
        let how = if args.replace { ", overwriting what differs" } else { "" };
        confirm_on_terminal(&format!("{what}{how}"), args.yes)?;
    }
    let path = format!(
        "{}/import/launchdarkly?dryRun={}&replace={}",
        place.path(),
        args.dry_run,
        args.replace
    );
    let answer = client.post_file(&path, file, args.comment.as_deref()).await?;
    if is_table(args.common.output) {
        print_table(&args, &answer)?;
    } else {
        print_value(args.common.output, &answer)?;
    }
    let n_flags = n_keys(&answer, "flags", "refused");
    let n_segments = n_keys(&answer, "segments", "refused");
    if n_flags + n_segments > 0 {
        bail!(
            "{n_flags} flag(s) and {n_segments} segment(s) were not brought over; the notes say why"
        );
    }
    Ok(())
}

/// Reads the file as it is, so that the server's complaints fit it.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bytes_max = u64::try_from(IMPORT_BODY_BYTES_MAX)?;
    let could_not = || format!("could not read {}", path.display());
    let input: &mut dyn Read = if path.as_os_str() == "-" {
        &mut std::io::stdin().lock()
    } else {
        &mut File::open(path).with_context(could_not)?
    };
    input.take(bytes_max + 1).read_to_end(&mut bytes).with_context(could_not)?;
    if bytes.len() > IMPORT_BODY_BYTES_MAX {
        bail!("{} has more than {IMPORT_BODY_BYTES_MAX} bytes", path.display());
    }
    Ok(bytes)
}

fn n_keys(answer: &Value, what: &str, fate: &str) -> usize {
    let keys = answer.pointer(&format!("/{what}/{fate}")).and_then(Value::as_array);
    keys.map_or(0, Vec::len)
}

/// How many there are of each kind, and then the notes.
fn print_table(args: &ImportArgs, answer: &Value) -> anyhow::Result<()> {
    let row = |what: &str| {
        let n = |fate| n_keys(answer, what, fate);
        json!({
            "what": what,
            "created": n("created"),
            "configured": n("configured"),
            "replaced": n("replaced"),
            "unchanged": n("unchanged"),
            "refused": n("refused"),
        })
    };
    let rows = json!({"items": [row("flags"), row("segments")]});
    let title = if args.dry_run { "WOULD BE" } else { "WERE" };
    let columns = [
        (title, "/what"),
        ("CREATED", "/created"),
        ("CONFIGURED", "/configured"),
        ("REPLACED", "/replaced"),
        ("UNCHANGED", "/unchanged"),
        ("REFUSED", "/refused"),
    ];
    print_rows(args.common.output, &rows, &columns)?;
    let notes = answer.get("notes").and_then(Value::as_array).into_iter().flatten();
    let text = |note: &Value, name: &str| {
        note.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for note in notes {
        print(&format!("{}: {}\n", text(note, "path"), text(note, "detail")))?;
    }
    match answer.get("moreNotes").and_then(Value::as_u64) {
        None | Some(0) => Ok(()),
        Some(n_more) => print(&format!("and {n_more} more note(s)\n")),
    }
}
