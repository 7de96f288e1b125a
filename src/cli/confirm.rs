//! Asking before something that reaches far, and refusing where nobody can be asked.

use anyhow::Context;
use anyhow::bail;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;

/// Asks on a terminal whether `what` shall be done; without one, `--yes` must have been given.
///
/// # Errors
///
/// The answer is not yes, or there is nobody to ask.
pub(super) fn confirm(what: &str, is_agreed: bool) -> anyhow::Result<()> {
    if is_agreed {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("to {what}, add --yes: standard input is no terminal, so nobody can be asked");
    }
    ask(what)
}

/// The same for what a script may do without `--yes`: only a person at a terminal is asked.
///
/// # Errors
///
/// The answer is not yes.
pub(super) fn confirm_on_terminal(what: &str, is_agreed: bool) -> anyhow::Result<()> {
    if is_agreed || !std::io::stdin().is_terminal() { Ok(()) } else { ask(what) }
}

fn ask(what: &str) -> anyhow::Result<()> {
    let mut out = std::io::stderr();
    // OK because a closed standard error cannot show the question, and then the answer will not be yes.
    let _ = write!(out, "{what}? [y/N] ");
    let _ = out.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("could not read the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}
