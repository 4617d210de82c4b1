//! PostgreSQL.

use std::net::IpAddr;
use std::sync::OnceLock;

use nightjar_broker::access::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row as _, TypeInfo, ValueRef};

use super::query::Style;
use super::value::Row;
use super::{Database, SqlSettings};
use crate::ConnectorError;

/// A PostgreSQL server.
pub struct Postgres {
    name: String,
    options: PgConnectOptions,
    pool_options: PgPoolOptions,
    /// Made with the first question, because it needs the runtime.
    pool: OnceLock<PgPool>,
}

impl Postgres {
    /// The server of these settings. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectorError::Setting`] if the address is none.
    pub fn new(settings: &SqlSettings) -> Result<Self, ConnectorError> {
        let (host, port) = crate::address::host_and_port(&settings.server)?;
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(port)
            .username(&settings.username)
            .database(&settings.database)
            .application_name("nightjar")
            .disable_statement_logging();
        if let Some(password) = &settings.password {
            options = options.password(password);
        }
        options = match &settings.tls {
            None => options.ssl_mode(PgSslMode::Disable),
            Some(tls) => {
                let mode = match tls.verify {
                    true => PgSslMode::VerifyFull,
                    false => PgSslMode::Require,
                };
                let mut options = options.ssl_mode(mode);
                if let Some(path) = &tls.ca_file {
                    options = options.ssl_root_cert(path);
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
            name: format!("postgres {}/{}", settings.server, settings.database),
            options,
            pool_options: PgPoolOptions::new()
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

fn row(row: &PgRow) -> Result<Row, String> {
    let mut columns = Vec::new();
    for column in row.columns() {
        let at = column.ordinal();
        let raw = row.try_get_raw(at).map_err(|error| error.to_string())?;
        let kind = raw.type_info().name().to_owned();
        let value = match kind.as_str() {
            _ if raw.is_null() => Some(None),
            "BOOL" => row
                .try_get::<bool, _>(at)
                .ok()
                .map(|truth| Some(u8::from(truth).to_string())),
            "INT2" => row.try_get::<i16, _>(at).ok().map(|n| Some(n.to_string())),
            "INT4" => row.try_get::<i32, _>(at).ok().map(|n| Some(n.to_string())),
            "INT8" => row.try_get::<i64, _>(at).ok().map(|n| Some(n.to_string())),
            "INET" | "CIDR" => raw.as_bytes().ok().and_then(network).map(Some),
            _ => row.try_get_unchecked::<String, _>(at).ok().map(Some),
        };
        let value = value.ok_or_else(|| {
            let name = column.name();
            format!("expected text, a number or an address in column {name:?}, got {kind}")
        })?;
        columns.push((column.name().to_owned(), value));
    }
    Ok(Row(columns))
}

/// The binary form of inet and cidr: family, prefix, a flag, length, address.
fn network(bytes: &[u8]) -> Option<String> {
    let [_, prefix, _, _, address @ ..] = bytes else {
        return None;
    };
    let address: IpAddr = match address.len() {
        4 => <[u8; 4]>::try_from(address).ok()?.into(),
        16 => <[u8; 16]>::try_from(address).ok()?.into(),
        _ => return None,
    };
    Some(format!("{address}/{prefix}"))
}

impl Database for Postgres {
    const STYLE: Style = Style::Dollar;

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
