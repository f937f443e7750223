//! Backbones and the projector for LeJEPA
