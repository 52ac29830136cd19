//! stub
use clap::Args;

#[derive(Args)]
pub(crate) struct Dev {}

pub(crate) fn run(_dev: Dev) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
