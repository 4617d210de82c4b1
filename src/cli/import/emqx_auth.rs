//! `auth.*` keys of EMQ X 2.x to 4.x: databases, web services and tokens.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::convert::{placeholders, time, truth};
use super::plan::{At, Outcome, Plan};
use super::source::Setting;

/// Settings of one authenticator, by what follows `auth.KIND.`.
type Settings<'a> = BTreeMap<&'a str, &'a Setting>;

/// Reads all `auth.*` settings.
pub fn read(settings: &[Setting], plan: &mut Plan) {
    let mut kinds: Vec<(&str, Settings<'_>)> = Vec::new();
    for it in settings {
        let mut parts = it.key().splitn(3, '.').skip(1);
        let kind = parts.next().unwrap_or_default();
        let rest = parts.next().unwrap_or_default();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, map)) => {
                map.insert(rest, it);
            }
            None => kinds.push((kind, [(rest, it)].into())),
        }
    }
    for (kind, settings) in kinds {
        match kind {
            "mysql" => sql("mysql", &settings, plan),
            "pgsql" => sql("postgres", &settings, plan),
            "redis" => redis(&settings, plan),
            "http" => http(&settings, plan),
            "jwt" => jwt(&settings, plan),
            "user" | "client" => {
                for it in settings.values() {
                    let note =
                        "builtin users are added with `nightjar ctl users add NAME --password P`";
                    plan.unsupported(&it.at, note);
                }
            }
            "mongo" | "ldap" => {
                for it in settings.values() {
                    let note = "set it by hand: kind = \"mongodb\" or \"ldap\" in [[auth.chain]], see `nightjar config default`";
                    plan.unsupported(&it.at, note);
                }
            }
            _ => {
                for it in settings.values() {
                    plan.unsupported(&it.at, "no such authenticator here");
                }
            }
        }
    }
}

fn entry(kind: &str) -> Table {
    [("kind".to_owned(), Value::from(kind))]
        .into_iter()
        .collect()
}

fn mapped(plan: &mut Plan, at: &At) {
    plan.row(at, Outcome::Mapped, "auth.chain", "");
}

/// Keys that connectors of all databases share. True if the key was one of them.
fn connection(key: &str, it: &Setting, entry: &mut Table, plan: &mut Plan) -> bool {
    let name = match key {
        "server" => "server",
        "username" => "username",
        "password" => "password",
        "database" => "database",
        "pool" => "pool",
        "query_timeout" | "request_timeout" | "timeout" => "timeout",
        "ssl" | "ssl.enable" => {
            match truth(&it.value) {
                Some(on) => {
                    tls(entry, "enable", on);
                    mapped(plan, &it.at);
                }
                None => plan.unsupported(&it.at, "neither on nor off"),
            }
            return true;
        }
        "ssl.cafile" | "ssl.cacertfile" | "ssl.certfile" | "ssl.keyfile" => {
            let name = match key {
                "ssl.certfile" => "cert_file",
                "ssl.keyfile" => "key_file",
                _ => "ca_file",
            };
            // EMQ X ships these keys with nothing behind them.
            if it.value.is_empty() {
                plan.not_needed(&it.at, "empty");
            } else {
                tls(entry, name, it.value.as_str());
                mapped(plan, &it.at);
            }
            return true;
        }
        "ssl.verify" => {
            let on = truth(&it.value).unwrap_or(it.value == "verify_peer");
            tls(entry, "verify", on);
            mapped(plan, &it.at);
            return true;
        }
        "ssl.server_name_indication" => {
            if it.value != "disable" {
                tls(entry, "server_name", it.value.as_str());
            }
            mapped(plan, &it.at);
            return true;
        }
        "type" if it.value == "single" => {
            mapped(plan, &it.at);
            return true;
        }
        "type" | "sentinel" => {
            if !it.value.is_empty() {
                plan.unsupported(&it.at, "one server, not a cluster and not sentinels");
            }
            return true;
        }
        "encoding" => {
            plan.not_needed(&it.at, "UTF-8");
            return true;
        }
        _ => return false,
    };
    let value = match name {
        "pool" => it.value.parse::<i64>().ok().map(Value::from),
        "database" if entry.get("kind").and_then(Value::as_str) == Some("redis") => {
            it.value.parse::<i64>().ok().map(Value::from)
        }
        "timeout" => time(&it.value).map(Value::from),
        _ => Some(it.value.as_str().into()),
    };
    match value {
        Some(Value::String(empty)) if empty.is_empty() => plan.not_needed(&it.at, "empty"),
        Some(value) => {
            entry.insert(name.into(), value);
            mapped(plan, &it.at);
        }
        None => plan.unsupported(&it.at, "not a value of this key here"),
    }
    true
}

