//! Users and rules in real databases: MariaDB, PostgreSQL and Redis of the system's packages, each started by its test
//! on a free loopback port with a directory of its own, and stopped afterwards.
//!
//! A test whose server is not installed says so and passes, unless `CI=true`.

mod servers;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod common {
    use std::sync::Arc;
    use std::time::Duration;

    use nightjar_broker::access::{
        Action, Answer, AuthAnswer, AuthRequest, Authenticator, Authorizer, ClientInfo, Protocol,
        Secret, Verdict,
    };
    use nightjar_connectors::password::{HashKind, HashPool, HashSettings, SaltPlace};
    use nightjar_mqtt::{ProtocolVersion, QoS};

    pub const LIMIT: Duration = Duration::from_secs(10);

    pub fn pool() -> Arc<HashPool> {
        Arc::new(HashPool::new(1, 64, Duration::ZERO))
    }

    /// SHA-256 with the salt in front, as many have it.
    pub fn salted() -> HashSettings {
        HashSettings {
            kind: HashKind::Sha256,
            salt: SaltPlace::Prefix,
            ..HashSettings::default()
        }
    }

    /// "public" with the salt "salt" in front.
    pub const PUBLIC: &str = "f2ef7f9aedb2c3b5040bc16691a1177758a92ad91e1ee77770215a332bf6099f";

    pub fn client(username: Option<&str>) -> ClientInfo {
        ClientInfo {
            username: username.map(Into::into),
            ..ClientInfo::new(
                "dev1",
                ([10, 0, 0, 7], 50000).into(),
                "tcp:default",
                Protocol::Mqtt(ProtocolVersion::V5),
            )
        }
    }

    pub async fn login(auth: &dyn Authenticator, name: Option<&str>, password: &str) -> String {
        let request = AuthRequest {
            client: client(name),
            password: Some(Secret(password.as_bytes().into())),
        };
        match auth.authenticate(&request).await {
            AuthAnswer::Allow(grant) if grant.superuser => "superuser".to_owned(),
            AuthAnswer::Allow(_) => "allow".to_owned(),
            AuthAnswer::Deny(_) => "deny".to_owned(),
            AuthAnswer::Ignore => "ignore".to_owned(),
            AuthAnswer::Unavailable(error) => format!("unavailable: {error}"),
        }
    }

    /// The same users are in every database: ann, root (a superuser), and one without a password.
    pub async fn users(auth: &dyn Authenticator) {
        let evil = [
            "' or '1'='1",
            "ann' -- ",
            "ann'; drop table mqtt_user; --",
            "\\' or 1=1 #",
            "ann\0",
            "*",
            "%",
            "ann\r\nDEL mqtt_user:ann",
            "$all",
        ];
        for name in evil {
            let got = login(auth, Some(name), "public").await;
            assert_eq!(got, "ignore", "{name:?}");
            assert_eq!(
                login(auth, Some("ann"), "public").await,
                "allow",
                "after {name:?}"
            );
        }
        let table = [
            (Some("ann"), "public", "allow"),
            (Some("ann"), "private", "deny"),
            (Some("ann"), "", "deny"),
            (Some("ann"), PUBLIC, "deny"),
            (Some("root"), "public", "superuser"),
            (Some("root"), "toor", "deny"),
            (Some("empty"), "", "deny"),
            (Some("nobody"), "public", "ignore"),
            (Some(""), "public", "ignore"),
            (None, "public", "ignore"),
        ];
        for (name, password, expected) in table {
            assert_eq!(
                login(auth, name, password).await,
                expected,
                "{name:?} {password}"
            );
        }
    }

