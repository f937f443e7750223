//! A configuration that fits the data.

use std::path::Path;

use lejepa_core::{
    AUTO, Advice, Choice, DEMO, NONE, Registry, Source, SurveyContext, Table, Value, kind,
};

use crate::Result;
use crate::dotted::{at, section};
use crate::foreign;
use crate::resolved::{Request, Resolved};

/// A configuration with the data that it was made for.
#[non_exhaustive]
pub struct Fitted {
    /// The configuration.
    pub resolved: Resolved,
    /// The data, found but not opened: [`Resolved::open`] takes it.
    pub source: Source,
    /// What was chosen by the data, without the keys that the request sets itself.
    pub choices: Vec<Choice>,
}

impl Request {
    /// [`Request::resolve`], with the settings that a look at the data suggests laid between the modality's
    /// recipe and the request's own. The built-in data have a recipe and are not looked at, unless a preset is
    /// named; nor are any data with `preset = "none"`. With `train.init` a run, views and model are those of that
    /// run instead, so that its weights fit; with published weights of others, the encoder is theirs.
    ///
    /// `is_gpu` tells whether a graphics card will train. It is asked only once the data is found, so that no
    /// driver starts for a wrong path.
    ///
    /// # Errors
    /// As [`Request::resolve`], and whatever is wrong with the source.
    ///
    /// ```
    /// # use lejepa_image as _;
    /// use lejepa_core::Registry;
    /// use lejepa_train::Request;
    ///
    /// let folder = tempfile::tempdir()?;
    /// for i in 0..40u8 {
    ///     let grey = image::GrayImage::from_fn(20, 20, |x, y| image::Luma([i * 6 ^ (x * y) as u8]));
    ///     grey.save(folder.path().join(format!("{i}.png")))?;
    /// }
    /// let assignments = vec![format!("data.source={}", folder.path().display())];
    /// let request = Request { assignments, ..Request::default() };
    /// let fitted = request.fit(&Registry::discover()?, || false)?;
    /// // Small grey pictures: small views of one channel.
    /// assert_eq!(fitted.resolved.spec().shape(), [1, 20, 20]);
    /// assert!(fitted.choices.iter().any(|choice| choice.reason.contains("grey")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fit(&self, registry: &Registry, is_gpu: impl FnOnce() -> bool) -> Result<Fitted> {
        let resolved = self.preliminary(registry)?;
        let source = resolved.source()?;
        let settings = resolved.settings();
        let preset = settings.preset.as_str();
        let init = settings.train.init.as_str();
        let published = foreign::settings_of(Path::new(init), registry)?
            .map(|encoder| self.around(encoder, registry, &resolved));
        if preset == NONE || preset == AUTO && settings.data.source == DEMO {
            let mut request = self.clone();
            of_published(published, &mut request.advice);
            return Ok(Fitted {
                resolved: request.resolve(registry)?,
                source,
                choices: Vec::new(),
            });
        }
        if !init.is_empty() && published.is_none() {
            let request = Self { advice: of_weights(init, &resolved), ..self.clone() };
            return Ok(Fitted {
                resolved: request.resolve(registry)?,
                source,
                choices: Vec::new(),
            });
        }
        let is_gpu = is_gpu();
        let context =
            SurveyContext::new(preset).on_gpu(is_gpu).multiple_of(patch(published.as_ref()));
        let mut request = self.clone();
        request.advice = resolved.advise(source.clone(), context)?;
        of_published(published, &mut request.advice);
        self.keep_encoder(registry, &resolved, &mut request.advice);
        let suggested = request.resolve(registry)?;
        general(&suggested, is_gpu, &mut request.advice);
        let resolved = request.resolve(registry)?;
        let mut advice = request.advice;
        // A value that the user gave, or the component it belongs to, is theirs.
        advice.retain(|key| !self.sets(key));
        let holds = |choice: &&Choice| at(resolved.table(), &choice.key) == Some(&choice.value);
        let choices = advice.choices().iter().filter(holds).cloned().collect();
        Ok(Fitted { resolved, source, choices })
    }

    /// The configuration before the data is looked at: without the keys of the encoder where a look will choose
    /// it, since they may be those of another.
    ///
    /// # Errors
    /// As [`Request::resolve`].
    pub fn preliminary(&self, registry: &Registry) -> Result<Resolved> {
        let is_looked_at = self.choice("data.source", DEMO)? != DEMO;
        if !is_looked_at || self.sets("encoder.name") || self.choice("preset", AUTO)? == NONE {
            return self.resolve(registry);
        }
        let mut request = self.clone();
        request.assignments.retain(|words| !words.trim_start().starts_with("encoder."));
        if let Some(file) = &mut request.file {
            file.remove("encoder");
        }
        request.resolve(registry)
    }

    /// Published settings, or those of the encoder that the request names where it can contain that one.
    fn around(&self, encoder: Table, registry: &Registry, resolved: &Resolved) -> Table {
        if !self.sets("encoder.name") {
            return encoder;
        }
        let modality = Some(resolved.modality().name());
        let around = resolved.encoder_names().into_iter().find_map(|name| {
            let outer = registry.find::<kind::Encoder>(name, modality).ok()?;
            (outer.build().around)(&encoder)
        });
        around.unwrap_or(encoder)
    }

    /// Drops an encoder that was chosen by the data where the request sets a key that it does not have.
    fn keep_encoder(&self, registry: &Registry, resolved: &Resolved, advice: &mut Advice) {
        let Some(name) = advice.get("encoder.name").and_then(Value::as_str) else { return };
        let modality = Some(resolved.modality().name());
        let known =
            registry.find::<kind::Encoder>(name, modality).and_then(|e| e.meta().defaults());
        let is_known = |key: &str| known.as_ref().is_ok_and(|keys| keys.contains_key(key));
        let assigned = self.assignments.iter().filter_map(|words| {
            words.split_once('=')?.0.trim().strip_prefix("encoder.").map(str::to_string)
        });
        let in_file = self.file.iter().flat_map(|file| section(file, "encoder").into_iter());
        let mut own = assigned.chain(in_file.map(|(key, _)| key));
        if own.any(|key| key != "name" && !is_known(&key)) {
            advice.retain(|key| !key.starts_with("encoder."));
        }
    }

    /// Whether the file or an assignment sets a key.
    pub(crate) fn sets(&self, key: &str) -> bool {
        let assigned = |words: &String| words.split_once('=').is_some_and(|(k, _)| k.trim() == key);
        self.assignments.iter().any(assigned)
            || self.file.as_ref().is_some_and(|file| at(file, key).is_some())
    }
}