/// Sets a key of the entry's TLS.
fn tls(entry: &mut Table, name: &str, value: impl Into<Value>) {
    let below = entry
        .entry("tls")
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(table) = below {
        table.insert(name.to_owned(), value.into());
    }
}

/// `sha256`, `salt,sha256`, `sha256,salt`, `pbkdf2,sha256,1000,20`, `salt,bcrypt`.
fn password_hash(it: &Setting, entry: &mut Table, plan: &mut Plan) {
    let parts: Vec<&str> = it.value.split(',').map(str::trim).collect();
    let (hash, salt) = match parts[..] {
        ["salt", "bcrypt"] => ("bcrypt", "none"),
        ["pbkdf2", prf, iterations, length] => {
            let numbers = (iterations.parse::<i64>(), length.parse::<i64>());
            let (Ok(iterations), Ok(length)) = numbers else {
                return plan.unsupported(&it.at, "expected pbkdf2,PRF,ITERATIONS,LENGTH");
            };
            entry.insert("pbkdf2_prf".into(), prf.into());
            entry.insert("pbkdf2_iterations".into(), iterations.into());
            entry.insert("pbkdf2_length".into(), length.into());
            ("pbkdf2", "none")
        }
        ["salt", hash] => (hash, "prefix"),
        [hash, "salt"] => (hash, "suffix"),
        [hash] => (hash, "none"),
        _ => return plan.unsupported(&it.at, "no such hash here"),
    };
    entry.insert("password_hash".into(), hash.into());
    entry.insert("salt".into(), salt.into());
    mapped(plan, &it.at);
}

