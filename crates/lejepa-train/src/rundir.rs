//! A run is a folder: its layout, and writing to it so that a crash leaves the old or the new.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use lejepa_core::{Registry, Table};

use crate::observe::StepMetrics;
use crate::resolved::Resolved;
use crate::{Result, TrainError};

/// The folder of one run.
///
/// ```
#[doc = include_str!("doc/resolved.txt")]
#[doc = include_str!("doc/run.txt")]
/// let run = RunDir::open(run.path())?;
/// for file in [run.config_file(), run.info_file(), run.metrics_file(), run.checkpoints()] {
///     assert!(file.exists(), "{}", file.display());
/// }
/// assert_eq!(run.config(&registry)?.settings().train.steps, 2);
/// assert_eq!(run.info()["status"], "finished");
/// assert_eq!(run.last_metrics().map(|m| m.step), Some(2));
/// // Never overwritten unless asked for, and never while a process works in it.
/// assert!(RunDir::create(run.path()).is_err());
/// let lock = run.lock()?;
/// assert!(RunDir::overwrite(run.path()).is_err());
/// drop(lock);
/// let fresh = RunDir::overwrite(run.path())?;
/// assert!(fresh.last_metrics().is_none());
/// let other = RunDir::create_numbered(folder.path(), "digits")?;
/// assert!(other.path().ends_with("digits-001"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

