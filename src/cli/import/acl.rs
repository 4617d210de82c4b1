//! Files of access rules: those of EMQ X as they are, those of Mosquitto as rules of acl.conf.

use std::fmt::Write as _;
use std::path::Path;

use nightjar_broker::acl::RuleSet;
use toml::Table;

use super::plan::{At, Outcome, Plan};
use super::source;

/// Takes a file in acl.conf grammar over, if this broker's parser takes it.
pub fn emqx(at: &At, path: &Path, plan: &mut Plan) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return plan.unsupported(at, &format!("{}: {error}", path.display()));
        }
    };
    match RuleSet::parse(&text, &path.display().to_string()) {
        Ok(_) => {
            add(plan, text);
            plan.row(
                at,
                Outcome::Mapped,
                "acl.sources",
                "the file is taken over as it is",
            );
        }
        Err(errors) => {
            // Without its rules nothing is allowed, which is safe and cannot be overlooked.
            add(
                plan,
                format!(
                    "%% {} could not be read:\n%% {}\n{{deny, all}}.\n",
                    path.display(),
                    errors.to_string().replace('\n', "\n%% ")
                ),
            );
            plan.unsupported(
                at,
                &format!("everything is denied until acl.conf is mended: {errors}"),
            );
        }
    }
}

fn add(plan: &mut Plan, text: String) {
    let path = plan.file("acl.conf", text);
    let mut entry = Table::new();
    entry.insert("kind".into(), "file".into());
    entry.insert("path".into(), path.into());
    plan.push("acl.sources", entry);
}

/// Rules of one user, of nobody in particular, or of the patterns.
#[derive(Debug, Default)]
struct Rules {
    /// Those that deny stand before those that allow, as Mosquitto tries them.
    deny: String,
    allow: String,
}

/// Turns Mosquitto's acl_file into rules in the same order of effect.
///
/// A client with a user name has that user's rules and the patterns; one without has the rules before the first `user`
/// line and the patterns. What nothing allows is denied.
pub fn mosquitto(at: &At, path: &Path, plan: &mut Plan) {
    let text = match source::read(path) {
        Ok(text) => text,
        Err(why) => return plan.unsupported(at, &why),
    };
    let mut users: Vec<(String, Rules)> = Vec::new();
    let (mut anonymous, mut patterns) = (Rules::default(), Rules::default());
    for it in source::words(path, &text) {
        let line = it.at.clone();
        match it.key() {
            "user" => users.push((it.value.clone(), Rules::default())),
            "topic" => {
                let (who, rules) = match users.last_mut() {
                    Some((name, rules)) => (format!("{{user, {}}}", quoted(name)), rules),
                    None => ("all".to_owned(), &mut anonymous),
                };
                // A literal %u is no placeholder in a `topic` line, and has no other form here.
                if it.value.contains("%u") || it.value.contains("%c") {
                    plan.unsupported(
                        &line,
                        "%u and %c mean themselves in `topic` lines; use `pattern`",
                    );
                } else {
                    rule(&line, &who, &it.value, rules, plan);
                }
            }
            "pattern" => rule(&line, "all", &it.value, &mut patterns, plan),
            _ => plan.unsupported(&line, "no such word in Mosquitto's acl_file"),
        }
    }
    let mut out = format!("%% Made of {}.\n", path.display());
    for (name, rules) in &users {
        let _ = write!(out, "\n%% {name}\n{}{}", rules.deny, rules.allow);
    }
    let _ = write!(
        out,
        "\n%% patterns: everyone\n{}{}",
        patterns.deny, patterns.allow
    );
    out.push_str("\n%% clients with a user name have no more rights; those without have these\n");
    out.push_str("{deny, {username, {re, \"\"}}, all}.\n");
    let _ = write!(out, "{}{}", anonymous.deny, anonymous.allow);
    out.push_str("{deny, all}.\n");
    add(plan, out);
    plan.row(
        at,
        Outcome::Approximated,
        "acl.sources",
        "a subscription wider than what may be read is refused here; Mosquitto takes it and filters what it delivers",
    );
}

fn rule(at: &At, who: &str, value: &str, rules: &mut Rules, plan: &mut Plan) {
    let (access, topic) = match value.split_once(char::is_whitespace) {
        Some((word @ ("read" | "write" | "readwrite" | "deny"), topic)) => (word, topic.trim()),
        _ => ("readwrite", value),
    };
    let topic = topic
        .replace("%u", "${username}")
        .replace("%c", "${clientid}");
    let action = match access {
        "read" => "subscribe",
        "write" => "publish",
        _ => "all",
    };
    let verdict = if access == "deny" { "deny" } else { "allow" };
    let line = format!("{{{verdict}, {who}, {action}, [{}]}}.\n", quoted(&topic));
    if let Err(error) = RuleSet::parse(&line, "rule") {
        return plan.unsupported(at, &error.to_string());
    }
    if access == "deny" {
        rules.deny.push_str(&line);
    } else {
        rules.allow.push_str(&line);
    }
    plan.row(at, Outcome::Mapped, "acl.conf", "");
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