/// A question for the password that also reads what the question for superusers reads.
fn with_superuser(query: &str, asked: Option<&&Setting>, plan: &mut Plan) -> String {
    let Some(it) = asked else {
        return query.to_owned();
    };
    let lower = query.to_lowercase();
    let column = it.value.to_lowercase();
    let same_table = |text: &str| {
        text.split(" from ").nth(1).map(|rest| {
            rest.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    };
    if lower.contains("is_superuser") {
        mapped(plan, &it.at);
        return query.to_owned();
    }
    if column.contains("is_superuser")
        && same_table(&lower).is_some()
        && same_table(&lower) == same_table(&column)
        && let Some(from) = lower.find(" from ")
    {
        let (head, tail) = query.split_at(from);
        let at = &it.at;
        plan.row(
            at,
            Outcome::Approximated,
            "auth.chain",
            "one question reads both: is_superuser stands in the one for the password",
        );
        return format!("{head}, is_superuser{tail}");
    }
    plan.unsupported(
        &it.at,
        "the question for the password has to read is_superuser itself",
    );
    query.to_owned()
}

/// The same server for the rules, without what is about passwords.
fn for_rules(link: &Table) -> Table {
    link.iter()
        .filter(|(key, _)| !key.starts_with("pbkdf2") && *key != "password_hash" && *key != "salt")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn sql(kind: &str, settings: &Settings<'_>, plan: &mut Plan) {
    let mut link = entry(kind);
    let mut question = None;
    let mut rules = None;
    for (key, it) in settings {
        if connection(key, it, &mut link, plan) {
            continue;
        }
        match *key {
            "auth_query" => question = Some(*it),
            "acl_query" => rules = Some(*it),
            "super_query" => {}
            "password_hash" => password_hash(it, &mut link, plan),
            _ => plan.unsupported(&it.at, "not done here"),
        }
    }
    let source = for_rules(&link);
    let query = question.map_or_else(
        || "select password from mqtt_user where username = ${username} limit 1".to_owned(),
        |it| {
            mapped(plan, &it.at);
            placeholders(&it.value)
        },
    );
    let query = with_superuser(&query, settings.get("super_query"), plan);
    link.insert("query".into(), query.into());
    if !link.contains_key("password_hash") {
        link.insert("password_hash".into(), "sha256".into());
    }
    plan.push("auth.chain", link);
    if let Some(it) = rules {
        let mut source = source;
        source.insert("query".into(), placeholders(&it.value).into());
        source.insert("acl_row_order".into(), "reverse".into());
        plan.push("acl.sources", source);
        plan.row(
            &it.at,
            Outcome::Mapped,
            "acl.sources",
            "rows are tried from the last one, as EMQ X does",
        );
    }
}

fn redis(settings: &Settings<'_>, plan: &mut Plan) {
    let mut link = entry("redis");
    let (mut command, mut rules) = ("HMGET mqtt_user:${username} password".to_owned(), None);
    for (key, it) in settings {
        if connection(key, it, &mut link, plan) {
            continue;
        }
        match *key {
            "auth_cmd" => {
                command = placeholders(&it.value);
                mapped(plan, &it.at);
            }
            "acl_cmd" => rules = Some(*it),
            "super_cmd" => {}
            "password_hash" => password_hash(it, &mut link, plan),
            _ => plan.unsupported(&it.at, "not done here"),
        }
    }
    let source = for_rules(&link);
    if let Some(it) = settings.get("super_cmd") {
        let asked = placeholders(&it.value);
        let key = |text: &str| text.split_whitespace().nth(1).map(str::to_owned);
        if key(&asked) == key(&command) && asked.to_uppercase().starts_with("HGET ") {
            let field = asked
                .split_whitespace()
                .nth(2)
                .unwrap_or("is_superuser")
                .to_owned();
            command = format!("{} {field}", command.replacen("HGET ", "HMGET ", 1));
            plan.row(
                &it.at,
                Outcome::Approximated,
                "auth.chain",
                "one command reads both",
            );
        } else {
            plan.unsupported(
                &it.at,
                "the command for the password has to read is_superuser itself",
            );
        }
    }
    link.insert("command".into(), command.into());
    if !link.contains_key("password_hash") {
        link.insert("password_hash".into(), "plain".into());
    }
    plan.push("auth.chain", link);
    if let Some(it) = rules {
        let mut source = source;
        source.insert("command".into(), placeholders(&it.value).into());
        plan.push("acl.sources", source);
        plan.row(&it.at, Outcome::Mapped, "acl.sources", "");
    }
}

/// `clientid=%c,username=%u` as a table of fields.
fn fields(text: &str) -> Table {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name.trim().to_owned(),
                Value::from(placeholders(value.trim())),
            )
        })
        .collect()
}

