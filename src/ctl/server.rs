//! The node's side of `ctl`: a Unix socket and the verbs it answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::protocol::{CtlError, ErrorCode, MAX_LINE, Reply, Request};

/// Conversations at once; more wait at the socket, and are refused over HTTP.
const MAX_CONVERSATIONS: usize = 32;
/// Time for a request to arrive, and for a reader to take what is written.
const PATIENCE: Duration = Duration::from_secs(10);

/// A boxed future of a verb.
pub type VerbFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, CtlError>> + Send + 'a>>;

/// Something `ctl` can ask for.
pub trait CtlVerb: Send + Sync {
    /// Does it. Entries of a list go to `rows` one by one; the result is shown after them.
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a>;
}

/// A verb whose answer is one value: any async function of its arguments.
struct Simple<F>(F);

impl<F, R> CtlVerb for Simple<F>
where
    F: Fn(Value) -> R + Send + Sync,
    R: Future<Output = Result<Value, CtlError>> + Send + 'static,
{
    fn run<'a>(&'a self, args: Value, _rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin((self.0)(args))
    }
}

/// The verbs of a node. Each part of the broker adds its own before the server starts.
pub struct Registry {
    verbs: BTreeMap<&'static str, (&'static str, Box<dyn CtlVerb>)>,
    /// Places of [`Self::answer_over`].
    remote: Semaphore,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            verbs: BTreeMap::new(),
            remote: Semaphore::new(MAX_CONVERSATIONS),
        }
    }
}

impl Registry {
    /// No verbs but `help`, which lists them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a verb. `about` says in a few words what it does. A name given twice is replaced.
    pub fn add(&mut self, name: &'static str, about: &'static str, verb: impl CtlVerb + 'static) {
        self.verbs.insert(name, (about, Box::new(verb)));
    }

    /// Adds a verb whose answer is one value.
    pub fn add_fn<F, R>(&mut self, name: &'static str, about: &'static str, verb: F)
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, CtlError>> + Send + 'static,
    {
        self.add(name, about, Simple(verb));
    }

    /// Answers one request.
    async fn answer(&self, request: Request, rows: &mut Rows<'_>) -> Result<Value, CtlError> {
        if request.verb == "help" {
            rows.columns(&["verb", "about"]).await?;
            for (name, (about, _)) in &self.verbs {
                rows.row(&json!({ "verb": name, "about": about })).await?;
            }
            return Ok(Value::Null);
        }
        match self.verbs.get(request.verb.as_str()) {
            Some((_, verb)) => verb.run(request.args, rows).await,
            None => {
                let names: Vec<&str> = self.verbs.keys().copied().collect();
                Err(
                    CtlError::new(ErrorCode::Usage, "this node does not know that verb")
                        .help(format!("it knows: help, {}", names.join(", "))),
                )
            }
        }
    }
}

impl Registry {
    /// Answers one request line over a stream, as lines that are sent as they come. It ends with its answer, or when
    /// the other side is gone.
    pub async fn answer_over(&self, line: &[u8], stream: tokio::io::DuplexStream) {
        let (mut reader, writer) = tokio::io::split(stream);
        let mut writer = BufWriter::new(writer);
        let answer = async {
            let mut rows = Rows {
                writer: &mut writer,
            };
            let result = match self.remote.try_acquire() {
                Ok(_place) => match serde_json::from_slice::<Request>(line) {
                    Ok(request) => self.answer(request, &mut rows).await,
                    Err(error) => Err(not_a_request(&error)),
                },
                Err(_) => Err(CtlError::new(
                    ErrorCode::Refused,
                    format!("{MAX_CONVERSATIONS} answers are on their way already"),
                )
                .help("end a `ctl trace tail --url`, or ask on the node itself")),
            };
            let last = match result {
                Ok(value) => Reply::End(value),
                Err(error) => Reply::Error(error),
            };
            // Nobody is left to tell that nobody reads.
            if rows.line(&last).await.is_ok() {
                let _ = rows.flush().await;
            }
        };
        // Nothing is ever read but the end: a verb that waits for news would not notice it.
        tokio::select! {
            () = answer => {}
            _ = reader.read_u8() => {}
        }
    }
}

fn not_a_request(error: &serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::Usage, format!("not a request: {error}"))
}

/// Where a verb puts the entries of a list.
pub struct Rows<'a> {
    writer: &'a mut (dyn AsyncWrite + Send + Unpin),
}

