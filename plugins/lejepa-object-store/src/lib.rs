//! Data in object stores: `s3://bucket/photos`, `gs://`, `az://`, and archives or manifests on web servers.
//!
//! Linking this crate is enough, since it submits a [`Scheme`]: `use lejepa_object_store as _;`. Credentials and
//! settings come from the environment, by the names that [`object_store`] gives them: `AWS_ACCESS_KEY_ID`,
//! `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, `AWS_SKIP_SIGNATURE`, `GOOGLE_SERVICE_ACCOUNT`,
//! `AZURE_STORAGE_ACCOUNT_NAME`, ... Requests that fail for reasons that pass are repeated.
//!
//! ```no_run
//! use lejepa_core::{SampleRule, Source};
//! use lejepa_object_store as _;
//!
//! let photos = Source::resolve("s3://bucket/photos", SampleRule::new(&["jpg"]))?;
//! let shards = Source::resolve("https://host/train-{000..099}.tar", SampleRule::new(&["jpg"]))?;
//! # let _ = (photos, shards);
//! # Ok::<(), lejepa_core::Error>(())
//! ```
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use futures_util::TryStreamExt;
use lejepa_core::{Object, Objects, Scheme, inventory};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;
use url::Url;

inventory::submit!(Scheme {
    names: &["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "http", "https"],
    open,
});

/// Web servers have no listing that all of them agree on.
const WEB: [&str; 2] = ["http", "https"];

#[derive(Debug)]
struct Store {
    store: Box<dyn ObjectStore>,
    lists: bool,
}

/// Where requests run; the threads of the loader wait for it.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let made = builder.worker_threads(2).thread_name("object-store").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

fn failed(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => io::ErrorKind::Unsupported,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    let text = error.to_string();
    io::Error::new(kind, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn open(address: &str) -> io::Result<(Arc<dyn Objects>, String)> {
    let bad = |e: url::ParseError| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    let url = Url::parse(address).map_err(bad)?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| (name.to_ascii_lowercase(), value));
    // Whoever writes http:// means it.
    let plain = (url.scheme() == "http").then(|| ("allow_http".to_string(), "true".to_string()));
    let (store, path) =
        object_store::parse_url_opts(&url, environment.chain(plain)).map_err(failed)?;
    let lists = !WEB.contains(&url.scheme());
    Ok((Arc::new(Store { store, lists }), path.to_string()))
}

impl Objects for Store {
    fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        if !self.lists {
            let reason = "a web server has no listing of its files";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let prefix = Path::parse(prefix).map_err(|e| failed(e.into()))?;
        let found = self.store.list(Some(&prefix));
        let object = |meta: object_store::ObjectMeta| Object {
            key: meta.location.to_string(),
            length: meta.size,
        };
        runtime()?.block_on(found.map_ok(object).try_collect()).map_err(failed)
    }

    fn length(&self, key: &str) -> io::Result<u64> {
        let path = Path::parse(key).map_err(|e| failed(e.into()))?;
        Ok(runtime()?.block_on(self.store.head(&path)).map_err(failed)?.size)
    }

    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let path = Path::parse(key).map_err(|e| failed(e.into()))?;
        let bytes = runtime()?.block_on(self.store.get_range(&path, range)).map_err(failed)?;
        Ok(bytes.into())
    }
}
