//! The dashboard's files, embedded: what the HTTP server answers on every path that is not its own.
//!
//! The sources are in `web/` (Svelte, TypeScript, Vite); `build.rs` builds them with npm and embeds the result gzipped.
//! To work on them with reload: `npm ci && npm run dev` in `web/`, which passes the API on to a node at
//! `NIGHTJAR_API` (`http://127.0.0.1:18083`). Where it was not built, [`asset`] knows one plain page that says what to
//! install. Nothing here does I/O.
//!
//! ```
//! let page = nightjar_ui::asset("/").expect("there is always a page");
//! assert_eq!(page.content_type, "text/html; charset=utf-8");
//! assert!(nightjar_ui::asset("/../etc/passwd").is_none());
//! ```

mod policy;

pub use policy::content_security_policy;

/// One file of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The value of `ETag`, in its quotes: a digest of the content.
    pub etag: &'static str,
    /// Whether the name holds a digest of the content, so that a browser may keep the file for ever.
    pub immutable: bool,
    /// The file in gzip (RFC 1952): answer it with `Content-Encoding: gzip`.
    pub gzip: &'static [u8],
}

impl Asset {
    /// The value of `Cache-Control`: for ever for names that hold a digest, else to be asked again with the ETag.
    #[must_use]
    pub fn cache_control(&self) -> &'static str {
        if self.immutable {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        }
    }

    /// Whether the value of `If-None-Match` names this content (RFC 9110 section 13.1.2): then 304 is the answer.
    #[must_use]
    pub fn matches(&self, if_none_match: &str) -> bool {
        if_none_match
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag)
    }
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file that answers a request path; `/` is the page. Nothing else is looked for: the dashboard keeps its own
/// places behind `#`, so an unknown path is a 404.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let name = path.strip_prefix('/').unwrap_or(path);
    let name = if name.is_empty() { "index.html" } else { name };
    let at = ASSETS
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()?;
    Some(ASSETS[at].1)
}

/// Whether this is the dashboard, and not the plain page that stands in for it where npm was missing at build time.
#[must_use]
pub fn built() -> bool {
    BUILT
}

/// The paths of all files, without a leading `/`.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(name, _)| *name)
}
