//! Images for LeJEPA
