//! How the list of commands is laid out, and completions for shells.

use crate::cli::output::print;
use anyhow::Context;
use clap::Args;
use clap::Command;
use clap_complete::Shell;
use std::fmt::Write;

/// The commands as `vexil help` lists them.
pub(super) const GROUPS: &[(&str, &[&str])] = &[
    ("The server", &["serve", "demo", "migrate", "check", "openapi"]),
    ("Emergencies", &["kill", "restore", "accept-history"]),
    ("Flags and segments", &["flag", "segment", "changes", "schedule", "trigger", "history"]),
    ("Evaluation", &["eval", "parity"]),
    ("Flags as code", &["export", "plan", "apply", "drift", "import"]),
    ("Administration", &["project", "environment", "token", "audit"]),
    ("This program", &["completions", "help"]),
];

/// How the help of the program itself is laid out.
const TEMPLATE: &str = "{about-with-newline}
{usage-heading} {usage}

Options:
{options}{after-help}";

/// Where a command of a group and what it does stand apart.
const COLUMN: usize = 17;

const HELP: &str = "Prints this, or the help of a command, as in `vexil help flag set`";

const END: &str = "\nThe commands from `kill` to `audit` talk to a server that runs: VEXIL_URL says which, VEXIL_TOKEN or \
VEXIL_TOKEN_FILE as whom, VEXIL_PROJECT and VEXIL_ENVIRONMENT where, if the token reaches several. They print a table on \
a terminal and JSON otherwise. Status: 0 done, 1 an error, 2 wrong arguments; of `plan` and `drift`, 2 something to change and 1 wrong arguments, too.";

/// The shell for which completions are made.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Groups the commands in the help of the program.
pub(super) fn grouped(command: Command) -> Command {
    let mut text = String::new();
    for (i, (heading, names)) in GROUPS.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{heading}:");
        for name in *names {
            let found = command.find_subcommand(name).and_then(Command::get_about);
            let about = found.map_or_else(|| HELP.to_owned(), ToString::to_string);
            let _ = writeln!(text, "  {name:COLUMN$}{about}");
        }
    }
    text.push_str(END);
    command.help_template(TEMPLATE).after_help(text)
}

/// Prints completions for a shell.
pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "vexil", &mut script);
    print(&String::from_utf8(script).context("the completions are no text")?)
}
