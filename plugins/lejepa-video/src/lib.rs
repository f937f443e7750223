//! Video for LeJEPA
