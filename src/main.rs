//! The `vexil` program: chooses the TLS provider and runs the command line.

use anyhow::anyhow;
use mimalloc::MiMalloc;
use std::io::Write;
use std::process::ExitCode;
use vexil::cli::Incomplete;

/// What a request allocates is often freed by another thread, which costs the system's allocator a lock.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(status) => status,
        Err(error) => {
            // The causes in one line, and never a backtrace: this is read by people at a terminal.
            let _ = writeln!(std::io::stderr(), "vexil: {error:#}");
            match error.downcast_ref::<Incomplete>() {
                Some(_) => ExitCode::from(Incomplete::STATUS),
                None => ExitCode::FAILURE,
            }
        }
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    // One provider for the databases and the client; with two in the binary, neither would be the default.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    vexil::cli::run().await
}
