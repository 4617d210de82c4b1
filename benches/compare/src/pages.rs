//! Tables and the picture of a results file in pages, between marks that name the file.
//!
//! `<!-- compare: KIND FILE -->` begins a part, `<!-- end of compare -->` ends it. KIND is `summary` (the rows that say most,
//! CPU of each broker), `full` (every row), `idle` (memory) or `machine` (the head).

use crate::picture::{self, Bars};
use crate::table::{Results, Row, Table};
use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- compare: ";
const END: &str = "<!-- end of compare -->";

/// Rows of the summary and of the picture.
const SUMMARY: &[(&str, &str)] = &[
    ("pairs-50-qos0-256B", "50 pairs, QoS 0"),
    ("pairs-50-qos1-256B", "50 pairs, QoS 1"),
    ("pairs-50-qos2-256B", "50 pairs, QoS 2"),
    ("fan-in-1000", "1,000 publishers to 5"),
    ("fan-out-500", "one to 500"),
    ("wildcards", "50 pairs beside 100,000 wildcard filters"),
    ("shared", "a shared group of 100"),
    ("sparse", "10,000 clients, a message a second each"),
    ("retained", "100,000 retained messages to one"),
    ("durable", "kept sessions, QoS 1 (see the note)"),
    ("connect-tcp", "a connect over TCP"),
    ("connect-tls", "a connect over TLS 1.3"),
    ("connect-ws", "a connect over WebSocket"),
];

/// Brokers of the tables, with their names.
const BROKERS: &[(&str, &str)] = &[
    ("nightjar", "Nightjar"),
    ("mosquitto", "Mosquitto"),
    ("nats", "NATS"),
    ("rabbitmq", "RabbitMQ"),
    ("rumqttd", "rumqttd"),
    ("rmqtt", "RMQTT"),
];

/// Writes the tables of a results file into pages; their marks name that file from now on.
pub fn insert(results: &str, pages: &[&str]) -> io::Result<()> {
    for page in pages {
        let text = read(page)?;
        let filled = filled(&text, Some(results)).map_err(|error| about(page, error))?;
        if filled != text {
            std::fs::write(page, filled)?;
        }
    }
    Ok(())
}

/// Fails where a page says something else than the file that it names, or where there is a newer file.
pub fn check(pages: &[&str]) -> io::Result<()> {
    for page in pages {
        let text = read(page)?;
        if filled(&text, None).map_err(|error| about(page, error))? != text {
            return Err(io::Error::other(format!(
                "{page} differs from what its results file gives: nightjar-compare insert FILE {page}"
            )));
        }
        for (_, file) in text.lines().filter_map(mark) {
            if let Some(newer) = newer(Path::new(file))? {
                return Err(io::Error::other(format!(
                    "{page} shows {file}, but there is {newer}: nightjar-compare insert {newer} {page}"
                )));
            }
        }
        println!("{page}: as its results file says");
    }
    Ok(())
}

/// Draws the summary of a results file.
pub fn draw(results: &str, file: &str) -> io::Result<()> {
    std::fs::write(file, picture::draw(&bars(&Results::read(&read(results)?))))
}

fn read(file: &str) -> io::Result<String> {
    std::fs::read_to_string(file).map_err(|error| about(file, error))
}

fn about(file: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{file}: {error}"))
}

/// Kind and file of a line that begins a part.
fn mark(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix(BEGIN)?
        .strip_suffix(" -->")?
        .split_once(' ')
}

/// A results file of a whole run that has a later date in its name.
fn newer(file: &Path) -> io::Result<Option<String>> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(None);
    };
    let whole = |name: &str| {
        name.len() == "compare-2026-11-20.txt".len()
            && name.starts_with("compare-2")
            && name.ends_with(".txt")
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string());
    }
    let newest = names.into_iter().filter(|name| whole(name)).max();
    Ok(newest
        .filter(|newest| whole(name) && newest.as_str() > name)
        .map(|newest| folder.join(newest).display().to_string()))
}

/// The page with its parts rendered, from `results` or from the files that its marks name.
fn filled(text: &str, results: Option<&str>) -> io::Result<String> {
    let mut page = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((kind, file)) = mark(line) else {
            page.push_str(line);
            page.push('\n');
            continue;
        };
        let file = results.unwrap_or(file);
        page.push_str(&format!("{BEGIN}{kind} {file} -->\n"));
        page.push_str(&part(kind, &Results::read(&read(file)?))?);
        if !lines.any(|line| line == END) {
            return Err(io::Error::other(format!("no {END} behind {line}")));
        }
        page.push_str(END);
        page.push('\n');
    }
    Ok(page)
}

