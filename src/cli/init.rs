//! `nightjar init`: files to begin with.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::exit;
use crate::config;

/// The rules' grammar with examples, all of them commented out.
const ACL: &str = include_str!("../../etc/acl.conf");

/// Write a configuration file with every key and its default, and a file of rules.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for nightjar.toml and acl.conf; `serve` looks into etc/ and /etc/nightjar
    #[arg(default_value = "etc")]
    folder: PathBuf,
}

/// Runs the command. Files that are there stay as they are.
pub fn run(args: &Args) -> ExitCode {
    let files = [
        ("nightjar.toml", config::reference()),
        ("acl.conf", ACL.to_owned()),
    ];
    let mut said = String::new();
    for (name, text) in &files {
        let path = args.folder.join(name);
        match fs::create_dir_all(&args.folder).and_then(|()| create(&path, text)) {
            Ok(true) => said.push_str(&format!("wrote {}\n", path.display())),
            Ok(false) => said.push_str(&format!("{} is there: left as it is\n", path.display())),
            Err(error) => return exit::fail(exit::FAILED, format!("{}: {error}", path.display())),
        }
    }
    let config = args.folder.join("nightjar.toml");
    let config = config.display();
    said.push_str(&format!(
        "next: `nightjar check --config {config}`, then `nightjar serve --config {config}`\n"
    ));
    exit::print(&said)
}

/// Writes a file that is not there yet; false if it is.
fn create(path: &Path, text: &str) -> std::io::Result<bool> {
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
