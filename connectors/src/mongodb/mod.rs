//! `kind = "mongodb"`: users in documents, rules in documents with lists `publish`, `subscribe` and `pubsub`.
//!
//! A client's values are BSON texts in the filter's fields: `{"$ne": null}` as a user name is a text like any other. Spoken
//! are OP_MSG, `hello`, SCRAM-SHA-256 and `find`, which every MongoDB since 4.4.2 has.

mod bson;
mod client;
mod login;
mod message;

use std::collections::BTreeMap;

use nightjar_broker::access::{BoxFuture, ClientInfo};
use nightjar_broker::acl::{Permission, Rule, RuleAction, Who};

use crate::ConnectorError;
use crate::rows::{Found, RuleRows, UserRow, UserRows};
use crate::template::{Template, Values, long_names};
use crate::tls::TlsSettings;
use bson::{Document, Value};
use client::Client;

/// A client with more documents of rules than this has none: the filter is missing.
const MAX_DOCUMENTS: usize = 1000;

/// Where MongoDB is.
#[derive(Clone)]
pub struct MongoSettings {
    /// `server`: host and port.
    pub server: String,
    /// `replica_set`: its name; another member is asked where `server` does not answer.
    pub replica_set: Option<String>,
    /// `database`.
    pub database: String,
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<String>,
    /// `auth_source`: the database that knows the user.
    pub auth_source: String,
    /// `pool`: connections at once.
    pub pool: usize,
    /// `tls`, where it is enabled.
    pub tls: Option<TlsSettings>,
}

impl MongoSettings {
    /// The defaults with this server: database `mqtt`, no login, 8 connections, no TLS.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            replica_set: None,
            database: "mqtt".to_owned(),
            username: None,
            password: None,
            auth_source: "admin".to_owned(),
            pool: 8,
            tls: None,
        }
    }
}

/// Which documents of a collection concern a client.
struct Selection {
    collection: String,
    fields: Vec<(String, Template)>,
}

impl Selection {
    fn new(collection: &str, filter: &BTreeMap<String, String>) -> Result<Self, ConnectorError> {
        let wrong = |problem: String| ConnectorError::Setting {
            key: "filter",
            problem,
        };
        let mut fields = Vec::new();
        for (key, text) in filter {
            if key.starts_with('$') || key.is_empty() || key.contains('\0') {
                return Err(wrong(format!("expected the name of a field, got {key:?}")));
            }
            let template = Template::client(&long_names(text)).map_err(wrong)?;
            fields.push((key.clone(), template));
        }
        if fields.is_empty() {
            return Err(wrong(
                "expected a field, as { username = \"${username}\" }".to_owned(),
            ));
        }
        Ok(Self {
            collection: collection.to_owned(),
            fields,
        })
    }

    /// The filter for a client; `None` if it lacks a value.
    fn of(&self, client: &ClientInfo) -> Option<Vec<(String, String)>> {
        let values = Values::of(client);
        self.fields
            .iter()
            .map(|(key, template)| Some((key.clone(), template.render(&values)?)))
            .collect()
    }
}

/// Users of a collection: the first document that the filter finds.
pub struct MongoUsers {
    client: Client,
    selection: Selection,
    password: String,
    salt: String,
    superuser: String,
}

impl MongoUsers {
    /// Users in documents with these fields; a dot goes into an inner document.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(
        settings: &MongoSettings,
        collection: &str,
        filter: &BTreeMap<String, String>,
        [password, salt, superuser]: [&str; 3],
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            client: Client::new(settings)?,
            selection: Selection::new(collection, filter)?,
            password: password.to_owned(),
            salt: salt.to_owned(),
            superuser: superuser.to_owned(),
        })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Found, String> {
        let Some(filter) = self.selection.of(client) else {
            return Ok(Found::NotAsked);
        };
        let fields = [&*self.password, &*self.salt, &*self.superuser];
        let collection = &self.selection.collection;
        let take = |document: Document<'_>| user(document, fields);
        let found = self
            .client
            .find(collection, &filter, &fields, 1, take)
            .await?;
        Ok(found.into_iter().next().map_or(Found::Nobody, Found::User))
    }
}

