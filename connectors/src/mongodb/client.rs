//! A small client of MongoDB: a bounded pool of connections, one command at a time on each.

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::MongoSettings;
use super::bson::{Document, Value, Writer, Wrong};
use super::login::{self, Login};
use super::message;
use crate::ConnectorError;
use crate::address::{Stream, host, host_and_port};
use crate::tls::Tls;

/// Members of a replica set that are remembered.
const MAX_MEMBERS: usize = 50;

pub(super) struct Client {
    settings: MongoSettings,
    name: String,
    tls: Option<Tls>,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// Other members of the replica set, as the last one that answered named them.
    members: Mutex<Vec<String>>,
    /// The salted password: made once for a salt, because it is slow on purpose.
    salted: Mutex<Option<Salted>>,
}

/// A salted password, and what it was made of beside the password.
struct Salted {
    salt: Vec<u8>,
    iterations: u32,
    password: [u8; 32],
}

struct Connection {
    stream: Box<dyn Stream>,
    last: i32,
}

/// Why an exchange failed.
enum Failure {
    /// The connection: another may do better.
    Io(std::io::Error),
    /// What the server said.
    Said(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Wrong> for Failure {
    fn from(problem: Wrong) -> Self {
        Self::Io(std::io::Error::other(problem))
    }
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::Io(error) => error.to_string(),
            Self::Said(text) => text,
        }
    }
}

