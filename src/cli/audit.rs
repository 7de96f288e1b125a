//! `vexil audit`: taking the audit log away, and verifying it without a server. Listing it is in `list`.

mod list;

use crate::auth::is_signed;
use crate::cli::Common;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::output::print_value;
use crate::model::audit::SignedHead;
use crate::model::audit::Verdict;
use crate::model::audit::Verifier;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use serde_json::json;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Bytes of one entry; an import is the largest.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Lists who did what, newest first
    #[command(after_help = "Examples:
  vexil audit list --limit 10
  vexil audit list --flag checkout-v2 --action flag. --since 2026-11-01T00:00:00Z
  vexil audit list --scope installation")]
    List(list::ListArgs),
    /// Writes the whole audit log as JSON lines
    #[command(after_help = "Example:
  vexil audit export audit.jsonl")]
    Export {
        /// Where to; standard output, if it is left out
        file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Prints the signed end of the audit log; keep it where the server's operators cannot change it
    #[command(after_help = "Example:
  vexil audit head > head.json")]
    Head {
        #[command(flatten)]
        common: Common,
    },
    /// Verifies an export without a server
    #[command(after_help = "Examples:
  vexil audit verify audit.jsonl
  vexil audit verify audit.jsonl --head head.json")]
    Verify(VerifyArgs),
}

/// What is verified, against what.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The export, or - for standard input
    file: PathBuf,
    /// A signed end, as `vexil audit head` printed it then or later: shows whether the export was cut off or written anew
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// The key that must have signed the end, as hexadecimal digits
    #[arg(long, requires = "head", value_name = "KEY")]
    public_key: Option<String>,
    /// How to print [default: sentences on a terminal, json otherwise]
    #[arg(long, value_enum)]
    output: Option<crate::cli::output::OutputFormat>,
}

/// Does something with the audit log.
pub(super) async fn run(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::List(args) => list::list(args).await,
        AuditCommand::Export { file, common } => export(file.as_deref(), &common).await,
        AuditCommand::Head { common } => {
            let head = common.connection.client()?.get("/api/v1/audit/head").await?;
            let columns = [
                ("SEQ", "/seq"),
                ("HASH", "/hash"),
                ("AT", "/at"),
                ("PUBLIC KEY", "/publicKey"),
                ("SIGNATURE", "/signature"),
            ];
            print_rows(common.output, &head, &columns)
        }
        AuditCommand::Verify(args) => verify(&args),
    }
}

async fn export(file: Option<&Path>, common: &Common) -> anyhow::Result<()> {
    let client = common.connection.client()?;
    let Some(path) = file else {
        return client.download("/api/v1/audit/export", &mut std::io::stdout()).await;
    };
    let cannot = || format!("could not write to {}", path.display());
    let mut out = File::create(path).with_context(cannot)?;
    client.download("/api/v1/audit/export", &mut out).await?;
    out.flush().and_then(|()| out.sync_all()).with_context(cannot)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let head = args.head.as_deref().map(read_head).transpose()?;
    if let Some(head) = &head {
        if let Some(key) = &args.public_key
            && !key.eq_ignore_ascii_case(&head.public_key)
        {
            bail!("the end was signed with another key, {}", head.public_key);
        }
        if !is_signed(head) {
            bail!("the signature of the end is not valid");
        }
    }
    let file: Box<dyn Read> = match args.file.as_path() {
        path if path == Path::new("-") => Box::new(std::io::stdin()),
        path => Box::new(
            File::open(path).with_context(|| format!("could not read {}", path.display()))?,
        ),
    };
    let mut verifier = Verifier::new(head.as_ref().map(|head| head.seq));
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = reader.by_ref().take(LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut line).context("could not read the export")? == 0 {
            break;
        }
        verifier.read(String::from_utf8_lossy(&line).trim_end());
    }
    tell(args, &verifier.finish(head.as_ref()), head.is_some())
}

fn read_head(path: &Path) -> anyhow::Result<SignedHead> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a signed end of an audit log", path.display()))
}

fn tell(args: &VerifyArgs, verdict: &Verdict, has_head: bool) -> anyhow::Result<()> {
    let Verdict { entries, seq, hash, findings, more_findings } = verdict;
    let n_findings =
        u64::try_from(findings.len()).unwrap_or(u64::MAX).saturating_add(*more_findings);
    if is_table(args.output) {
        for finding in findings {
            print(&format!("{finding}\n"))?;
        }
        let end = match has_head {
            true => "It reaches the signed end.",
            false => "Without --head it cannot be seen whether entries are missing at the end.",
        };
        if n_findings == 0 {
            print(&format!(
                "{entries} entries, up to {seq} with the hash {hash}, are whole. {end}\n"
            ))?;
        }
    } else {
        let answer = json!({
            "ok": n_findings == 0, "entries": entries, "seq": seq, "hash": hash,
            "headChecked": has_head, "findings": findings, "moreFindings": more_findings,
        });
        print_value(args.output, &answer)?;
    }
    if n_findings > 0 {
        bail!("the audit log is not as it was written: {n_findings} findings");
    }
    Ok(())
}