fn user(document: Document<'_>, [password, salt, superuser]: [&str; 3]) -> Result<UserRow, String> {
    let text = |field: &str| match document.at(field)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.to_owned())),
        Some(Value::Integer(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("expected a text in field {field:?}")),
    };
    let truth = match document.at(superuser)? {
        Some(Value::Truth(truth)) => truth,
        Some(Value::Integer(number)) => number == 1,
        Some(Value::Double(number)) => number == 1.0,
        Some(Value::Text(text)) => matches!(text, "1" | "true"),
        _ => false,
    };
    Ok(UserRow {
        password: text(password)?,
        salt: text(salt)?.unwrap_or_default(),
        superuser: truth,
    })
}

impl UserRows for MongoUsers {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn find<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Found, String>> {
        Box::pin(self.look_up(client))
    }
}

/// Rules of a collection. All of them allow; this source's silence leaves the rest to the next.
pub struct MongoRules {
    client: Client,
    selection: Selection,
}

impl MongoRules {
    /// Rules in documents that the filter finds.
    ///
    /// # Errors
    /// [`ConnectorError`] if a setting is wrong.
    pub fn new(
        settings: &MongoSettings,
        collection: &str,
        filter: &BTreeMap<String, String>,
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            client: Client::new(settings)?,
            selection: Selection::new(collection, filter)?,
        })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Vec<Rule>, String> {
        let Some(filter) = self.selection.of(client) else {
            return Ok(Vec::new());
        };
        let fields = LISTS.map(|(field, _)| field);
        let limit = i32::try_from(MAX_DOCUMENTS + 1).unwrap_or(i32::MAX);
        let collection = &self.selection.collection;
        let found = self
            .client
            .find(collection, &filter, &fields, limit, rules)
            .await?;
        if found.len() > MAX_DOCUMENTS {
            return Err(format!(
                "expected at most {MAX_DOCUMENTS} documents for a client"
            ));
        }
        Ok(found.into_iter().flatten().collect())
    }
}

/// The lists of a document, in the order they are tried; all of them allow.
const LISTS: [(&str, RuleAction); 3] = [
    ("publish", RuleAction::PUBLISH),
    ("subscribe", RuleAction::SUBSCRIBE),
    ("pubsub", RuleAction::ALL),
];

fn rules(document: Document<'_>) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut add = |action, topic: &str| {
        rules.push(Rule {
            permission: Permission::Allow,
            who: Who::All,
            action,
            topics: Some(vec![crate::rows::topic(topic)?]),
            line: 0,
        });
        Ok::<(), String>(())
    };
    for (field, action) in LISTS {
        let wrong = || format!("expected a list of topics in field {field:?}");
        match document.get(field)? {
            None | Some(Value::Null) => {}
            Some(Value::Text(topic)) => add(action, topic)?,
            Some(Value::Array(mut topics)) => {
                while let Some((_, topic)) = topics.next()? {
                    match topic {
                        Value::Text(topic) => add(action, topic)?,
                        _ => return Err(wrong()),
                    }
                }
            }
            Some(_) => return Err(wrong()),
        }
    }
    Ok(rules)
}

impl RuleRows for MongoRules {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn rules<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Vec<Rule>, String>> {
        Box::pin(self.look_up(client))
    }
}

/// Any bytes as an answer to question 2, its length taken off: users and rules, or an error. Whether it was understood.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub fn fuzz_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = message::answer(2, bytes) else {
        return false;
    };
    let read = client::documents(&answer.whole(), |it| {
        rules(it)?;
        user(it, ["login.password", "salt", "is_superuser"])
    });
    let failed = message::failed(answer);
    read.is_ok() && failed.is_ok()
}

#[cfg(test)]
mod tests;