impl Rows<'_> {
    /// Says in which order tables show the fields of what follows.
    ///
    /// # Errors
    /// The other side is gone or does not read: the verb should end.
    pub async fn columns(&mut self, names: &[&str]) -> Result<(), CtlError> {
        self.line(&Reply::Columns(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ))
        .await
    }

    /// Sends one entry, and waits while the other side reads slowly.
    ///
    /// # Errors
    /// As [`Self::columns`].
    pub async fn row(&mut self, row: &impl Serialize) -> Result<(), CtlError> {
        let row = serde_json::to_value(row)
            .map_err(|error| CtlError::new(ErrorCode::Failed, error.to_string()))?;
        self.line(&Reply::Row(row)).await
    }

    /// Sends what waits in the buffer, for verbs that follow something live.
    ///
    /// # Errors
    /// As [`Self::columns`].
    pub async fn flush(&mut self) -> Result<(), CtlError> {
        in_time(self.writer.flush()).await
    }

    async fn line(&mut self, reply: &Reply) -> Result<(), CtlError> {
        let mut line = serde_json::to_vec(reply)
            .map_err(|error| CtlError::new(ErrorCode::Failed, error.to_string()))?;
        line.push(b'\n');
        in_time(self.writer.write_all(&line)).await
    }
}

async fn in_time(write: impl Future<Output = io::Result<()>>) -> Result<(), CtlError> {
    let gone = |why: String| CtlError::new(ErrorCode::Failed, why);
    match timeout(PATIENCE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(gone(error.to_string())),
        Err(_) => Err(gone("the other side does not read".into())),
    }
}

