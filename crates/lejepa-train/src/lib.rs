//! The LeJEPA trainer: data, step, run folder, probes
