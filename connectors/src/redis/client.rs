//! A small client of Redis: a bounded pool of connections, one command at a time on each.

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::resp::{self, Value};
use crate::ConnectorError;
use crate::address::Stream;
use crate::tls::{Tls, TlsSettings};

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `server`: host and port.
    pub server: String,
    /// `database`: its number.
    pub database: u16,
    /// `username`, for servers with users.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<String>,
    /// `pool`: connections at once.
    pub pool: usize,
    /// `tls`, where it is enabled.
    pub tls: Option<TlsSettings>,
}

impl RedisSettings {
    /// The defaults with this server: database 0, no password, 8 connections, no TLS.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            database: 0,
            username: None,
            password: None,
            pool: 8,
            tls: None,
        }
    }
}

type Connection = BufReader<Box<dyn Stream>>;

pub(super) struct Client {
    settings: RedisSettings,
    name: String,
    tls: Option<Tls>,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    pub fn new(settings: &RedisSettings) -> Result<Self, ConnectorError> {
        let host = crate::address::host(&settings.server)?;
        let tls = settings.tls.as_ref().map(|tls| Tls::new(tls, host));
        Ok(Self {
            name: format!("redis {}", settings.server),
            tls: tls.transpose()?,
            slots: Semaphore::new(settings.pool.clamp(1, 1024)),
            idle: Mutex::default(),
            settings: settings.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a command and waits for its answer. An error of the server is `Err`.
    pub async fn ask(&self, arguments: &[String]) -> Result<Value, String> {
        let _slot = self.slots.acquire().await;
        let command = resp::encode(arguments);
        let kept = self.idle.lock().pop();
        // A kept connection may have been closed by the server: all commands here only read, so once more is harmless.
        let answer = match kept {
            Some(connection) => match self.exchange(connection, &command).await {
                Ok(answer) => Ok(answer),
                Err(_) => self.fresh(&command).await,
            },
            None => self.fresh(&command).await,
        };
        match answer.map_err(|error| error.to_string())? {
            Value::Error(error) => Err(error),
            value => Ok(value),
        }
    }

    async fn fresh(&self, command: &[u8]) -> std::io::Result<Value> {
        let connection = self.connect().await?;
        self.exchange(connection, command).await
    }

    async fn exchange(&self, mut connection: Connection, command: &[u8]) -> std::io::Result<Value> {
        let answer = talk(&mut connection, command).await?;
        // Only a connection whose answer was read to its end comes back.
        self.idle.lock().push(connection);
        Ok(answer)
    }

    async fn connect(&self) -> std::io::Result<Connection> {
        let tcp = TcpStream::connect(&self.settings.server).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.connect(tcp).await?),
        };
        let mut connection = BufReader::new(stream);
        if let Some(password) = &self.settings.password {
            let mut login = vec!["AUTH".to_owned()];
            login.extend(self.settings.username.clone());
            login.push(password.clone());
            expect_ok(talk(&mut connection, &resp::encode(&login)).await?, "AUTH")?;
        }
        if self.settings.database != 0 {
            let select = ["SELECT".to_owned(), self.settings.database.to_string()];
            expect_ok(
                talk(&mut connection, &resp::encode(&select)).await?,
                "SELECT",
            )?;
        }
        Ok(connection)
    }
}

async fn talk(connection: &mut Connection, command: &[u8]) -> std::io::Result<Value> {
    connection.write_all(command).await?;
    connection.flush().await?;
    resp::read(connection).await
}

fn expect_ok(answer: Value, command: &str) -> std::io::Result<()> {
    match answer {
        Value::Text(text) if text == b"OK" => Ok(()),
        Value::Error(error) => Err(std::io::Error::other(format!("{command}: {error}"))),
        _ => Err(std::io::Error::other(format!("{command}: expected OK"))),
    }
}
