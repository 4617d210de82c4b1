//! Counts the instructions of what every message passes, under valgrind's cachegrind, and holds them against a file.
//!
//! `nightjar-instructions check FILE` fails for a piece of work that takes over a tenth more than the file says, and
//! names it with both figures. `nightjar-instructions measure` prints what the file would hold now. Counts do not
//! depend on the machine's load or clock, so no test here is timed; they depend on the compiler, so that a new Rust
//! may need a new file.

mod fan_out;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Each piece is done so often, and twice so often: the difference is free of what it takes to begin.
const COUNT: usize = 20_000;
/// Growth that is an error, percent.
const LIMIT: f64 = 10.0;
/// Measured at most so often: hash tables have random seeds, and an unlucky one costs some collisions.
const TRIES: usize = 5;
/// Below this many instructions of difference a change is no more than another choice of registers.
const LEAST: f64 = 4.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", name, count] => run(name, count),
        ["measure"] => measure(),
        ["check", file] => check(Path::new(file)),
        _ => {
            eprintln!("usage: nightjar-instructions check FILE | measure | run NAME COUNT");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, count: &str) -> ExitCode {
    let Some(work) = work::ALL.iter().find(|work| work.name == name) else {
        eprintln!("no work of the name {name}");
        return ExitCode::from(2);
    };
    let Ok(count) = count.parse() else {
        eprintln!("{count} is no count");
        return ExitCode::from(2);
    };
    (work.run)(count);
    ExitCode::SUCCESS
}

/// Instructions of the whole process that does this work so often.
fn instructions(name: &str, count: usize) -> Result<u64, String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = std::env::temp_dir().join(format!("nightjar-instructions.{}", std::process::id()));
    let status = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--quiet"])
        .arg(format!("--cachegrind-out-file={}", out.display()))
        .arg(me)
        .args(["run", name, &count.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    let _ = std::fs::remove_file(&out);
    if !status.success() {
        return Err(format!("valgrind ended with {status}"));
    }
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("summary: "))
        .and_then(|figure| figure.trim().parse().ok())
        .ok_or_else(|| "cachegrind wrote no summary".to_owned())
}

/// Instructions of one piece.
fn each(name: &str) -> Result<f64, String> {
    let once = instructions(name, COUNT)?;
    let twice = instructions(name, 2 * COUNT)?;
    let difference = twice
        .checked_sub(once)
        .ok_or("twice the work took fewer instructions")?;
    #[expect(clippy::cast_precision_loss, reason = "figures far below 2^52")]
    Ok(difference as f64 / COUNT as f64)
}

fn measure() -> ExitCode {
    for work in work::ALL {
        let least = (0..TRIES).try_fold(f64::INFINITY, |least, _| {
            each(work.name).map(|figure| least.min(figure))
        });
        match least {
            Ok(figure) => println!("{} {figure:.0}", work.name),
            Err(error) => {
                eprintln!("{}: {error}", work.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The file's lines, `NAME FIGURE`; `#` begins a comment.
fn limits(file: &Path) -> Result<BTreeMap<String, f64>, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| {
            line.split_once(' ')
                .and_then(|(name, figure)| Some((name.to_owned(), figure.trim().parse().ok()?)))
                .ok_or_else(|| {
                    format!(
                        "{}:{at}: expected NAME FIGURE, got {line:?}",
                        file.display()
                    )
                })
        })
        .collect()
}

fn check(file: &Path) -> ExitCode {
    let mut limits = match limits(file) {
        Ok(limits) => limits,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for work in work::ALL {
        let verdict = match limits.remove(work.name) {
            None => Err("the file has no line for it".to_owned()),
            Some(old) => (1..TRIES).fold(judge(old, work.name), |verdict, _| {
                verdict.or_else(|_| judge(old, work.name))
            }),
        };
        match verdict {
            Ok(text) => {
                passed += 1;
                println!("ok    {}: {text}", work.name);
            }
            Err(text) => {
                failed += 1;
                println!("FAIL  {}: {text}", work.name);
            }
        }
    }
    for name in limits.keys() {
        failed += 1;
        println!("FAIL  {name}: the file has a line for it, and there is no such work");
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn judge(old: f64, name: &str) -> Result<String, String> {
    each(name).and_then(|figure| verdict(old, figure))
}

fn verdict(old: f64, figure: f64) -> Result<String, String> {
    let text = format!("{figure:.0} instructions, {old:.0} in the file");
    if figure > old * (1.0 + LIMIT / 100.0) && figure - old > LEAST {
        return Err(format!("{text}: over {LIMIT} % more"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_fails() {
        assert!(verdict(100.0, 110.0).is_ok());
        assert!(verdict(100.0, 111.0).is_err());
        assert!(verdict(100.0, 50.0).is_ok());
        assert!(verdict(10.0, 13.0).is_ok(), "within a few instructions");
    }

    #[test]
    fn every_work_can_be_done() {
        for work in work::ALL {
            (work.run)(3);
        }
    }

    #[test]
    fn the_file_names_what_there_is() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("limits.txt");
        let names: Vec<String> = limits(&file).expect("a good file").into_keys().collect();
        let mut works: Vec<&str> = work::ALL.iter().map(|work| work.name).collect();
        works.sort_unstable();
        assert_eq!(names, works);
    }
}
