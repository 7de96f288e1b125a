//! The `vexil` program: chooses the TLS provider and runs the command line.

use anyhow::anyhow;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // One provider for the databases and the client; with two in the binary, neither would be the default.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    vexil::cli::run().await
}
