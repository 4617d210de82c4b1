//! The text of a results file, read back: what pages and the picture are made of.

/// Columns of a workload's table, with their widths.
pub const COLUMNS: &[(&str, usize)] = &[
    ("us CPU", 9),
    ("min", 8),
    ("/mosquitto", 11),
    ("/best", 7),
    ("/echo", 7),
    ("/relay", 7),
    ("/self", 6),
    ("delivered/s", 12),
    ("cores", 6),
    ("p50 us", 9),
    ("p99 us", 9),
    ("p99.9 us", 9),
    ("half us", 22),
    ("MB", 7),
    ("lost", 6),
    ("runs", 5),
];

/// One line of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Which broker.
    pub broker: String,
    /// One for each column; none where there was no run.
    pub values: Vec<String>,
    /// What stands behind the columns: a promise, or why there was no run.
    pub tail: String,
}

/// The table of one workload, or that of idle clients.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The whole line above it.
    pub title: String,
    /// Names of the columns behind the broker's.
    pub columns: Vec<String>,
    /// Its lines.
    pub rows: Vec<Row>,
}

/// A results file.
#[derive(Debug, PartialEq, Eq)]
pub struct Results {
    /// Lines of the head: a name and what it says.
    pub head: Vec<(String, String)>,
    /// The tables in their order.
    pub tables: Vec<Table>,
}

impl Row {
    /// The number of a column.
    pub fn number(&self, table: &Table, column: &str) -> Option<f64> {
        self.text(table, column)?.parse().ok()
    }

    /// The text of a column, none where it is a dash.
    pub fn text(&self, table: &Table, column: &str) -> Option<&str> {
        let at = table.columns.iter().position(|name| name == column)?;
        self.values
            .get(at)
            .map(String::as_str)
            .filter(|text| *text != "-")
    }
}

impl Table {
    /// The line of a broker.
    pub fn row(&self, broker: &str) -> Option<&Row> {
        // The last one: of a broker that failed in one round and ran in others, that with the figures.
        self.rows.iter().rfind(|row| row.broker == broker)
    }

    /// The title up to its colon.
    pub fn name(&self) -> &str {
        self.title.split(':').next().unwrap_or_default()
    }
}

impl Results {
    /// Reads the text of a results file.
    pub fn read(text: &str) -> Self {
        let mut results = Self {
            head: Vec::new(),
            tables: Vec::new(),
        };
        let mut lines = text.lines().skip(1).peekable();
        for line in lines.by_ref().skip_while(|line| line.is_empty()) {
            let Some((name, value)) = line.split_at_checked(12) else {
                break;
            };
            results
                .head
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
        while let Some(title) = lines.next() {
            if title.is_empty() || title.starts_with(' ') {
                continue;
            }
            let Some(heads) = lines
                .next()
                .and_then(|line| line.trim().strip_prefix("broker"))
            else {
                continue;
            };
            let mut table = Table {
                title: title.to_owned(),
                columns: columns(heads),
                rows: Vec::new(),
            };
            while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
                table.rows.extend(row(line, table.columns.len()));
            }
            results.tables.push(table);
        }
        results
    }

    /// The table whose title begins so.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name() == name)
    }
}

/// Names of columns, of which some have two words.
fn columns(heads: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in heads.split_whitespace() {
        let joined = |name: &String| {
            let both = format!("{name} {word}");
            COLUMNS.iter().any(|(known, _)| *known == both)
        };
        match names.last_mut() {
            Some(last) if joined(last) => last.push_str(&format!(" {word}")),
            _ => names.push(word.to_owned()),
        }
    }
    names
}

fn row(line: &str, columns: usize) -> Option<Row> {
    let (broker, rest) = line.trim_start().split_once(' ')?;
    let mut values = Vec::new();
    let mut rest = rest.trim_start();
    while values.len() < columns {
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        // Words stand only where there are no figures, or behind them.
        if word != "-" && !word.starts_with(|first: char| first.is_ascii_digit()) {
            values.clear();
            break;
        }
        values.push(word.to_owned());
        rest = behind.trim_start();
    }
    if values.is_empty() {
        rest = line.trim_start().split_once(' ')?.1.trim();
    }
    Some(Row {
        broker: broker.to_owned(),
        values,
        tail: rest.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
nightjar-compare: what a delivered message costs each broker

date         2026-11-20
us CPU       time
nats         nats-server

pairs: 50 pairs, saturated
  broker          us CPU      min  /mosquitto   /best  half us
  nightjar         0.392    0.373        0.06       -  1/2/3
  nats         not run: it knows no QoS 2
  relay            0.100    0.100           -       -        -  synced

idle: resident memory
  broker             empty   N=10 each@10
  nightjar-tls        10.5   11.0     600
";

    #[test]
    fn a_results_file_is_read_back() {
        let results = Results::read(TEXT);
        assert_eq!(
            results.head[0],
            ("date".to_owned(), "2026-11-20".to_owned())
        );
        let pairs = results.table("pairs").expect("a table of pairs");
        assert_eq!(pairs.columns[0], "us CPU");
        let nightjar = pairs.row("nightjar").expect("a row");
        assert_eq!(nightjar.number(pairs, "us CPU"), Some(0.392));
        assert_eq!(nightjar.text(pairs, "half us"), Some("1/2/3"));
        assert_eq!(nightjar.text(pairs, "/best"), None);
        let nats = pairs.row("nats").expect("a row");
        assert_eq!(
            (nats.values.len(), nats.tail.as_str()),
            (0, "not run: it knows no QoS 2")
        );
        assert_eq!(
            pairs.row("relay").map(|row| row.tail.as_str()),
            Some("synced")
        );
        let idle = results.table("idle").expect("a table of idle clients");
        let tls = idle.row("nightjar-tls").expect("a row");
        assert_eq!(tls.number(idle, "each@10"), Some(600.0));
    }
}