fn part(kind: &str, results: &Results) -> io::Result<String> {
    match kind {
        "summary" => Ok(summary(results)),
        "full" => Ok(full(results)),
        "idle" => Ok(idle(results)),
        "machine" => Ok(machine(results)),
        kind => Err(io::Error::other(format!("{kind:?} is no kind of table"))),
    }
}

/// Brokers that have a figure in the file.
fn present(results: &Results) -> Vec<(&'static str, &'static str)> {
    let has = |broker: &str| {
        (results.tables.iter())
            .any(|table| table.row(broker).is_some_and(|row| !row.values.is_empty()))
    };
    BROKERS
        .iter()
        .copied()
        .filter(|(broker, _)| *broker == "nightjar" || has(broker))
        .collect()
}

/// CPU of a delivered message of each broker, as it is written.
fn costs(table: &Table, brokers: &[(&str, &str)]) -> String {
    let mut cells = String::new();
    for (broker, _) in brokers {
        let kept = format!("{broker}-p");
        let row = table.row(broker).or_else(|| table.row(&kept));
        let cell = row.and_then(|row| {
            let cost = figure(row.number(table, "us CPU")?);
            let star = if row.tail.starts_with("synced") || row.tail.is_empty() {
                ""
            } else {
                "\\*"
            };
            let lost = match row.number(table, "lost") {
                Some(lost) if lost > 0.0 => "!",
                _ => "",
            };
            Some(format!("{cost}{star}{lost}"))
        });
        cells.push_str(&format!(" {} |", cell.as_deref().unwrap_or("-")));
    }
    cells
}

fn summary(results: &Results) -> String {
    let brokers = present(results);
    let mut text = head(&["us of CPU"], &brokers, &["of the best"]);
    for (name, title) in SUMMARY {
        let Some(table) = results.table(name) else {
            continue;
        };
        let best = (table.row("nightjar"))
            .and_then(|row| row.text(table, "/best"))
            .unwrap_or("-");
        text.push_str(&format!("| {title} |{} {best} |\n", costs(table, &brokers)));
    }
    text
}

fn full(results: &Results) -> String {
    let brokers = present(results);
    let mut text = head(
        &["us of CPU"],
        &brokers,
        &[
            "of the best",
            "of the relay",
            "2 workers of 1",
            "messages/s",
            "p50/p99/p99.9 us at half",
            "MB",
        ],
    );
    for table in results.tables.iter().filter(|table| table.name() != "idle") {
        let row = table.row("nightjar");
        let cell = |column: &str| row.and_then(|row| row.text(table, column)).unwrap_or("-");
        text.push_str(&format!(
            "| {} |{} {} | {} | {} | {} | {} | {} |\n",
            table
                .title
                .replace(": saturated", "")
                .replace(", saturated", ""),
            costs(table, &brokers),
            cell("/best"),
            cell("/relay"),
            cell("/self"),
            cell("delivered/s"),
            cell("half us"),
            cell("MB"),
        ));
        if let Some(nodes) = table.row("nightjar-3n") {
            let cell = |column: &str| nodes.text(table, column).unwrap_or("-");
            text.push_str(&format!(
                "| the same with three nodes, by one: {} |{} - | - | - | {} | {} | {} |\n",
                cell("/self"),
                costs(table, &[("nightjar-3n", "")])
                    + &" - |".repeat(brokers.len().saturating_sub(1)),
                cell("delivered/s"),
                cell("half us"),
                cell("MB"),
            ));
        }
    }
    let reasons = reasons(results);
    if !reasons.is_empty() {
        text.push_str("\nWithout a figure:\n\n");
        text.push_str(&reasons);
    }
    text
}

/// Why there is no figure, each reason once with the rows it is true for.
fn reasons(results: &Results) -> String {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for table in results.tables.iter().filter(|table| table.name() != "idle") {
        for row in table.rows.iter().filter(|row| row.values.is_empty()) {
            let reason = format!("{}: {}", row.broker, row.tail);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(table.name()),
                None => reasons.push((reason, vec![table.name()])),
            }
        }
    }
    reasons
        .iter()
        .map(|(reason, names)| format!("- {reason} ({})\n", names.join(", ")))
        .collect()
}

