//! `nightjar doctor`: this host's limits, a balancer's time limits, the file of kernel settings.

use crate::process::{Dir, run};

fn repository(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_balancer_that_cuts_quiet_clients_is_named_with_its_line() {
    let dir = Dir::new();
    let text = "listen mqtts\n  bind *:8883\n  timeout client 600s\n  default_backend nodes\nbackend nodes\n  timeout server 50s\n  server n1 192.168.0.2:1883 check\n";
    let file = dir.write("haproxy.cfg", text);
    let file = file.to_str().expect("UTF-8");
    let done = run(&dir, &["doctor", "--proxy", file, "--output", "ndjson"]);
    assert_eq!(done.code, 1, "{done:?}");
    let line = done
        .out
        .lines()
        .find(|line| line.contains("haproxy.cfg:6"))
        .unwrap_or_else(|| panic!("{}", done.out));
    assert!(
        line.contains("\"is\":\"50s\"")
            && line.contains("\"wanted\":\"1m30s\"")
            && line.contains("33s"),
        "{line}"
    );
    // With a keep alive that it bears, that line is no complaint.
    let done = run(
        &dir,
        &[
            "doctor",
            "--proxy",
            file,
            "--keep-alive",
            "30s",
            "--output",
            "ndjson",
        ],
    );
    let line = done
        .out
        .lines()
        .find(|line| line.contains("haproxy.cfg:6"))
        .unwrap_or_else(|| panic!("{}", done.out));
    assert!(line.contains("\"wanted\":\"ok\""), "{line}");
    let done = run(&dir, &["doctor", "--proxy", "no-such.cfg"]);
    assert_eq!(done.code, 2, "{done:?}");
    let other = dir.write("other.txt", "nothing of this kind\n");
    let done = run(&dir, &["doctor", "--proxy", other.to_str().expect("UTF-8")]);
    assert_eq!(done.code, 2, "{done:?}");
}

#[test]
fn the_shipped_file_is_the_one_that_doctor_writes_with_each_line_commented() {
    let dir = Dir::new();
    let done = run(&dir, &["doctor", "--write", "-"]);
    assert_eq!(done.code, 0, "{done:?}");
    let shipped = std::fs::read_to_string(repository("etc/sysctl.conf")).expect("it is there");
    let commented: String = done
        .out
        .lines()
        .map(|line| {
            if line.is_empty() || line.starts_with('#') {
                format!("{line}\n")
            } else {
                format!("#{line}\n")
            }
        })
        .collect();
    assert_eq!(
        shipped, commented,
        "nightjar doctor --write - | sed 's/^[^#]/#&/' > etc/sysctl.conf"
    );
    let path = dir.path().join("60-nightjar.conf");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(run(&dir, &["doctor", "--write", path]).code, 0);
    assert_eq!(
        std::fs::read_to_string(path).expect("it was written"),
        done.out
    );
    assert_eq!(
        run(&dir, &["doctor", "--write", path]).code,
        4,
        "it was there"
    );
    assert_eq!(run(&dir, &["doctor", "--write", path, "--force"]).code, 0);
}

#[test]
fn more_clients_than_files_are_lacking() {
    let dir = Dir::new();
    let done = run(
        &dir,
        &[
            "doctor",
            "--connections",
            "4000000000",
            "--output",
            "ndjson",
        ],
    );
    assert_eq!(done.code, 1, "{done:?}");
    let line = done.out.lines().next().expect("the first is about files");
    assert!(
        line.contains("open files") && line.contains("4000001024"),
        "{line}"
    );
}
