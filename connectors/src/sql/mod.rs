//! `kind = "mysql"` and `kind = "postgres"`: users and rules in tables, by the queries people already have.
//!
//! Placeholders of a query become parameters of a prepared statement; no value ever becomes a part of its text.

mod query;
mod value;

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "mysql")]
pub use mysql::MySql;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;

use nightjar_broker::access::{BoxFuture, ClientInfo};
use nightjar_broker::acl::Rule;

use crate::ConnectorError;
use crate::rows::{AclRow, Found, RuleRows, UserRow, UserRows};
use crate::tls::TlsSettings;
use query::Query;
use value::Row;

/// Where a database is.
#[derive(Debug, Clone)]
pub struct SqlSettings {
    /// `server`: host and port.
    pub server: String,
    /// `database`.
    pub database: String,
    /// `username`.
    pub username: String,
    /// `password`.
    pub password: Option<String>,
    /// `timeout`, for waiting for a connection; the whole question has the limit of [`crate::rows::Guard`].
    pub timeout: std::time::Duration,
    /// `pool`: connections at once.
    pub pool: u32,
    /// `tls`, where it is enabled.
    pub tls: Option<TlsSettings>,
}

/// A database that runs a query with parameters.
pub trait Database: Send + Sync {
    /// How parameters are written.
    #[doc(hidden)]
    const STYLE: query::Style;
    /// Kind and place.
    fn name(&self) -> &str;
    /// Runs the query and returns at most `limit` rows.
    #[doc(hidden)]
    fn run<'a>(
        &'a self,
        sql: &'a str,
        parameters: Vec<Option<String>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, String>>;
}

/// Users that a query finds: columns `password`, and if there are such `salt` and `is_superuser`. The first row counts.
pub struct SqlUsers<D> {
    database: D,
    query: Query,
}

impl<D: Database> SqlUsers<D> {
    /// Users of a database.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if a placeholder of the query is unknown or stands inside a string.
    pub fn new(database: D, query: &str) -> Result<Self, ConnectorError> {
        let query = Query::parse(query, D::STYLE)?;
        Ok(Self { database, query })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Found, String> {
        let parameters = self.query.parameters(client);
        // `username = NULL` finds nobody; there is no need to ask.
        if parameters.iter().any(Option::is_none) {
            return Ok(Found::NotAsked);
        }
        if has_null(&parameters) {
            return Ok(Found::Nobody);
        }
        let rows = self.database.run(&self.query.sql, parameters, 1).await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(Found::Nobody);
        };
        if !row.has("password") && !row.has("password_hash") {
            return Err("expected a column \"password\" in the query's answer".to_owned());
        }
        let superuser = row.get("is_superuser").unwrap_or_default();
        Ok(Found::User(UserRow {
            password: row.get("password").or_else(|| row.get("password_hash")),
            salt: row.get("salt").unwrap_or_default(),
            superuser: matches!(superuser.as_str(), "1" | "true" | "t" | "yes"),
        }))
    }
}

impl<D: Database> UserRows for SqlUsers<D> {
    fn name(&self) -> &str {
        self.database.name()
    }

    fn find<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Found, String>> {
        Box::pin(self.look_up(client))
    }
}

/// In which order the rows of rules are tried (`acl_row_order`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowOrder {
    /// As the query returns them.
    #[default]
    Forward,
    /// The last one first, as older brokers did.
    Reverse,
}

/// Rules that a query finds: columns `allow`, `ipaddr`, `username`, `clientid`, `access`, `topic`.
pub struct SqlRules<D> {
    database: D,
    query: Query,
    order: RowOrder,
}

/// A client with more rules than this has none: the query has no condition.
const MAX_ROWS: usize = 10_000;

impl<D: Database> SqlRules<D> {
    /// Rules of a database.
    ///
    /// # Errors
    /// As [`SqlUsers::new`].
    pub fn new(database: D, query: &str, order: RowOrder) -> Result<Self, ConnectorError> {
        let query = Query::parse(query, D::STYLE)?;
        Ok(Self {
            database,
            query,
            order,
        })
    }

    async fn look_up(&self, client: &ClientInfo) -> Result<Vec<Rule>, String> {
        let parameters = self.query.parameters(client);
        if has_null(&parameters) {
            return Err("a value with U+0000 is in no table".to_owned());
        }
        let limit = MAX_ROWS + 1;
        let rows = self
            .database
            .run(&self.query.sql, parameters, limit)
            .await?;
        if rows.len() > MAX_ROWS {
            return Err(format!("expected at most {MAX_ROWS} rows for a client"));
        }
        let mut rules = rows.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        if self.order == RowOrder::Reverse {
            rules.reverse();
        }
        Ok(rules)
    }
}

/// PostgreSQL answers U+0000 with an error; a client must not be able to make the database look broken.
fn has_null(parameters: &[Option<String>]) -> bool {
    parameters.iter().flatten().any(|text| text.contains('\0'))
}

fn rule(row: &Row) -> Result<Rule, String> {
    let needed = |name: &str| {
        let value = row.get(name);
        value.ok_or_else(|| format!("expected a value in column {name:?}"))
    };
    AclRow {
        allow: match needed("allow")?.as_str() {
            "1" | "true" | "allow" => true,
            "0" | "false" | "deny" => false,
            other => return Err(format!("expected allow 0 or 1, got {other:?}")),
        },
        ipaddr: row.get("ipaddr"),
        username: row.get("username"),
        clientid: row.get("clientid"),
        access: needed("access")?.parse().unwrap_or(0),
        topic: needed("topic")?,
    }
    .rule()
}

impl<D: Database> RuleRows for SqlRules<D> {
    fn name(&self) -> &str {
        self.database.name()
    }

    fn rules<'a>(&'a self, client: &'a ClientInfo) -> BoxFuture<'a, Result<Vec<Rule>, String>> {
        Box::pin(self.look_up(client))
    }
}
