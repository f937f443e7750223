//! Audio for LeJEPA