/// The socket of a node. Its file is removed when this is dropped.
pub struct CtlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl CtlServer {
    /// Opens the socket, mode 0600. The file of a node that is no more is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if a node answers there; else what the system says.
    pub fn bind(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another node runs with this data_dir",
            ));
        }
        // Made beside its place and moved there, so that it is never open to others.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        remove(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, &path)?;
        Ok(Self { listener, path })
    }

    /// Answers until it is dropped.
    pub async fn run(self, registry: Arc<Registry>) {
        let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let registry = Arc::clone(&registry);
                    tokio::spawn(async move {
                        converse(stream, &registry).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: it may pass.
                    tracing::warn!(%error, "the ctl socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

impl Drop for CtlServer {
    fn drop(&mut self) {
        // Nothing can be done about a file that does not go: the next start replaces it.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Answers the requests of one connection, in order, until it ends or falls silent.
async fn converse(stream: UnixStream, registry: &Registry) {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut writer = BufWriter::new(writer);
    loop {
        let line = match timeout(PATIENCE, read_line(&mut reader)).await {
            Ok(Ok(Some(line))) => line,
            _ => return,
        };
        let mut rows = Rows {
            writer: &mut writer,
        };
        let result = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => registry.answer(request, &mut rows).await,
            Err(error) => Err(not_a_request(&error)),
        };
        let last = match result {
            Ok(value) => Reply::End(value),
            Err(error) => Reply::Error(error),
        };
        if rows.line(&last).await.is_err() || rows.flush().await.is_err() {
            return;
        }
    }
}

/// One line without its end; `None` at the end of the stream, an error if it is longer than [`MAX_LINE`].
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > MAX_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the line is too long",
            ));
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::Client;

    struct Count;

    impl CtlVerb for Count {
        fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
            Box::pin(async move {
                let to = args["to"]
                    .as_u64()
                    .ok_or_else(|| CtlError::new(ErrorCode::Usage, "to is missing"))?;
                rows.columns(&["number"]).await?;
                for number in 0..to {
                    rows.row(&json!({ "number": number })).await?;
                }
                Ok(json!({ "counted": to }))
            })
        }
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("nightjar-ctl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn registry() -> Arc<Registry> {
        let mut registry = Registry::new();
        registry.add("count", "counts", Count);
        registry.add_fn("status", "says how it is", |_| async {
            Ok(json!({ "ready": true }))
        });
        Arc::new(registry)
    }

    #[tokio::test]
    async fn rows_results_and_errors_reach_the_client() {
        let dir = directory("verbs");
        let path = dir.join("ctl.sock");
        let server = CtlServer::bind(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            CtlServer::bind(&path).err().map(|error| error.kind()),
            Some(io::ErrorKind::AddrInUse)
        );
        let running = tokio::spawn(server.run(registry()));
        let ask = move |verb: &'static str, args: Value| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                let mut rows = Vec::new();
                let mut client = Client::connect(&path)?;
                let end = client.call(verb, args, |reply| rows.push(reply))?;
                Ok::<_, CtlError>((end, rows))
            })
        };
        let (end, rows) = ask("count", json!({ "to": 1000 })).await.unwrap().unwrap();
        assert_eq!((end, rows.len()), (json!({ "counted": 1000 }), 1001));
        let (end, _) = ask("status", json!({})).await.unwrap().unwrap();
        assert_eq!(end, json!({ "ready": true }));
        let (_, rows) = ask("help", json!({})).await.unwrap().unwrap();
        let Reply::Row(first) = &rows[1] else {
            panic!("{rows:?}")
        };
        assert_eq!(*first, json!({ "verb": "count", "about": "counts" }));
        let error = ask("count", json!({})).await.unwrap().unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::Usage, "to is missing")
        );
        let error = ask("dance", json!({})).await.unwrap().unwrap_err();
        assert!(error.help.contains("count, status"), "{error:?}");
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert!(
            !dir.join("ctl.sock").exists(),
            "the socket's file goes with the server"
        );
        let error = ask("status", json!({})).await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unreachable);
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// Says one line and then nothing, until it is dropped.
    struct Follow(Arc<Semaphore>);

    impl CtlVerb for Follow {
        fn run<'a>(&'a self, _: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
            Box::pin(async move {
                let _dropped = self.0.clone().acquire_owned().await;
                rows.row(&json!({ "line": "first" })).await?;
                rows.flush().await?;
                std::future::pending().await
            })
        }
    }

    #[tokio::test]
    async fn an_answer_over_http_comes_as_it_is_made_and_ends_with_its_reader() {
        let running = Arc::new(Semaphore::new(1));
        let mut registry = Registry::new();
        registry.add("follow", "follows", Follow(running.clone()));
        registry.add("count", "counts", Count);
        let registry = Arc::new(registry);
        let ask = |request: &'static [u8]| {
            let (ours, theirs) = tokio::io::duplex(64);
            let registry = registry.clone();
            let task = tokio::spawn(async move { registry.answer_over(request, ours).await });
            (BufReader::new(theirs), task)
        };
        let (mut followed, task) = ask(br#"{"verb":"follow","args":{}}"#);
        let line = read_line(&mut followed).await.unwrap().unwrap();
        assert_eq!(line, br#"{"row":{"line":"first"}}"#);
        assert_eq!(running.available_permits(), 0);
        drop(followed);
        task.await.unwrap();
        assert_eq!(running.available_permits(), 1);
        // Longer than what fits in between.
        let (mut counted, task) = ask(br#"{"verb":"count","args":{"to":1000}}"#);
        let mut lines = 0;
        let mut last = Vec::new();
        while let Some(line) = read_line(&mut counted).await.unwrap() {
            (lines, last) = (lines + 1, line);
        }
        assert_eq!((lines, &*last), (1002, &br#"{"end":{"counted":1000}}"#[..]));
        task.await.unwrap();
        let places: Vec<_> = (0..MAX_CONVERSATIONS)
            .map(|_| registry.remote.try_acquire().unwrap())
            .collect();
        let (mut refused, _task) = ask(br#"{"verb":"count","args":{"to":1}}"#);
        let line = read_line(&mut refused).await.unwrap().unwrap();
        assert!(line.starts_with(br#"{"error""#));
        drop(places);
    }

    #[tokio::test]
    async fn garbage_ends_no_more_than_its_own_conversation() {
        use tokio::io::AsyncReadExt;
        let dir = directory("garbage");
        let path = dir.join("ctl.sock");
        let running = tokio::spawn(CtlServer::bind(&path).unwrap().run(registry()));
        let mut bad = UnixStream::connect(&path).await.unwrap();
        bad.write_all(b"\xff\xfe not json\n").await.unwrap();
        let mut answer = vec![0; 8];
        bad.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"{\"error\"");
        let mut long = UnixStream::connect(&path).await.unwrap();
        // The server hangs up in the middle of it.
        let _ = long.write_all(&vec![b'x'; MAX_LINE + 2]).await;
        let mut rest = Vec::new();
        let _ = long.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        let path2 = path.clone();
        let end = tokio::task::spawn_blocking(move || {
            Client::connect(&path2)?.call("status", json!({}), |_| {})
        })
        .await
        .unwrap();
        assert_eq!(end.unwrap(), json!({ "ready": true }));
        running.abort();
        let _ = running.await;
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn the_file_of_a_dead_node_is_replaced() {
        let dir = directory("stale");
        let path = dir.join("ctl.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        CtlServer::bind(&path).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