    pub async fn judge(acl: &dyn Authorizer, client: &ClientInfo, asked: &str) -> String {
        let (verb, topic) = asked.split_once(' ').expect("a verb and a topic");
        let qos = QoS::AtMostOnce;
        let action = match verb {
            "pub" => Action::Publish {
                topic,
                qos,
                retain: false,
            },
            _ => Action::Subscribe { filter: topic, qos },
        };
        let verdict = match acl.authorize(client, action) {
            Answer::Now(verdict) => Ok(verdict),
            Answer::Later(later) => later.await,
        };
        match verdict {
            Ok(Verdict::Allow) => "allow".to_owned(),
            Ok(Verdict::Deny) => "deny".to_owned(),
            Ok(Verdict::AllowChecked) => "checked".to_owned(),
            Ok(Verdict::NoMatch | Verdict::NoMatchChecked) => "no match".to_owned(),
            Err(error) => error,
        }
    }
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql {
    use nightjar_connectors::rows::{RowsAcl, RowsAuth};
    use nightjar_connectors::sql::{Database, RowOrder, SqlRules, SqlSettings, SqlUsers};

    use super::common::*;

    pub const USER_QUERY: &str =
        "select password, salt, is_superuser from mqtt_user where username = ${username} limit 1";
    pub const OLD_USER_QUERY: &str =
        "select password, salt, is_superuser from mqtt_user where username = '%u' limit 1";
    pub const ACL_QUERY: &str = "select allow, ipaddr, username, clientid, access, topic from mqtt_acl \
                                 where ipaddr = ${peerhost} or username = ${username} or username = '$all' \
                                 or clientid = ${clientid} order by id";

    /// Rows as people have them; `1` and `0` suit MySQL's tinyint, quoted ones PostgreSQL's smallint and boolean too.
    pub fn rows() -> Vec<String> {
        let users = [
            format!("('ann', '{PUBLIC}', 'salt', '0')"),
            format!("('root', '{PUBLIC}', 'salt', '1')"),
            "('empty', NULL, 'salt', '1')".to_owned(),
        ];
        let rules = [
            "('1', NULL, 'ann', NULL, 1, 'own/ann/#')",
            "('0', '', '$all', '', 3, 'secret/#')",
            "('1', '10.0.0.7', '', 'dev1', 2, 'up/%c')",
            "('1', '10.0.0.7', NULL, 'dev2', 2, 'up/dev2')",
            "('1', NULL, '$all', NULL, 3, 'open/#')",
            "('1', NULL, '$all', NULL, 1, 'eq all/#')",
            "('0', NULL, 'ann', NULL, 3, 'open/closed')",
        ];
        let user = |row: &String| {
            format!("insert into mqtt_user (username, password, salt, is_superuser) values {row}")
        };
        let rule = |row: &&str| {
            format!(
                "insert into mqtt_acl (allow, ipaddr, username, clientid, access, topic) values {row}"
            )
        };
        users
            .iter()
            .map(user)
            .chain(rules.iter().map(rule))
            .collect()
    }

    pub fn settings(port: u16, username: &str, password: Option<&str>) -> SqlSettings {
        SqlSettings {
            server: format!("127.0.0.1:{port}"),
            database: "mqtt".to_owned(),
            username: username.to_owned(),
            password: password.map(str::to_owned),
            timeout: LIMIT,
            pool: 2,
            tls: None,
        }
    }

    pub async fn check<D: Database>(database: impl Fn() -> D) {
        for query in [USER_QUERY, OLD_USER_QUERY] {
            let rows = SqlUsers::new(database(), query).expect("a query");
            users(&RowsAuth::new(rows, salted(), LIMIT, pool())).await;
        }
        let acl = |order| {
            let rows = SqlRules::new(database(), ACL_QUERY, order).expect("a query");
            RowsAcl::new(rows, LIMIT)
        };
        let forward = acl(RowOrder::Forward);
        let (ann, anonymous) = (client(Some("ann")), client(None));
        let table = [
            ("sub own/ann/x", "allow", "no match"),
            ("sub own/+/x", "no match", "no match"),
            ("pub own/ann/x", "no match", "no match"),
            ("pub secret/x", "deny", "deny"),
            ("pub up/dev1", "allow", "allow"),
            ("pub up/dev2", "no match", "no match"),
            ("pub open/closed", "allow", "allow"),
            ("sub all/#", "allow", "allow"),
            ("sub all/x", "no match", "no match"),
        ];
        for (asked, for_ann, for_anonymous) in table {
            assert_eq!(judge(&forward, &ann, asked).await, for_ann, "{asked}");
            assert_eq!(
                judge(&forward, &anonymous, asked).await,
                for_anonymous,
                "{asked}"
            );
        }
        let reverse = acl(RowOrder::Reverse);
        assert_eq!(judge(&reverse, &ann, "pub open/closed").await, "deny");
        assert_eq!(judge(&reverse, &ann, "sub open/#").await, "checked");
        // A mistake in the query is the backend's failure, not somebody's way in.
        let wrong = SqlUsers::new(database(), "select nothing from nowhere where a = '%u'");
        let wrong = RowsAuth::new(wrong.expect("a query"), salted(), LIMIT, pool());
        let got = login(&wrong, Some("ann"), "public").await;
        assert!(got.starts_with("unavailable"), "{got}");
        let without = SqlUsers::new(
            database(),
            "select salt from mqtt_user where username = '%u'",
        );
        let without = RowsAuth::new(without.expect("a query"), salted(), LIMIT, pool());
        let got = login(&without, Some("ann"), "public").await;
        assert!(got.contains("expected a column \"password\""), "{got}");
    }
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_serves_users_and_rules() {
    use nightjar_connectors::sql::MySql;
    let Some(server) = servers::mariadb() else {
        return;
    };
    let mut statements = vec![
        "create database mqtt".to_owned(),
        "use mqtt".to_owned(),
        "create table mqtt_user (id int unsigned primary key auto_increment, username varchar(100) unique, \
         password varchar(100), salt varchar(35), is_superuser tinyint(1) default 0, created datetime)"
            .to_owned(),
        "create table mqtt_acl (id int unsigned primary key auto_increment, allow int(1), ipaddr varchar(60), \
         username varchar(100), clientid varchar(100), access int(2) not null, topic varchar(100) not null)"
            .to_owned(),
        "create user mqtt@'%' identified by 'db-pass'".to_owned(),
        "grant select on mqtt.* to mqtt@'%'".to_owned(),
    ];
    statements.extend(sql::rows());
    server.run(&statements);
    let settings = sql::settings(server.port, "mqtt", Some("db-pass"));
    sql::check(|| MySql::new(&settings).expect("valid")).await;
    outage(server, &settings, |s| MySql::new(s).expect("valid")).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_serves_users_and_rules() {
    use nightjar_connectors::sql::Postgres;
    let Some(server) = servers::postgres() else {
        return;
    };
    let mut statements = vec![
        "create table mqtt_user (id serial primary key, username varchar(100) unique, password varchar(100), \
         salt varchar(40), is_superuser boolean, created timestamp)"
            .to_owned(),
        "create table mqtt_acl (id serial primary key, allow smallint, ipaddr varchar(60), username varchar(100), \
         clientid varchar(100), access smallint, topic varchar(100))"
            .to_owned(),
    ];
    statements.extend(sql::rows());
    server.run(&statements);
    let settings = sql::settings(server.port, "postgres", Some("db-pass"));
    sql::check(|| Postgres::new(&settings).expect("valid")).await;
    outage(server, &settings, |s| Postgres::new(s).expect("valid")).await;
}

/// A wrong password of ours, and a server that is gone: unavailable, within the limit, and nobody gets in.
#[cfg(any(feature = "mysql", feature = "postgres"))]
async fn outage<D: nightjar_connectors::sql::Database>(
    server: servers::Server,
    settings: &nightjar_connectors::sql::SqlSettings,
    database: impl Fn(&nightjar_connectors::sql::SqlSettings) -> D,
) {
    use common::{LIMIT, login, pool, salted};
    use nightjar_connectors::rows::RowsAuth;
    use nightjar_connectors::sql::{SqlSettings, SqlUsers};
    let auth = |settings: &SqlSettings| {
        let rows = SqlUsers::new(database(settings), sql::USER_QUERY).expect("a query");
        RowsAuth::new(rows, salted(), LIMIT, pool())
    };
    let refused = auth(&SqlSettings {
        password: Some("wrong-pass".to_owned()),
        ..settings.clone()
    });
    let got = login(&refused, Some("ann"), "public").await;
    assert!(
        got.starts_with("unavailable") && !got.contains("wrong-pass"),
        "{got}"
    );
    let running = auth(settings);
    assert_eq!(login(&running, Some("ann"), "public").await, "allow");
    drop(server);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        let got = login(&running, Some("ann"), "public").await;
        assert!(got.starts_with("unavailable"), "{got}");
    }
    // Five are tried, the circuit answers the others.
    assert!(start.elapsed() < LIMIT * 6, "{:?}", start.elapsed());
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_serves_users_and_rules() {
    use common::*;
    use nightjar_connectors::redis::{RedisRules, RedisSettings, RedisUsers};
    use nightjar_connectors::rows::{RowsAcl, RowsAuth};
    let Some(server) = servers::redis() else {
        return;
    };
    server.run(&[
        "SELECT 3".to_owned(),
        format!("HSET mqtt_user:ann password {PUBLIC} salt salt"),
        format!("HSET mqtt_user:root password {PUBLIC} salt salt is_superuser 1"),
        "HSET mqtt_user:empty salt salt".to_owned(),
        "HSET mqtt_acl:ann own/ann/# 1 up/%c 2 open/# 3 last subscribe".to_owned(),
        "HSET mqtt_acl:broken a/#/b 1".to_owned(),
    ]);
    let settings = RedisSettings {
        database: 3,
        password: Some("db-pass".to_owned()),
        ..RedisSettings::new(format!("127.0.0.1:{}", server.port))
    };
    for command in [
        "HMGET mqtt_user:${username} password salt is_superuser",
        "HGETALL mqtt_user:%u",
    ] {
        let rows = RedisUsers::new(&settings, command).expect("valid");
        users(&RowsAuth::new(rows, salted(), LIMIT, pool())).await;
    }
    let rows = RedisRules::new(&settings, "HGETALL mqtt_acl:${username}").expect("valid");
    let acl = RowsAcl::new(rows, LIMIT);
    let ann = client(Some("ann"));
    let table = [
        ("sub own/ann/x", "allow"),
        ("pub own/ann/x", "no match"),
        ("pub up/dev1", "allow"),
        ("pub up/dev2", "no match"),
        ("pub open/x", "allow"),
        ("sub open/#", "allow"),
        ("sub last", "allow"),
        ("sub #", "no match"),
    ];
    for (asked, expected) in table {
        assert_eq!(judge(&acl, &ann, asked).await, expected, "{asked}");
    }
    assert_eq!(judge(&acl, &client(None), "sub last").await, "no match");
    let broken = judge(&acl, &client(Some("broken")), "sub a").await;
    assert!(broken.contains("a/#/b"), "{broken}");

    let auth = |settings: &RedisSettings, command| {
        let rows = RedisUsers::new(settings, command).expect("valid");
        RowsAuth::new(rows, salted(), LIMIT, pool())
    };
    let command = "HGETALL mqtt_user:${username}";
    let refused = RedisSettings {
        password: Some("wrong-pass".to_owned()),
        ..settings.clone()
    };
    let got = login(&auth(&refused, command), Some("ann"), "public").await;
    assert!(
        got.starts_with("unavailable") && !got.contains("wrong-pass"),
        "{got}"
    );
    let got = login(
        &auth(&settings, "GET mqtt_user:${username}"),
        Some("ann"),
        "public",
    )
    .await;
    assert!(got.contains("WRONGTYPE"), "{got}");
    let running = auth(&settings, command);
    assert_eq!(login(&running, Some("ann"), "public").await, "allow");
    drop(server);
    for _ in 0..20 {
        let got = login(&running, Some("ann"), "public").await;
        assert!(got.starts_with("unavailable"), "{got}");
    }
}