fn http(settings: &Settings<'_>, plan: &mut Plan) {
    for (what, list) in [("auth_req", "auth.chain"), ("acl_req", "acl.sources")] {
        // 3.x has the address in the key itself, 4.x below it.
        let url = settings
            .get(what)
            .or_else(|| settings.get(format!("{what}.url").as_str()));
        let Some(url) = url.filter(|it| !it.value.is_empty()) else {
            continue;
        };
        let mut link = entry("http");
        link.insert("url".into(), url.value.as_str().into());
        plan.row(&url.at, Outcome::Mapped, list, "");
        for (key, it) in settings {
            let rest = key
                .strip_prefix(what)
                .and_then(|rest| rest.strip_prefix('.'));
            match rest {
                Some("url") | None => {}
                Some("method") => {
                    link.insert("method".into(), it.value.to_lowercase().into());
                    plan.row(&it.at, Outcome::Mapped, list, "");
                }
                Some("params") => {
                    let body = fields(&it.value);
                    link.insert("body".into(), Value::Table(body));
                    let note = if list == "acl.sources" {
                        "access is `publish` or `subscribe` here, not 1 or 2"
                    } else {
                        ""
                    };
                    let outcome = if note.is_empty() {
                        Outcome::Mapped
                    } else {
                        Outcome::Approximated
                    };
                    plan.row(&it.at, outcome, list, note);
                }
                Some("headers.content_type" | "headers.content-type" | "content_type") => {
                    let form = if it.value.contains("json") {
                        "json"
                    } else {
                        "form"
                    };
                    link.insert("content_type".into(), form.into());
                    plan.row(&it.at, Outcome::Mapped, list, "");
                }
                Some(header) if header.starts_with("headers.") => {
                    let headers = link
                        .entry("headers")
                        .or_insert_with(|| Value::Table(Table::new()));
                    if let Value::Table(headers) = headers {
                        headers.insert(
                            header["headers.".len()..].to_owned(),
                            it.value.as_str().into(),
                        );
                    }
                    plan.row(&it.at, Outcome::Mapped, list, "");
                }
                Some(_) => plan.unsupported(&it.at, "not done here"),
            }
        }
        for (key, it) in settings {
            match *key {
                "timeout" | "request.timeout" | "request_timeout" => {
                    if let Some(time) = time(&it.value) {
                        link.insert("timeout".into(), time.into());
                    }
                }
                "pool_size" | "pool" => {
                    if let Ok(size) = it.value.parse::<i64>() {
                        link.insert("pool".into(), size.into());
                    }
                }
                _ => {}
            }
        }
        plan.push(list, link);
    }
    for (key, it) in settings {
        if key.starts_with("super_req") {
            let note = "the answer for the password says it: JSON {\"result\":\"allow\",\"is_superuser\":true}";
            plan.unsupported(&it.at, note);
        } else if [
            "timeout",
            "request.timeout",
            "request_timeout",
            "pool_size",
            "pool",
        ]
        .contains(key)
        {
            mapped(plan, &it.at);
        } else if !key.starts_with("auth_req") && !key.starts_with("acl_req") {
            plan.not_needed(
                &it.at,
                "connections are kept and opened again by themselves",
            );
        } else if it.value.is_empty() {
            plan.not_needed(&it.at, "empty");
        }
    }
}

fn jwt(settings: &Settings<'_>, plan: &mut Plan) {
    let mut link = entry("jwt");
    let mut claims = Table::new();
    for (key, it) in settings {
        let text = |name: &str, link: &mut Table| {
            link.insert(name.to_owned(), it.value.as_str().into());
        };
        match *key {
            "secret" => text("secret", &mut link),
            "from" => text("from", &mut link),
            "pubkey" => text("public_key_file", &mut link),
            "jwks" | "jwks.endpoint" => text("jwks_url", &mut link),
            "acl_claim_name" => text("acl_claim", &mut link),
            "jwks.refresh_interval" => match time(&it.value) {
                Some(time) => {
                    link.insert("jwks_refresh".into(), time.into());
                }
                None => plan.unsupported(&it.at, "not a time"),
            },
            "verify_claims" | "signature_format" => {}
            other => match other.strip_prefix("verify_claims.") {
                Some(claim) => {
                    claims.insert(claim.to_owned(), placeholders(&it.value).into());
                }
                None => {
                    plan.unsupported(&it.at, "not done here");
                    continue;
                }
            },
        }
        mapped(plan, &it.at);
    }
    if settings
        .get("verify_claims")
        .is_none_or(|it| truth(&it.value) != Some(false))
        && !claims.is_empty()
    {
        link.insert("claims".into(), Value::Table(claims));
    }
    plan.push("auth.chain", link);
}
