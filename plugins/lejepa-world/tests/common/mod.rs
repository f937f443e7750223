//! The modality as a registry has it.

use std::path::Path;

use lejepa_core::{
    Component, OpenOptions, Pipeline, Registry, Result, Source, Table, ViewSource, kind,
};
use lejepa_world::WorldModality;

/// The pipeline with these keys of `[world]`, and where its data is.
pub(crate) fn prepare(path: &Path, settings: &str) -> Result<(Box<dyn Pipeline>, Source)> {
    let registry = Registry::empty().with::<kind::Modality, WorldModality>(lejepa_core::origin!());
    let registry = registry?;
    let entry = registry.find::<kind::Modality>(WorldModality::NAME, None)?;
    let mut section = entry.meta().defaults()?;
    section.extend(settings.parse::<Table>().unwrap());
    let views = registry.find::<kind::Views>("default", Some(WorldModality::NAME))?;
    let pipeline = (views.build().build)(&section, &Table::new())?;
    let source = Source::resolve(path.to_str().unwrap(), (entry.build().rule)())?;
    Ok((pipeline, source))
}

pub(crate) fn open(path: &Path, settings: &str) -> Result<Box<dyn ViewSource>> {
    let (pipeline, source) = prepare(path, settings)?;
    pipeline.open(source, &OpenOptions::default())
}
