//! `kind = "redis"`: users in hashes, rules in hashes.
//!
//! `HMGET mqtt_user:${username} password salt is_superuser` and `HGETALL mqtt_acl:${username}` (topic -> 1, 2, 3, or
//! subscribe, publish, all) are the defaults. A command's placeholders become arguments of their own bytes: what a
//! client calls itself cannot become another command.

mod client;
mod command;
mod resp;

use nightjar_broker::access::{BoxFuture, ClientInfo};
use nightjar_broker::acl::{Permission, Rule, RuleAction, Who};

use client::Client;
pub use client::RedisSettings;
use command::Command;
use resp::Value;

use crate::ConnectorError;
use crate::rows::{Found, RuleRows, UserRow, UserRows};

/// Users in Redis. `HMGET` names its fields; `HGETALL` brings them along; another command's answer is taken as password,
/// salt, is_superuser in this order.
pub struct RedisUsers {
    client: Client,
    command: Command,
}

impl RedisUsers {
    /// Users that this command finds.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &RedisSettings, command: &str) -> Result<Self, ConnectorError> {
        Ok(Self {
            client: Client::new(settings)?,
            command: Command::parse(command)?,
        })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Found, String> {
        let Some(arguments) = self.command.arguments(client) else {
            return Ok(Found::NotAsked);
        };
        let answer = self.client.ask(&arguments).await?;
        let Value::Array(values) = answer else {
            return Err("expected a list as answer".to_owned());
        };
        let texts = values.into_iter().map(Value::text);
        let texts = texts.collect::<Result<Vec<Option<String>>, String>>()?;
        Ok(user(&self.command, texts))
    }
}

fn user(command: &Command, values: Vec<Option<String>>) -> Found {
    let mut row = UserRow::default();
    // A user without any of the fields is none: HMGET answers so for a key that does not exist.
    let mut there = false;
    let mut take = |field: &str, value: Option<String>| {
        let Some(value) = value else { return };
        match field {
            "password" | "password_hash" => row.password = Some(value),
            "salt" => row.salt = value,
            "is_superuser" | "superuser" => row.superuser = matches!(&*value, "1" | "true"),
            _ => return,
        }
        there = true;
    };
    if command.is("HGETALL") {
        let mut values = values.into_iter();
        while let (Some(Some(field)), Some(value)) = (values.next(), values.next()) {
            take(&field, value);
        }
    } else {
        let usual = || {
            ["password", "salt", "is_superuser"]
                .map(str::to_owned)
                .to_vec()
        };
        let fields = command.fields().unwrap_or_else(usual);
        for (field, value) in fields.iter().zip(values) {
            take(field, value);
        }
    }
    if there {
        Found::User(row)
    } else {
        Found::Nobody
    }
}

impl UserRows for RedisUsers {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn find<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Found, String>> {
        Box::pin(self.look_up(client))
    }
}

/// Rules in Redis. All of them allow; the first source's silence leaves the rest to the next.
pub struct RedisRules {
    client: Client,
    command: Command,
}

impl RedisRules {
    /// Rules that this command finds: pairs of topic and access.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(settings: &RedisSettings, command: &str) -> Result<Self, ConnectorError> {
        Ok(Self {
            client: Client::new(settings)?,
            command: Command::parse(command)?,
        })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Vec<Rule>, String> {
        let Some(arguments) = self.command.arguments(client) else {
            return Ok(Vec::new());
        };
        let Value::Array(values) = self.client.ask(&arguments).await? else {
            return Err("expected pairs of topic and access as answer".to_owned());
        };
        let texts = values.into_iter().map(Value::text);
        rules(&texts.collect::<Result<Vec<Option<String>>, String>>()?)
    }
}

fn rules(values: &[Option<String>]) -> Result<Vec<Rule>, String> {
    let (pairs, []) = values.as_chunks::<2>() else {
        return Err("expected pairs of topic and access as answer".to_owned());
    };
    pairs
        .iter()
        .map(|[topic, access]| {
            let topic = topic.as_deref().unwrap_or_default();
            Ok(Rule {
                permission: Permission::Allow,
                who: Who::All,
                action: match access.as_deref() {
                    Some("1" | "subscribe") => RuleAction::SUBSCRIBE,
                    Some("2" | "publish") => RuleAction::PUBLISH,
                    Some("3" | "all" | "pubsub") => RuleAction::ALL,
                    other => {
                        let wanted = "access 1, 2, 3, subscribe, publish or all";
                        return Err(format!("expected {wanted} of {topic:?}, got {other:?}"));
                    }
                },
                topics: Some(vec![crate::rows::topic(topic)?]),
                line: 0,
            })
        })
        .collect()
}

impl RuleRows for RedisRules {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn rules<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Vec<Rule>, String>> {
        Box::pin(self.look_up(client))
    }
}

#[cfg(test)]
mod tests;