impl Client {
    pub fn new(settings: &MongoSettings) -> Result<Self, ConnectorError> {
        let wrong = |key, problem: &str| ConnectorError::Setting {
            key,
            problem: problem.to_owned(),
        };
        let host = host(&settings.server)?;
        match (&settings.username, &settings.password) {
            (Some(name), Some(_)) if !name.is_empty() => {}
            (None, None) => {}
            (Some(_), None) => return Err(wrong("password", "expected the password of username")),
            _ => {
                return Err(wrong(
                    "username",
                    "expected the name that password belongs to",
                ));
            }
        }
        let tls = settings.tls.as_ref().map(|tls| Tls::new(tls, host));
        Ok(Self {
            name: format!("mongodb {}/{}", settings.server, settings.database),
            tls: tls.transpose()?,
            slots: Semaphore::new(settings.pool.clamp(1, 1024)),
            idle: Mutex::default(),
            members: Mutex::default(),
            salted: Mutex::default(),
            settings: settings.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The documents of a collection that have these fields, `limit` at most, each given to `take`.
    pub async fn find<T>(
        &self,
        collection: &str,
        filter: &[(String, String)],
        fields: &[&str],
        limit: i32,
        take: impl Fn(Document<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let _slot = self.slots.acquire().await;
        let question = || {
            let values = filter
                .iter()
                .fold(Writer::default(), |all, (key, value)| all.text(key, value));
            let wanted = fields
                .iter()
                .fold(Writer::default(), |all, key| all.number(key, 1));
            let command = Writer::default()
                .text("find", collection)
                .document("filter", values)
                .document("projection", wanted)
                .number("limit", limit)
                .truth("singleBatch", true)
                .text("$db", &self.settings.database);
            match self.settings.replica_set {
                None => command,
                // Whichever member is asked may answer.
                Some(_) => command.document(
                    "$readPreference",
                    Writer::default().text("mode", "primaryPreferred"),
                ),
            }
        };
        let kept = self.idle.lock().pop();
        // A kept connection may have been closed by the server: this only reads, so once more is harmless.
        let answer = match kept {
            Some(mut connection) => match connection.ask(question()).await {
                Err(Failure::Io(_)) => None,
                answer => Some((connection, answer)),
            },
            None => None,
        };
        let (connection, answer) = match answer {
            Some(answered) => answered,
            None => {
                let mut connection = self.connect().await.map_err(Failure::text)?;
                let answer = connection.ask(question()).await;
                (connection, answer)
            }
        };
        let answer = match answer {
            // The answer was read to its end.
            Ok(_) | Err(Failure::Said(_)) => {
                self.idle.lock().push(connection);
                answer.map_err(Failure::text)?
            }
            Err(failure) => return Err(failure.text()),
        };
        documents(&answer, take)
    }

    /// A connection to the server of the settings, or to another member of its replica set.
    async fn connect(&self) -> Result<Connection, Failure> {
        let first = self.connect_to(&self.settings.server).await;
        let mut failure = match first {
            Err(Failure::Io(error)) => Failure::Io(error),
            other => return other,
        };
        let members = self.members.lock().clone();
        for member in members.iter().filter(|it| **it != self.settings.server) {
            match self.connect_to(member).await {
                Err(Failure::Io(error)) => failure = Failure::Io(error),
                other => return other,
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, server: &str) -> Result<Connection, Failure> {
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let host = host_and_port(server).ok().map(|(host, _)| host);
                let tls = host.and_then(|host| tls.for_host(host));
                let tls = tls.ok_or("expected a name that certificates have")?;
                Box::new(tls.connect(tcp).await?)
            }
        };
        let mut connection = Connection { stream, last: 0 };
        let hello = connection
            .ask(Writer::default().number("hello", 1).text("$db", "admin"))
            .await?;
        self.greeted(Document::read(&hello)?.0)?;
        if let (Some(username), Some(password)) = (&self.settings.username, &self.settings.password)
        {
            self.log_in(&mut connection, username, password).await?;
        }
        Ok(connection)
    }

    /// Looks at the greeting: the replica set's name, and who belongs to it.
    fn greeted(&self, hello: Document<'_>) -> Result<(), Failure> {
        let Some(wanted) = &self.settings.replica_set else {
            return Ok(());
        };
        match hello.get("setName")? {
            Some(Value::Text(name)) if name == wanted => {}
            Some(Value::Text(name)) => {
                return Err(Failure::Said(format!(
                    "expected a member of the replica set {wanted:?}, got one of {name:?}"
                )));
            }
            _ => {
                return Err(Failure::Said(format!(
                    "expected a member of the replica set {wanted:?}, got a server of none"
                )));
            }
        }
        let mut members = Vec::new();
        if let Some(Value::Array(mut hosts)) = hello.get("hosts")? {
            while let Some((_, host)) = hosts.next()? {
                if let Value::Text(host) = host
                    && host_and_port(host).is_ok()
                    && members.len() < MAX_MEMBERS
                {
                    members.push(host.to_owned());
                }
            }
        }
        *self.members.lock() = members;
        Ok(())
    }

    async fn log_in(
        &self,
        connection: &mut Connection,
        username: &str,
        password: &str,
    ) -> Result<(), Failure> {
        let source = &self.settings.auth_source;
        let (login, first) = Login::begin(username).map_err(Failure::Said)?;
        let start = Writer::default()
            .number("saslStart", 1)
            .text("mechanism", "SCRAM-SHA-256")
            .bytes("payload", first.as_bytes())
            .document(
                "options",
                Writer::default().truth("skipEmptyExchange", true),
            )
            .text("$db", source);
        let answer = connection.ask(start).await?;
        let (id, payload, _) = step(&answer)?;
        let challenge = login.challenge(payload).map_err(Failure::Said)?;
        let salted = self
            .salted(password, &challenge.salt, challenge.iterations)
            .await?;
        let (last, expected) = login.answer(&challenge, &salted);
        let go_on = |payload: &str| {
            Writer::default()
                .number("saslContinue", 1)
                .number("conversationId", id)
                .bytes("payload", payload.as_bytes())
                .text("$db", source)
        };
        let answer = connection.ask(go_on(&last)).await?;
        let (_, payload, done) = step(&answer)?;
        if !login::proven(&expected, payload) {
            let problem = "login: the server does not know the password that it accepts";
            return Err(Failure::Said(problem.to_owned()));
        }
        if !done && !step(&connection.ask(go_on("")).await?)?.2 {
            return Err(Failure::Said("login: expected its end".to_owned()));
        }
        Ok(())
    }

    /// The password with this salt, made on a thread that may block.
    async fn salted(
        &self,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], Failure> {
        if let Some(known) = &*self.salted.lock()
            && (known.salt.as_slice(), known.iterations) == (salt, iterations)
        {
            return Ok(known.password);
        }
        let (password, own) = (password.to_owned(), salt.to_vec());
        let made = tokio::task::spawn_blocking(move || login::salted(&password, &own, iterations));
        let made = made.await.ok().flatten();
        let made = made.ok_or("expected iterations of SCRAM-SHA-256 within bounds")?;
        *self.salted.lock() = Some(Salted {
            salt: salt.to_vec(),
            iterations,
            password: made,
        });
        Ok(made)
    }
}

/// A step of a login: its number, the server's message, whether it was the last.
fn step(answer: &[u8]) -> Result<(i32, &[u8], bool), Failure> {
    let (answer, _) = Document::read(answer)?;
    let id = match answer.get("conversationId")? {
        Some(Value::Integer(id)) => i32::try_from(id).ok(),
        _ => None,
    };
    match (id, answer.get("payload")?, answer.get("done")?) {
        (Some(id), Some(Value::Bytes(payload)), Some(Value::Truth(done))) => {
            Ok((id, payload, done))
        }
        _ => Err("expected a step of SCRAM-SHA-256".into()),
    }
}

/// The documents of a find's answer.
pub(super) fn documents<T>(
    answer: &[u8],
    take: impl Fn(Document<'_>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let (answer, _) = Document::read(answer)?;
    let Some(Value::Array(mut batch)) = answer.at("cursor.firstBatch")? else {
        return Err("expected a cursor with its first batch as answer".to_owned());
    };
    let mut found = Vec::new();
    while let Some((_, document)) = batch.next()? {
        match document {
            Value::Document(document) => found.push(take(document)?),
            _ => return Err("expected documents in the answer".to_owned()),
        }
    }
    Ok(found)
}

impl Connection {
    /// Sends a command and waits for its answer, a whole document. An error of the server is one here.
    async fn ask(&mut self, command: Writer) -> Result<Vec<u8>, Failure> {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.stream
            .write_all(&message::command(self.last, command))
            .await?;
        self.stream.flush().await?;
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let size = message::rest_of(head)?;
        // The length comes from the other side: room is made as bytes come.
        let mut bytes = Vec::new();
        let limit = u64::try_from(size).unwrap_or(u64::MAX);
        (&mut self.stream)
            .take(limit)
            .read_to_end(&mut bytes)
            .await?;
        if bytes.len() < size {
            return Err(Failure::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let answer = message::answer(self.last, &bytes)?;
        match message::failed(answer)? {
            Some(problem) => Err(Failure::Said(problem)),
            None => Ok(answer.whole()),
        }
    }
}