fn idle(results: &Results) -> String {
    let Some(table) = results.table("idle") else {
        return "Not in this file.\n".to_owned();
    };
    let most = |row: &Row| {
        (table.columns.iter().rev())
            .filter(|name| name.starts_with("each@"))
            .find_map(|name| Some((name.as_str(), row.text(table, name)?.to_owned())))
    };
    let mut text = String::from(
        "| clients | empty process MB | with clients MB | clients | bytes each |\n|---|---|---|---|---|\n",
    );
    for row in &table.rows {
        let (name, each) = most(row).unwrap_or(("each@", "-".to_owned()));
        let count = name.trim_start_matches("each@");
        let with = row.text(table, &format!("N={count}")).unwrap_or("-");
        let empty = row.text(table, "empty").unwrap_or("-");
        text.push_str(&format!(
            "| {} | {empty} | {with} | {count} | {each} |\n",
            row.broker
        ));
    }
    text
}

fn machine(results: &Results) -> String {
    let skip = ["us CPU", "ratios", "p50, p99", "half", "MB", "payload"];
    (results.head.iter())
        .filter(|(name, _)| !skip.contains(&name.as_str()))
        .map(|(name, value)| format!("- {name}: {value}\n"))
        .collect()
}

fn head(first: &[&str], brokers: &[(&str, &str)], last: &[&str]) -> String {
    let names: Vec<&str> = (first.iter().copied())
        .chain(brokers.iter().map(|(_, name)| *name))
        .chain(last.iter().copied())
        .collect();
    format!(
        "| {} |\n|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    )
}

fn bars(results: &Results) -> Vec<Bars> {
    let mut groups = Vec::new();
    for (name, title) in SUMMARY {
        let Some(table) = results.table(name) else {
            continue;
        };
        let mut costs = Vec::new();
        for (broker, known) in BROKERS {
            let kept = format!("{broker}-p");
            let row = table.row(broker).or_else(|| table.row(&kept));
            if let Some(cost) = row.and_then(|row| row.number(table, "us CPU")) {
                let synced =
                    row.is_none_or(|row| row.tail.is_empty() || row.tail.starts_with("synced"));
                let star = if synced { "" } else { " *" };
                costs.push((format!("{known}{star}"), cost));
            }
        }
        groups.push(Bars {
            workload: (*title).to_owned(),
            costs,
        });
    }
    groups
}

/// Three digits that count.
fn figure(cost: f64) -> String {
    match cost {
        cost if cost < 1.0 => format!("{cost:.3}"),
        cost if cost < 10.0 => format!("{cost:.2}"),
        cost if cost < 100.0 => format!("{cost:.1}"),
        cost => format!("{cost:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
head

date         today

durable: kept
  broker          us CPU   /best   lost
  nightjar         4.000       -      0  synced before it is acknowledged
  nats            20.000       -      3  NOT SYNCED: later
  rumqttd      not run: it cannot
";

    #[test]
    fn a_page_is_filled_and_stays_as_it_is() {
        let folder = std::env::temp_dir().join(format!("nightjar-pages-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("compare-2026-01-02.txt");
        std::fs::write(&file, TEXT).expect("a file");
        let name = file.display().to_string();
        let page = format!("a\n{BEGIN}full old.txt -->\nold\n{END}\nb\n");
        let once = filled(&page, Some(&name)).expect("filled");
        assert!(
            once.contains("| durable: kept | 4.00 | 20.0\\*! |"),
            "{once}"
        );
        assert!(
            once.contains("- rumqttd: not run: it cannot (durable)"),
            "{once}"
        );
        assert!(once.starts_with("a\n") && once.ends_with("b\n") && !once.contains("old"));
        assert_eq!(filled(&once, None).expect("filled"), once);
        assert_eq!(newer(&file).expect("a folder"), None);
        std::fs::write(folder.join("compare-2026-01-03.txt"), TEXT).expect("a file");
        assert!(newer(&file).expect("a folder").is_some());
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_part_without_an_end_is_an_error() {
        assert!(filled(&format!("{BEGIN}full /dev/null -->\n"), None).is_err());
        assert_eq!(filled("no marks\n", None).expect("as it is"), "no marks\n");
    }
}
