//! A run on the console: a bar on a terminal, plain lines elsewhere. Everything goes to stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lejepa_train::{Event, Observer, StepMetrics};

use crate::error::with_flags;
use crate::output::errln;

/// Prints the events of a run.
pub(crate) struct Console {
    quiet: bool,
    terminal: bool,
    bar: Option<ProgressBar>,
    embedding: Option<ProgressBar>,
    first: u64,
    total: u64,
    gauge: String,
    said: Instant,
    began: Instant,
    named: usize,
}

/// Skipped samples named one by one before the rest is only counted.
const NAMED: usize = 20;

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal() && !quiet,
            bar: None,
            embedding: None,
            first: 0,
            total: 0,
            gauge: String::new(),
            said: Instant::now(),
            began: Instant::now(),
            named: 0,
        }
    }

    /// One line, above the bar where there is one.
    pub(crate) fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(|| errln!("{text}")),
            _ => errln!("{text}"),
        }
    }

    fn metrics(&mut self, m: &StepMetrics) {
        let mut text = format!(
            "loss {:.4}  prediction {:.4}  sigreg {:.3}{}  rank {:.1}",
            m.get("loss"),
            m.get("prediction"),
            m.get("sigreg"),
            self.gauge,
            m.get("effective_rank")
        );
        // What callbacks add.
        let shown = [
            "loss",
            "prediction",
            "sigreg",
            "effective_rank",
            "lr",
            "samples_per_s",
            "loader_share",
        ];
        for (name, value) in m.scalars.iter().filter(|(name, _)| !shown.contains(&name.as_str())) {
            text.push_str(&format!("  {name} {value:.3}"));
        }
        let waiting = m.get("loader_share") * 100.0;
        let speed =
            format!("{:.0} samples/s  waiting for data {waiting:.0}%", m.get("samples_per_s"));
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{text}  {speed}"));
        } else if m.step == 1
            || m.step == self.total
            || self.said.elapsed() > Duration::from_secs(5)
        {
            self.said = Instant::now();
            let done = m.step.saturating_sub(self.first).max(1);
            let left = self.began.elapsed().as_secs_f64() / done as f64
                * self.total.saturating_sub(m.step) as f64;
            self.line(&format!(
                "step {}/{}  epoch {:.1}  {text}  lr {:.2e}  {speed}  {left:.0} s left",
                m.step,
                self.total,
                m.epoch,
                m.get("lr")
            ));
        }
    }
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

impl Observer for Console {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) => self.line(text),
            Event::Warning(text) => self.line(&format!("warning: {}", with_flags(text))),
            Event::Skipped(s) => {
                self.named += 1;
                if self.named <= NAMED {
                    self.line(&format!("skipped   {}: {}", s.name, s.reason));
                } else if self.named == NAMED + 1 {
                    self.line("skipped   ... more; all are counted at the end");
                }
            }
            Event::Scan { done, total } if self.terminal => {
                let scan = self.embedding.get_or_insert_with(|| {
                    bar(total as u64, "{prefix:9} {bar:30} {pos}/{len} files  {eta} left")
                        .with_prefix("reading")
                });
                scan.set_position(done as u64);
                if done == total {
                    scan.finish_and_clear();
                    self.embedding = None;
                }
            }
            Event::Start { step, total, gauge } => {
                (self.first, self.total) = (step, total);
                // What the number lies between.
                self.gauge = format!(" ({:.2}..{:.1})", gauge.gaussian, gauge.collapsed);
                self.began = Instant::now();
                if self.terminal {
                    let b = bar(total, "{bar:20} {pos}/{len}  {msg}  {eta} left");
                    b.set_position(step);
                    b.enable_steady_tick(Duration::from_millis(500));
                    self.bar = Some(b);
                }
            }
            Event::Step(step) => {
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                }
            }
            Event::Metrics(m) => self.metrics(m),
            Event::End => {
                if let Some(bar) = self.bar.take() {
                    bar.finish();
                }
            }
            Event::Embedding { done, total } if self.terminal => {
                let b = self.embedding.get_or_insert_with(|| {
                    bar(total as u64, "{prefix:9} {bar:30} {pos}/{len} samples")
                        .with_prefix("embedding")
                });
                b.set_position(done as u64);
                if done == total {
                    b.finish_and_clear();
                    self.embedding = None;
                }
            }
            _ => {}
        }
    }
}
