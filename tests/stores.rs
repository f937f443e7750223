//! Data in object stores, served by a small S3 of this machine: the same run as from a folder.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{stderr, stdout};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// A server of objects, as S3 below `/bucket/` and as a plain web server below `/web/`.
struct Server {
    address: String,
    served: Arc<Served>,
}

#[derive(Default)]
struct Served {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Requests that are still to fail as those of a busy server do.
    busy: AtomicUsize,
    requests: AtomicUsize,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = Arc::new(Served::default());
        let shared = served.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = shared.clone();
                std::thread::spawn(move || {
                    // A client that hangs up ends its thread.
                    let _ = served.talk(stream);
                });
            }
        });
        Self { address, served }
    }

    fn put(&self, key: impl Into<String>, bytes: Vec<u8>) {
        self.served.objects.lock().unwrap().insert(key.into(), bytes);
    }

    /// Runs `lejepa` with what a user would set in the environment.
    fn run(&self, dir: &Path, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lejepa"))
            .current_dir(dir)
            .args(words)
            .env("AWS_ENDPOINT", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_SKIP_SIGNATURE", "true")
            .output()
            .unwrap()
    }
}

impl Served {
    fn talk(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (mut range, mut body) = (None, 0);
            let mut words = line.split_whitespace();
            let method = words.next().unwrap_or_default().to_string();
            let target = words.next().unwrap_or_default().to_string();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(bytes) = header.strip_prefix("range: bytes=") {
                    range = bytes.split_once('-').map(|(a, b)| (a.to_string(), b.to_string()));
                }
                if let Some(length) = header.strip_prefix("content-length: ") {
                    body = length.parse().unwrap_or(0);
                }
            }
            std::io::copy(&mut (&mut reader).take(body), &mut std::io::sink())?;
            self.answer(&mut writer, &method, &target, range)?;
        }
    }

    fn answer(
        &self,
        to: &mut TcpStream,
        method: &str,
        target: &str,
        range: Option<(String, String)>,
    ) -> std::io::Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let busy =
            self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if busy.is_ok() {
            return to.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (_, key) = path.trim_start_matches('/').split_once('/').unwrap_or(("", ""));
        let mut write = |status: &str, head: &str, length: usize, body: &[u8]| {
            let body = if method == "HEAD" { &[][..] } else { body };
            write!(
                to,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"1\"\r\n\
                 Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{head}\r\n"
            )?;
            to.write_all(body)
        };
        let objects = self.objects.lock().unwrap();
        if query.contains("list-type=2") {
            let field = |name: &str| {
                let value = query.split('&').find_map(|pair| pair.strip_prefix(name))?;
                Some(value.replace("%2F", "/"))
            };
            let prefix = field("prefix=").unwrap_or_default();
            let from = field("continuation-token=").unwrap_or_default();
            // Pages of a few objects, so that there are several.
            let all = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > from);
            let page: Vec<_> = all.take(20).collect();
            let entry = |(key, bytes): &(&String, &Vec<u8>)| {
                let size = bytes.len();
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"1\"</ETag><Size>{size}</Size></Contents>"
                )
            };
            let entries: String = page.iter().map(entry).collect();
            let more = match page.last() {
                Some((last, _)) if page.len() == 20 => format!(
                    "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
                ),
                _ => "<IsTruncated>false</IsTruncated>".into(),
            };
            let body = format!("<ListBucketResult>{more}{entries}</ListBucketResult>");
            return write("200 OK", "", body.len(), body.as_bytes());
        }
        let Some(bytes) = objects.get(key) else {
            return write("404 Not Found", "", 0, &[]);
        };
        match range {
            None => write("200 OK", "", bytes.len(), bytes),
            Some((from, to)) => {
                let from: usize = from.parse().unwrap();
                let to = to.parse().map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
                let head = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, bytes.len());
                write("206 Partial Content", &head, to - from, &bytes[from..to])
            }
        }
    }
}

/// Pictures of two classes.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(3);
    let mut made = Vec::new();
    for index in 0..48u8 {
        let (class, base) = [("dark", 20u8), ("light", 180)][usize::from(index % 2)];
        let pixels = (0..24 * 24).map(|_| base + rng.random_range(0..60u8)).collect();
        let picture = image::GrayImage::from_raw(24, 24, pixels).unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        made.push((format!("{class}/{index:03}.png"), bytes.into_inner()));
    }
    made.sort();
    made
}

fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn train<'a>(data: &'a str, output: &'a str, steps: &'a str) -> Vec<&'a str> {
    let mut words = vec!["train", "--modality", "image", "--data", data, "--output", output];
    words.extend(["--preset", "none", "--steps", steps, "--device", "cpu"]);
    for setting in [
        "train.batch=8",
        "train.log_every=1",
        "encoder.name=vit",
        "encoder.width=12",
        "encoder.depth=1",
        "projector.hidden=16",
        "projector.output=8",
        "objective.slices=16",
        "probe.steps=20",
        "data.cache_mib=0",
    ] {
        words.extend(["--set", setting]);
    }
    words
}

/// Losses of every step, to the bit.
fn losses(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap().to_bits()).collect()
}

#[test]
fn a_run_on_a_store_is_the_run_on_the_same_files() {
    let (d, server) = (tempfile::tempdir().unwrap(), Server::start());
    let pictures = pictures();
    for (name, bytes) in &pictures {
        let file = d.path().join("photos").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
        server.put(format!("photos/{name}"), bytes.clone());
    }
    // What a store may hold beside samples: an object for a folder, hidden files, other files.
    for (key, bytes) in [("photos/dark/", ""), ("photos/.cache/x.png", "?"), ("photos/a.txt", "?")]
    {
        server.put(key, bytes.into());
    }
    server.served.busy.store(2, Ordering::Relaxed);
    let manifest: String =
        pictures.iter().map(|(name, _)| format!("{name},{}\n", &name[..4])).collect();
    server.put("photos/all.csv", format!("path,label\n{manifest}").into_bytes());
    let local = server.run(d.path(), &train("photos", "local", "6"));
    assert!(local.status.success(), "{}", stderr(&local));
    for (data, output) in
        [("s3://bucket/photos", "folder"), ("s3://bucket/photos/all.csv", "manifest")]
    {
        let out = server.run(d.path(), &train(data, output, "6"));
        assert!(out.status.success(), "{}", stderr(&out));
        // Gone on with: the store is read again from its URL.
        let resumed = server.run(d.path(), &["resume", output, "--steps", "3"]);
        assert!(resumed.status.success(), "{}", stderr(&resumed));
    }
    let resumed = server.run(d.path(), &["resume", "local", "--steps", "3"]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let here = losses(&d.path().join("local"));
    assert_eq!(here.len(), 9);
    for output in ["folder", "manifest"] {
        assert_eq!(here, losses(&d.path().join(output)), "{output}");
    }
    assert_eq!(server.served.busy.load(Ordering::Relaxed), 0);
    let data = ["data", "s3://bucket/photos", "--modality", "image"];
    let told = stdout(&server.run(d.path(), &data));
    for words in ["38 samples to train on", "2 classes", "passed over 1 files .txt"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn shards_are_read_by_ranges_from_a_store_and_from_a_web_server() {
    let (d, server) = (tempfile::tempdir().unwrap(), Server::start());
    let pictures = pictures();
    std::fs::create_dir(d.path().join("shards")).unwrap();
    for (index, part) in pictures.chunks(16).enumerate() {
        let bytes = tar(part);
        std::fs::write(d.path().join(format!("shards/part-{index:02}.tar")), &bytes).unwrap();
        server.put(format!("shards/part-{index:02}.tar"), bytes);
    }
    let local = server.run(d.path(), &train("shards", "local", "4"));
    assert!(local.status.success(), "{}", stderr(&local));
    let web = format!("http://{}/web/shards/part-{{00..02}}.tar", server.address);
    for (data, output) in [("s3://bucket/shards", "s3"), (web.as_str(), "web")] {
        let out = server.run(d.path(), &train(data, output, "4"));
        assert!(out.status.success(), "{}", stderr(&out));
        assert_eq!(losses(&d.path().join("local")), losses(&d.path().join(output)), "{data}");
    }
}

#[test]
fn stores_that_cannot_be_read_are_errors_of_one_line_with_a_hint() {
    let (d, server) = (tempfile::tempdir().unwrap(), Server::start());
    server.put("empty/a.txt", b"?".to_vec());
    let web = format!("http://{}/web/photos", server.address);
    for (data, says) in [
        ("s3://bucket/nothing", "no usable files"),
        ("s3://bucket/empty", "files .txt"),
        ("s3://bucket/gone.tar", "not found"),
        ("ftp://host/photos", "no store is reached by ftp://"),
        (web.as_str(), "no listing"),
    ] {
        let out = server.run(d.path(), &train(data, "run", "2"));
        let text = stderr(&out);
        assert!(!out.status.success(), "{data}");
        assert!(text.contains(says), "{data}: {text}");
        assert!(text.contains("hint:"), "{data}: {text}");
        assert!(!d.path().join("run").exists());
    }
}
