//! The load generator.
pub mod histogram;
pub mod limits;
/// Flags of `bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {}
/// Runs.
pub fn run_bench(_args: &BenchArgs) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
