//! `nightjar import`: a configuration of Mosquitto or EMQ X becomes one of Nightjar.
//!
//! Each line of the source becomes a [`plan::Row`]: mapped, approximated (with what differs), unsupported, or without
//! need here. [`source`] reads what the files hold, [`mosquitto`], [`emqx`] and [`emqx5`] know what it means, and
//! [`plan::Plan`] gathers the result, which has to pass the same checks as a file written by hand.

mod acl;
mod convert;
mod emqx;
mod emqx5;
mod emqx_auth;
mod emqx_keys;
mod hocon;
mod mosquitto;
mod plan;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::exit;
use super::output::{Format, Output};
use plan::{Outcome, Plan};

/// Exit code when a file would be overwritten.
const REFUSED: u8 = 4;

/// Read a configuration of Mosquitto or EMQ X and write one of Nightjar.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// mosquitto.conf; emqx.conf of 2.x to 4.x with plugins/*.conf, acl.conf and loaded_plugins around it; or emqx.conf of 5.x
    file: PathBuf,
    /// What wrote it [default: told by its keys]
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Directory to write nightjar.toml, acl.conf and users to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Directory the files will stand in later, if another, as /etc/nightjar
    #[arg(long, value_name = "DIR")]
    installed_in: Option<PathBuf>,
    /// EMQ X: the file that names the plugins in use [default: loaded_plugins beside emqx.conf or in ../data]
    #[arg(long, value_name = "FILE")]
    loaded_plugins: Option<PathBuf>,
    /// EMQ X: a file of EMQX_... variables that win over the files, as env_file of a compose file
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Write nothing, say what would become of each key; exit code 1 if something is unsupported
    #[arg(long)]
    check: bool,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Form of the table
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

/// Which broker a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// mosquitto.conf
    Mosquitto,
    /// emqx.conf of 2.x, 3.x and 4.x: key = value
    Emqx4,
    /// emqx.conf of 5.x: HOCON
    Emqx5,
}

/// What a reader of a source is told beside the file itself.
#[derive(Debug, Default)]
struct Beside {
    loaded_plugins: Option<PathBuf>,
    env_file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let text = match source::read(&args.file) {
        Ok(text) => text,
        Err(why) => return exit::fail(exit::USAGE, why),
    };
    let from = args.from.unwrap_or_else(|| guess(&args.file, &text));
    let place = args.installed_in.as_ref().unwrap_or(&args.out);
    let place = std::path::absolute(place).unwrap_or_else(|_| place.clone());
    let beside = Beside {
        loaded_plugins: args.loaded_plugins.clone(),
        env_file: args.env_file.clone(),
    };
    let mut plan = Plan::new(place);
    let read = match from {
        From::Mosquitto => mosquitto::read(&args.file, &text, &mut plan),
        From::Emqx4 => emqx::read(&args.file, &text, &beside, &mut plan),
        From::Emqx5 => emqx5::read(&args.file, &text, &mut plan),
    };
    if let Err(why) = read {
        return exit::fail(exit::USAGE, why);
    }
    let config = plan.settle(&args.file);
    show(&plan, args.output);
    let counts = plan.counts();
    if args.output == Format::Table {
        anstream::eprintln!(
            "{} mapped, {} approximated, {} unsupported, {} not needed",
            counts.mapped,
            counts.approximated,
            counts.unsupported,
            counts.not_needed
        );
    }
    if args.check {
        return if counts.unsupported > 0 {
            ExitCode::from(exit::FAILED)
        } else {
            ExitCode::SUCCESS
        };
    }
    match write(args, &plan, &config) {
        Ok(written) => {
            for path in written {
                anstream::eprintln!("wrote {}", path.display());
            }
            let file = args.out.join("nightjar.toml");
            anstream::eprintln!("next: nightjar check --config {}", file.display());
            ExitCode::SUCCESS
        }
        Err((code, why)) => exit::fail(code, why),
    }
}

/// Tells the sources apart by what only one of them has.
fn guess(path: &Path, text: &str) -> From {
    let lines = || {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    if lines().any(|line| line.ends_with('{') || line.starts_with("include ")) {
        return From::Emqx5;
    }
    let dotted = |line: &str| {
        line.split_once('=')
            .is_some_and(|(key, _)| key.contains('.') && !key.trim().contains(' '))
    };
    let named = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains("emq"));
    if lines().any(dotted) || (named && lines().any(|line| line.contains('='))) {
        From::Emqx4
    } else {
        From::Mosquitto
    }
}

fn show(plan: &Plan, format: Format) {
    let mut output = Output::new(format);
    output.columns(
        ["source", "key", "outcome", "becomes", "note"]
            .map(str::to_owned)
            .to_vec(),
    );
    for row in plan.rows() {
        let row = json!({
            "source": row.place(),
            "key": row.key,
            "outcome": row.outcome.word(),
            "becomes": row.target,
            "note": row.note,
        });
        if let Some(line) = output.row(row) {
            exit::print(&line);
        }
    }
    exit::print(&output.end(serde_json::Value::Null));
}

/// Writes all files, or none if one of them is there already.
fn write(args: &Args, plan: &Plan, config: &str) -> Result<Vec<PathBuf>, (u8, String)> {
    let mut files = vec![("nightjar.toml", config)];
    files.extend(plan.files());
    if !args.force
        && let Some((name, _)) = files.iter().find(|(name, _)| args.out.join(name).exists())
    {
        let path = args.out.join(name);
        let help = "name another directory with --out, or replace it with --force";
        return Err((
            REFUSED,
            format!("{} exists\n  help: {help}", path.display()),
        ));
    }
    let failed = |path: &Path, error: std::io::Error| {
        let help = "name a directory that can be written to with --out";
        (
            exit::FAILED,
            format!("{}: {error}\n  help: {help}", path.display()),
        )
    };
    std::fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, error))?;
    let mut written = Vec::new();
    for (name, content) in files {
        let path = args.out.join(name);
        // Passwords of databases may be in it.
        nightjar_gateway::tls::generate::write_private(&path, content.as_bytes())
            .map_err(|error| failed(&path, error))?;
        written.push(path);
    }
    Ok(written)
}

impl Outcome {
    /// Its word in the table.
    const fn word(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Approximated => "approximated",
            Self::Unsupported => "unsupported",
            Self::NotNeeded => "not needed",
        }
    }
}