/// The size of the patches of published weights.
fn patch(encoder: Option<&Table>) -> Option<usize> {
    let sizes = encoder?.get("patch")?.as_array()?;
    sizes.iter().filter_map(|size| usize::try_from(size.as_integer()?).ok()).max()
}

/// The encoder that published weights need.
fn of_published(encoder: Option<Table>, advice: &mut Advice) {
    let Some(encoder) = encoder else { return };
    advice.retain(|key| !key.starts_with("encoder."));
    for (key, value) in encoder {
        advice.set(&format!("encoder.{key}"), value, "as the weights need it");
    }
    advice.set("train.lr", 2e-4, "the weights are trained already");
}

/// Views and model of the run that weights come from, which they fit; nothing for a file of weights.
fn of_weights(init: &str, resolved: &Resolved) -> Advice {
    let mut advice = Advice::default();
    // A run folder, or a checkpoint in its folder `checkpoints`.
    let above = Path::new(init).ancestors().take(3);
    let file = above.map(|dir| dir.join("config.toml")).find(|file| file.is_file());
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    let Some(table) = text.and_then(|text| text.parse::<Table>().ok()) else { return advice };
    for name in [resolved.modality().name(), "views", "encoder", "projector", "prediction"] {
        flatten(name, &section(&table, name), &mut advice);
    }
    advice
}

fn flatten(prefix: &str, table: &Table, advice: &mut Advice) {
    for (key, value) in table {
        let dotted = format!("{prefix}.{key}");
        match value {
            Value::Table(inner) => flatten(&dotted, inner, advice),
            value => advice.set(&dotted, value.clone(), "as in the run that the weights come from"),
        }
    }
}

/// What follows from the number of samples, the number of views and the encoder, whatever the modality.
fn general(resolved: &Resolved, is_gpu: bool, advice: &mut Advice) {
    if resolved.settings().data.source == DEMO {
        return;
    }
    let samples = advice.samples();
    // On a CPU time is short, and twice the steps are worth more than twice the batch.
    let most = if is_gpu { 128 } else { 64 };
    let batch = (samples / 8).clamp(32, most) / 8 * 8;
    if advice.get("train.batch").is_none() {
        let reason = match is_gpu {
            true => format!("{samples} samples"),
            false => {
                format!("{samples} samples; on a CPU more steps help more than a larger batch")
            }
        };
        advice.set("train.batch", batch as i64, reason);
    }
    // A recipe that says the steps knows them better.
    if resolved.settings().train.steps == 0 {
        let passes = match samples {
            0..2_000 => 200.0,
            2_000..20_000 => 60.0,
            20_000..100_000 => 30.0,
            _ => 10.0,
        };
        let reason = format!("{samples} samples; four times as many still help, see --minutes");
        advice.set("train.epochs", passes, reason);
    }
    if resolved.encoder_names().contains(&"convnet") && advice.get("train.lr").is_none() {
        // docs/results/recipes.md has the runs.
        advice.set("train.lr", 2e-3, "in short runs a convnet takes twice the default");
    }
    if advice.get("objective.lambda").is_none() {
        let views = resolved.spec().views();
        let reason =
            format!("{views} views; less leaves embeddings far from Gaussian in short runs");
        advice.set("objective.lambda", 0.05, reason);
    }
}
