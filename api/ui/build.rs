//! Builds the dashboard in `web/` and writes its files, gzipped and with ETags, as a table that `src/lib.rs` includes.
//!
//! `NIGHTJAR_UI` says what happens when it cannot be built (no npm, no network, old Node):
//!
//! - unset: cargo warns and the plain page of `src/plain.html` is embedded;
//! - `skip`: the plain page is embedded without trying (linters, documentation, tests that open no page);
//! - `require`: the build fails (packages and images);
//! - a folder with an `index.html`: what `npm run build` made elsewhere (a build stage with Node) is embedded.
//!
//! Cargo's sources are not written to: `web/` is copied to OUT_DIR, and what was installed and built there is kept
//! while lock file and sources stay the same.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// What in `web/` makes the dashboard; `node_modules` or an editor's files there are none of it.
const SOURCES: [&str; 7] = [
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "tsconfig.json",
    "src",
    "public",
];

fn main() {
    println!("cargo::rerun-if-env-changed=NIGHTJAR_UI");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/plain.html");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in SOURCES {
        println!("cargo::rerun-if-changed=web/{name}");
    }
    let wish = env::var("NIGHTJAR_UI").unwrap_or_default();
    let built = match wish.as_str() {
        "skip" => None,
        "" | "require" => match build(&root.join("web"), &out) {
            Ok(dist) => Some(dist),
            Err(why) => {
                assert!(wish != "require", "the dashboard cannot be built: {why}");
                println!(
                    "cargo::warning=the dashboard is not built and a plain page stands in for it: {why}"
                );
                println!(
                    "cargo::warning=install Node 20.19 or newer with npm, then: touch api/ui/build.rs"
                );
                None
            }
        },
        folder if Path::new(folder).join("index.html").is_file() => {
            println!("cargo::rerun-if-changed={folder}");
            Some(PathBuf::from(folder))
        }
        other => panic!(
            "NIGHTJAR_UI={other}: expected \"skip\", \"require\", nothing, or the absolute path of a folder with the built dashboard's index.html"
        ),
    };
    let files = match &built {
        Some(dist) => {
            let mut files = Vec::new();
            collect(dist, "", &mut files).expect("the built dashboard can be read");
            files
        }
        None => vec![("index.html".to_owned(), root.join("src/plain.html"))],
    };
    embed(&files, &out, built.is_some()).expect("OUT_DIR can be written");
}

/// Runs npm in a copy of the sources and returns the folder of the result.
fn build(web: &Path, out: &Path) -> Result<PathBuf, String> {
    let work = out.join("web");
    let dist = work.join("dist");
    let stamps = out.join("stamps");
    let mut sources = Vec::new();
    for name in SOURCES {
        let path = web.join(name);
        if path.is_dir() {
            collect(&path, &format!("{name}/"), &mut sources)
                .map_err(|e| format!("{}: {e}", path.display()))?;
        } else if path.is_file() {
            sources.push((name.to_owned(), path));
        }
    }
    let all = digest(&sources).map_err(|e| e.to_string())?;
    if kept(&stamps.join("dist"), &all) && dist.join("index.html").is_file() {
        return Ok(dist);
    }
    node_is_new_enough()?;
    let io = |e: io::Error| format!("{}: {e}", work.display());
    fs::create_dir_all(&stamps).map_err(io)?;
    for part in ["src", "public", "dist"] {
        match fs::remove_dir_all(work.join(part)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    for (name, from) in &sources {
        let to = work.join(name);
        fs::create_dir_all(to.parent().expect("it is inside the folder")).map_err(io)?;
        fs::copy(from, &to).map_err(io)?;
    }
    let lock: Vec<_> = sources
        .iter()
        .filter(|(name, _)| name.starts_with("package"))
        .cloned()
        .collect();
    let lock = digest(&lock).map_err(|e| e.to_string())?;
    if !kept(&stamps.join("installed"), &lock) || !work.join("node_modules").is_dir() {
        npm(
            &work,
            &[
                "ci",
                "--omit=dev",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefer-offline",
                "--fetch-retries=1",
                "--fetch-timeout=60000",
            ],
        )?;
        fs::write(stamps.join("installed"), lock).map_err(io)?;
    }
    npm(&work, &["run", "build"])?;
    if !dist.join("index.html").is_file() {
        return Err("npm run build made no dist/index.html".to_owned());
    }
    fs::write(stamps.join("dist"), all).map_err(io)?;
    Ok(dist)
}

fn node_is_new_enough() -> Result<(), String> {
    let out = Command::new("node")
        .arg("--version")
        .output()
        .map_err(|e| format!("node does not start: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout)
        .trim()
        .trim_start_matches('v')
        .to_owned();
    let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Vite's own lower limit.
    let good = (version.0 == 20 && version.1 >= 19) || version >= (22, 12);
    if good {
        Ok(())
    } else {
        Err(format!(
            "node is {text}; 20.19, or 22.12 or newer is needed"
        ))
    }
}

/// Runs npm without a terminal; its last lines are the error.
fn npm(folder: &Path, args: &[&str]) -> Result<(), String> {
    let out = Command::new("npm")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("CI", "true")
        .env("NODE_ENV", "production")
        .env("NO_COLOR", "1")
        .output()
        .map_err(|e| format!("npm does not start: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    Err(format!(
        "npm {} failed: {}",
        args[0],
        lines[lines.len().saturating_sub(6)..].join(" | ")
    ))
}

/// Files under a folder with their names from there, in the order of the names.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, entry.path()));
        }
    }
    Ok(())
}

fn digest(files: &[(String, PathBuf)]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for (name, path) in files {
        let body = fs::read(path)?;
        hasher.write(name.as_bytes());
        hasher.write_usize(body.len());
        hasher.write(&body);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn kept(stamp: &Path, digest: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == digest)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        other => panic!("no content type for .{other} ({name})"),
    }
}

/// Writes each file gzipped beside a table of them, sorted by path.
fn embed(files: &[(String, PathBuf)], out: &Path, built: bool) -> io::Result<()> {
    let packed = out.join("packed");
    match fs::remove_dir_all(&packed) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => fs::create_dir_all(&packed)?,
    }
    let mut rows = Vec::new();
    for (number, (name, path)) in files.iter().enumerate() {
        let body = fs::read(path)?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&body)?;
        let file = packed.join(format!("{number}.gz"));
        fs::write(&file, gzip.finish()?)?;
        // Vite puts a digest of the content into the names under assets/.
        let immutable = built && name.starts_with("assets/");
        let etag = digest(std::slice::from_ref(&(name.clone(), path.clone())))?;
        rows.push((name, content_type(name), etag, immutable, file));
    }
    rows.sort();
    let mut code = format!("const BUILT: bool = {built};\nstatic ASSETS: &[(&str, Asset)] = &[\n");
    for (name, kind, etag, immutable, file) in rows {
        writeln!(
            code,
            "    ({name:?}, Asset {{ content_type: {kind:?}, etag: \"\\\"{etag}\\\"\", immutable: {immutable}, gzip: \
             include_bytes!({:?}) }}),",
            file.display().to_string()
        )
        .expect("a String takes it");
    }
    code.push_str("];\n");
    fs::write(out.join("assets.rs"), code)
}