/// A claim on a run folder; see [`RunDir::lock`].
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunDir {
    /// Makes a new run folder.
    ///
    /// # Errors
    /// [`TrainError::OutputExists`] where `root` holds anything, [`TrainError::Io`] where it cannot
    /// be made.
    pub fn create(root: &Path) -> Result<Self> {
        match fs::read_dir(root) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(TrainError::OutputExists(root.to_path_buf()));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(TrainError::io("create", root)(e)),
        }
        let run = Self { root: root.to_path_buf() };
        let checkpoints = run.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(TrainError::io("create", &checkpoints))?;
        Ok(run)
    }

    /// As [`RunDir::create`], but what an earlier run left in `root` is removed first.
    ///
    /// # Errors
    /// As [`RunDir::create`]; [`TrainError::OutputExists`] also where the folder holds something
    /// and is not a run, [`TrainError::Locked`] where a process works in it.
    pub fn overwrite(root: &Path) -> Result<Self> {
        let old = Self { root: root.to_path_buf() };
        if !old.config_file().is_file() && !old.checkpoints().is_dir() {
            return Self::create(root);
        }
        let _lock = old.lock()?;
        let entries = fs::read_dir(root).map_err(TrainError::io("read", root))?;
        for entry in entries.filter_map(Result::ok) {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let ours = ["config.toml", "run.json", "metrics.jsonl"].contains(&name.as_ref())
                || name.starts_with("events.out.tfevents.");
            if ours {
                fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
            } else if name == "checkpoints" {
                fs::remove_dir_all(&path).map_err(TrainError::io("remove", &path))?;
            }
        }
        let checkpoints = old.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(TrainError::io("create", &checkpoints))?;
        Ok(old)
    }

    /// Claims the folder for this process until the lock is dropped or the process ends, however it
    /// ends.
    ///
    /// # Errors
    /// [`TrainError::Locked`] where another process has it, [`TrainError::Io`].
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.root.join("run.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(TrainError::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let by = fs::read_to_string(&path).unwrap_or_default();
                let by =
                    by.trim().parse::<u32>().map_or(String::new(), |n| format!(" (process {n})"));
                return Err(TrainError::Locked { path: self.root.clone(), by });
            }
            Err(fs::TryLockError::Error(e)) => return Err(TrainError::io("lock", &path)(e)),
        }
        // Only for the message above.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(RunLock { _file: file })
    }

    /// Whether a process has the folder now.
    pub fn is_running(&self) -> bool {
        let file = fs::File::open(self.root.join("run.lock"));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// The first free `parent/NAME-001`, `-002`, ...; made by this call.
    ///
    /// # Errors
    /// [`TrainError::Io`] where `parent` cannot be written to.
    pub fn create_numbered(parent: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(parent).map_err(TrainError::io("create", parent))?;
        for number in 1.. {
            let root = parent.join(format!("{name}-{number:03}"));
            match fs::create_dir(&root) {
                Ok(()) => return Self::create(&root),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(TrainError::io("create", &root)(e)),
            }
        }
        Err(TrainError::OutputExists(parent.to_path_buf()))
    }

    /// Opens an existing run.
    ///
    /// # Errors
    /// [`TrainError::NotARun`] where there is no `config.toml`.
    pub fn open(root: &Path) -> Result<Self> {
        let run = Self { root: root.to_path_buf() };
        if !root.is_dir() {
            let reason = "no such folder".to_string();
            return Err(TrainError::NotARun { path: root.to_path_buf(), reason });
        }
        if !run.config_file().is_file() {
            let reason = "it has no config.toml".to_string();
            return Err(TrainError::NotARun { path: root.to_path_buf(), reason });
        }
        Ok(run)
    }

    /// The folder of a run that another worker has made.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: everything needed to repeat the run.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `run.json`: where and with which versions it ran, and how it ended.
    pub fn info_file(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// `metrics.jsonl`: a [`StepMetrics`] a line.
    pub fn metrics_file(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Reads the run's configuration back.
    ///
    /// # Errors
    /// [`TrainError::Corrupt`] where it is no TOML; whatever [`Resolved::load`] says.
    pub fn config(&self, registry: &Registry) -> Result<Resolved> {
        let file = self.config_file();
        let text = fs::read_to_string(&file).map_err(TrainError::io("read", &file))?;
        let table = parse_toml(&file, &text)?;
        Resolved::load(table, registry)
    }

    /// Appends one line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn append_metrics(&self, metrics: &StepMetrics) -> Result<()> {
        let file = self.metrics_file();
        let mut line = serde_json::to_string(metrics)
            .map_err(|e| TrainError::Corrupt { path: file.clone(), reason: e.to_string() })?;
        line.push('\n');
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .and_then(|mut f| f.write_all(line.as_bytes()))
            .map_err(TrainError::io("write", &file))
    }

    /// Lines of `metrics.jsonl` that can be read; a crash can leave half a line at the end.
    pub fn metrics(&self) -> Vec<StepMetrics> {
        let text = fs::read_to_string(self.metrics_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last line of `metrics.jsonl`.
    pub fn last_metrics(&self) -> Option<StepMetrics> {
        self.metrics().pop()
    }

    /// Keeps the lines of `metrics.jsonl` up to `step`.
    ///
    /// # Errors
    /// [`TrainError::Io`]; the file is as it was then.
    pub(crate) fn truncate_metrics(&self, step: u64) -> Result<()> {
        let file = self.metrics_file();
        let mut text = String::new();
        for metrics in self.metrics().iter().filter(|m| m.step <= step) {
            text += &serde_json::to_string(metrics)
                .map_err(|e| TrainError::Corrupt { path: file.clone(), reason: e.to_string() })?;
            text.push('\n');
        }
        write_atomically(&file, text.as_bytes())
    }

    /// Replaces `run.json`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn write_info(&self, info: &serde_json::Value) -> Result<()> {
        write_atomically(&self.info_file(), format!("{info:#}\n").as_bytes())
    }

    /// Reads `run.json`; an empty object where there is none.
    pub fn info(&self) -> serde_json::Value {
        fs::read_to_string(self.info_file())
            .ok()
            .and_then(|t| serde_json::from_str(&t).ok())
            .unwrap_or_else(|| serde_json::json!({}))
    }
}

/// Parses a configuration file, with its place in the message.
///
/// # Errors
/// [`TrainError::Corrupt`].
///
/// ```
/// use lejepa_train::rundir::parse_toml;
///
/// let table = parse_toml("mine.toml".as_ref(), "[train]\nsteps = 5")?;
/// assert_eq!(table["train"]["steps"].as_integer(), Some(5));
/// let error = parse_toml("mine.toml".as_ref(), "steps = = 5").unwrap_err().to_string();
/// assert!(error.contains("mine.toml"));
/// # Ok::<(), lejepa_train::TrainError>(())
/// ```
pub fn parse_toml(file: &Path, text: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map_or(0, |s| text[..s.start.min(text.len())].lines().count().max(1));
        TrainError::Corrupt {
            path: file.to_path_buf(),
            reason: format!("line {line}: {}", e.message().replace('\n', " ")),
        }
    })
}

