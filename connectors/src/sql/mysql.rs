//! MySQL and MariaDB.

use std::sync::OnceLock;

use nightjar_broker::access::BoxFuture;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row as _, TypeInfo, ValueRef};

use super::query::Style;
use super::value::Row;
use super::{Database, SqlSettings};
use crate::ConnectorError;

/// A MySQL or MariaDB server.
pub struct MySql {
    name: String,
    options: MySqlConnectOptions,
    pool_options: MySqlPoolOptions,
    /// Made with the first question, because it needs the runtime.
    pool: OnceLock<MySqlPool>,
}

impl MySql {
    /// The server of these settings. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if the address is none.
    pub fn new(settings: &SqlSettings) -> Result<Self, ConnectorError> {
        let (host, port) = crate::address::host_and_port(&settings.server)?;
        let mut options = MySqlConnectOptions::new()
            .host(host)
            .port(port)
            .username(&settings.username)
            .database(&settings.database)
            .disable_statement_logging();
        if let Some(password) = &settings.password {
            options = options.password(password);
        }
        options = match &settings.tls {
            None => options.ssl_mode(MySqlSslMode::Disabled),
            Some(tls) => {
                let mode = match tls.verify {
                    true => MySqlSslMode::VerifyIdentity,
                    false => MySqlSslMode::Required,
                };
                let mut options = options.ssl_mode(mode);
                if let Some(path) = &tls.ca_file {
                    options = options.ssl_ca(path);
                }
                if let Some(path) = &tls.cert_file {
                    options = options.ssl_client_cert(path);
                }
                if let Some(path) = &tls.key_file {
                    options = options.ssl_client_key(path);
                }
                options
            }
        };
        Ok(Self {
            name: format!("mysql {}/{}", settings.server, settings.database),
            options,
            pool_options: MySqlPoolOptions::new()
                .max_connections(settings.pool)
                .acquire_timeout(settings.timeout),
            pool: OnceLock::new(),
        })
    }

    async fn fetch(
        &self,
        sql: &str,
        parameters: Vec<Option<String>>,
        limit: usize,
    ) -> Result<Vec<Row>, String> {
        let pool = self.pool.get_or_init(|| {
            let options = self.pool_options.clone();
            options.connect_lazy_with(self.options.clone())
        });
        // The text is the configuration's; values are parameters.
        let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        for parameter in parameters {
            query = query.bind(parameter);
        }
        let rows = query.fetch_all(pool).await;
        let rows = rows.map_err(|error| error.to_string())?;
        rows.iter().take(limit).map(row).collect()
    }
}

fn row(row: &MySqlRow) -> Result<Row, String> {
    let mut columns = Vec::new();
    for column in row.columns() {
        let at = column.ordinal();
        let raw = row.try_get_raw(at).map_err(|error| error.to_string())?;
        let kind = raw.type_info().name().to_owned();
        let value = if raw.is_null() {
            Ok(None)
        } else if kind == "BOOLEAN" {
            row.try_get::<bool, _>(at)
                .map(|truth| Some(u8::from(truth).to_string()))
        } else if kind.ends_with("INT UNSIGNED") {
            row.try_get::<u64, _>(at).map(|n| Some(n.to_string()))
        } else if kind.ends_with("INT") {
            row.try_get::<i64, _>(at).map(|n| Some(n.to_string()))
        } else {
            row.try_get_unchecked::<String, _>(at).map(Some)
        };
        let value = value.map_err(|_| {
            let name = column.name();
            format!("expected text or a number in column {name:?}, got {kind}")
        })?;
        columns.push((column.name().to_owned(), value));
    }
    Ok(Row(columns))
}

impl Database for MySql {
    const STYLE: Style = Style::Question;

    fn name(&self) -> &str {
        &self.name
    }

    fn run<'a>(
        &'a self,
        sql: &'a str,
        parameters: Vec<Option<String>>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, String>> {
        Box::pin(self.fetch(sql, parameters, limit))
    }
}