/// Writes a file so that a crash at any moment leaves either the old content or the new.
///
/// # Errors
/// [`TrainError::Io`]; the old content is intact then.
pub(crate) fn write_atomically(file: &Path, content: &[u8]) -> Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = file.with_file_name(name);
    write_synced(&temporary, content)?;
    fs::rename(&temporary, file).map_err(TrainError::io("write", file))?;
    // The parent of a bare file name is the empty path.
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(file: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut f = File::create(file)?;
        f.write_all(content)?;
        f.sync_all()
    };
    write().map_err(|e| {
        // A half-written temporary file only takes the space that is short.
        let _ = fs::remove_file(file);
        TrainError::io("write", file)(e)
    })
}

/// Makes renames in a folder durable. Only Unix lets folders be synced.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(TrainError::io("write", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_never_overwritten() {
        let d = tempfile::tempdir().unwrap();
        let run = RunDir::create(&d.path().join("a")).unwrap();
        assert!(matches!(RunDir::create(run.path()), Err(TrainError::OutputExists(_))));
        let first = RunDir::create_numbered(d.path(), "x").unwrap();
        let second = RunDir::create_numbered(d.path(), "x").unwrap();
        assert!(first.path().ends_with("x-001") && second.path().ends_with("x-002"));
        assert!(matches!(RunDir::open(d.path()), Err(TrainError::NotARun { .. })));
    }

    #[test]
    fn overwriting_removes_a_run_and_nothing_else() {
        let d = tempfile::tempdir().unwrap();
        let root = d.path().join("a");
        let run = RunDir::create(&root).unwrap();
        fs::write(run.config_file(), "x").unwrap();
        fs::write(run.metrics_file(), "x").unwrap();
        fs::write(root.join("notes.txt"), "mine").unwrap();
        let lock = run.lock().unwrap();
        assert!(matches!(RunDir::overwrite(&root), Err(TrainError::Locked { .. })));
        drop(lock);
        let run = RunDir::overwrite(&root).unwrap();
        assert!(!run.config_file().exists() && !run.metrics_file().exists());
        assert_eq!(fs::read_to_string(root.join("notes.txt")).unwrap(), "mine");
        let other = d.path().join("b");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("notes.txt"), "mine").unwrap();
        assert!(matches!(RunDir::overwrite(&other), Err(TrainError::OutputExists(_))));
    }

    #[test]
    fn a_run_is_claimed_by_one_at_a_time() {
        let d = tempfile::tempdir().unwrap();
        let run = RunDir::create(&d.path().join("a")).unwrap();
        let lock = run.lock().unwrap();
        let error = run.lock().unwrap_err();
        let process = format!("(process {})", std::process::id());
        assert!(error.to_string().contains(&process), "{error}");
        drop(lock);
        run.lock().unwrap();
    }

    #[test]
    fn atomic_writes_leave_no_rubbish() {
        let d = tempfile::tempdir().unwrap();
        let f = d.path().join("f");
        write_atomically(&f, b"one").unwrap();
        write_atomically(&f, b"two").unwrap();
        assert_eq!(fs::read(&f).unwrap(), b"two");
        assert_eq!(fs::read_dir(d.path()).unwrap().count(), 1);
        assert!(write_atomically(&d.path().join("no/f"), b"x").is_err());
    }

    #[test]
    fn toml_errors_name_the_line() {
        let e = parse_toml(Path::new("c.toml"), "a = 1\nb = = 2\n").unwrap_err().to_string();
        assert!(e.contains("line 2"), "{e}");
    }
}
